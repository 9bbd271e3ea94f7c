"""Tables of UMI counts as GEO keeps them: text, genes x cells, read in pieces to sparse AnnData."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse
from tqdm.auto import tqdm

from pyro_mgvi.data.checks import some
from pyro_mgvi.errors import DataError

LARGEST = np.iinfo(np.int32).max
PIECE = 256  # genes read at a time: 24 MB where there are 12,000 cells


def read_umi_table(path: str | Path, fields: Sequence[str], piece: int = PIECE) -> ad.AnnData:
    r"""Read a tab-separated table of counts, genes x cells, whose cell names say what they are.

    At most ``piece`` genes are dense at a time.

    Parameters
    ----------
    path
        Text, plain or by gzip. The first line names the cells, with or without a field above the
        genes' column; every other line is a gene and its counts.
    fields
        What the parts of a cell's name say, such as ``("barcode", "region", "mouse",
        "cell_type")`` for ``AAACATAC_Ileum_Mouse1_Stem``. They are split at the last
        underscores, so that only the first may hold one itself.
    piece
        Genes to read at a time.

    Returns
    -------
    Cells x genes, counts as CSR of int32, the whole cell names as names (barcodes may repeat) and
    ``fields`` as columns of ``obs``: the first as text, the others as categories.

    Raises
    ------
    DataError
        If the file is cut off, damaged, no such table, or names a cell or a gene twice; if a
        cell's name has not all parts; or if a value is no count.

    Examples
    --------
    >>> import tempfile
    >>> text = "A_1_Ileum\tC_Jejunum\nLct\t0\t3\nFabp6\t2\t0\n"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "counts.txt"
    ...     _ = path.write_text(text)
    ...     adata = read_umi_table(path, ["barcode", "region"])
    >>> adata.obs["barcode"].tolist(), adata.obs["region"].tolist(), adata.X.toarray().tolist()
    (['A_1', 'C'], ['Ileum', 'Jejunum'], [[0, 2], [3, 0]])
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    try:
        cells = _cells(path)
        obs = _split(cells, fields, path)
        genes, pieces = _pieces(path, cells, piece)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is cut off or damaged ({error}): download it again") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text table: {error}") from error
    except pd.errors.ParserError as error:
        raise DataError(f"{path} is not a table: {' '.join(str(error).split())}") from error
    x_ng = sparse.vstack(pieces, format="csr").T.tocsr()
    return ad.AnnData(x_ng, obs=obs, var=pd.DataFrame(index=pd.Index(genes, name="gene")))


def _open(path: Path) -> TextIO:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rt") if zipped else path.open("rt")


def _cells(path: Path) -> list[str]:
    """Return the cells' names; the number of fields in the next line tells which layout it is."""
    with _open(path) as file:
        header, first = (
            [field.strip('"') for field in file.readline().rstrip("\r\n").split("\t")]
            for _ in range(2)
        )
    if len(first) < 2:
        raise DataError(f"{path} is not a tab-separated table of genes x cells")
    if len(first) not in (len(header), len(header) + 1):
        raise DataError(
            f"{path} is not a table: its first line names {len(header)} cells, "
            f"its second holds {len(first) - 1} counts"
        )
    return header[len(header) - len(first) + 1 :]


def _split(cells: list[str], fields: Sequence[str], path: Path) -> pd.DataFrame:
    parts = [cell.rsplit("_", len(fields) - 1) for cell in cells]
    bad = [cell for cell, part in zip(cells, parts) if len(part) < len(fields) or not all(part)]
    if bad:
        raise DataError(
            f"{len(bad)} cell name(s) in {path} are not {'_'.join(fields)}: {some(map(repr, bad))}"
        )
    obs = pd.DataFrame(parts, index=pd.Index(cells, name="cell"), columns=list(fields))
    twice = obs.index[obs.index.duplicated()].unique()
    if len(twice):
        raise DataError(f"{path} names {len(twice)} cell(s) twice: {some(twice)}")
    return obs.astype({field: "category" for field in fields[1:]})


def _pieces(path: Path, cells: list[str], piece: int) -> tuple[list[str], list[sparse.csr_matrix]]:
    genes: list[str] = []
    pieces: list[sparse.csr_matrix] = []
    with _open(path) as file, tqdm(desc=path.name, unit=" genes") as bar:
        file.readline()
        tables = pd.read_csv(
            file,
            sep="\t",
            header=None,
            index_col=0,
            keep_default_na=False,  # a gene may be called NA; an empty count is an error
            low_memory=False,
            chunksize=piece,
        )
        for table in tables:
            names = table.index.astype(str)
            pieces.append(sparse.csr_matrix(_counts(table, names, cells, path)))
            genes.extend(names)
            bar.update(len(names))
    names = pd.Index(genes)
    twice = names[names.duplicated()].unique()
    if len(twice):
        raise DataError(f"{path} has {len(twice)} gene(s) twice: {some(twice)}")
    return genes, pieces


def _counts(table: pd.DataFrame, genes: pd.Index, cells: list[str], path: Path) -> np.ndarray:
    """Return the values as int32, or name the first that is no count."""
    if table.shape[1] != len(cells):
        raise DataError(
            f"{path} has {table.shape[1]} counts for {len(cells)} cells near gene {genes[0]!r}"
        )
    values = table.to_numpy()
    if values.dtype.kind not in "iu":
        values = table.apply(pd.to_numeric, errors="coerce").to_numpy(float)
    with np.errstate(invalid="ignore"):
        bad = ~((values >= 0) & (values <= LARGEST) & (values == np.floor(values)))
    if bad.any():
        gene, cell = np.argwhere(bad)[0]
        raise DataError(
            f"{path} has {table.iat[gene, cell]!s:.40} for gene {genes[gene]!r} in cell "
            f"{cells[cell]!r}, which is no count: the file must hold raw UMI counts"
        )
    return values.astype(np.int32)
