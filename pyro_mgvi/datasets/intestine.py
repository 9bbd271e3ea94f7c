"""Public data that the paper uses."""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from pathlib import Path

import anndata as ad

from pyro_mgvi.datasets.folder import default_folder
from pyro_mgvi.datasets.umi_table import read_umi_table
from pyro_mgvi.errors import DataError, SettingsError
from pyro_mgvi.support.optional import require

HABER_FILE = "GSE92332_Regional_UMIcounts.txt.gz"
HABER_URL = f"https://ftp.ncbi.nlm.nih.gov/geo/series/GSE92nnn/GSE92332/suppl/{HABER_FILE}"
HABER_FIELDS = ("barcode", "region", "mouse", "cell_type")
HABER_SHAPE = {"cells": 11_665, "region": 3, "cell_type": 8}


def haber_intestine(path: str | Path | None = None, whole: bool = True) -> ad.AnnData:
    """Return the cells of three regions of the mouse small intestine (Haber et al. 2017).

    The text file is read once; a copy as h5ad beside it is read from then on, as long as the
    text file stays the same.

    Parameters
    ----------
    path
        ``GSE92332_Regional_UMIcounts.txt.gz``, or the folder where it is or shall be. By default
        the folder that the environment variable ``PYRO_MGVI_DATA`` names, else
        ``~/.cache/pyro_mgvi``. In a folder without it, the file is downloaded from GEO (needs
        the extra ``[tutorials]``), whole or not at all.
    whole
        False to accept a part of the file, such as a few of its cells.

    Returns
    -------
    11,665 cells x genes, UMI counts as CSR, ``obs`` with ``barcode``, ``region``, ``mouse`` and
    ``cell_type``; ``uns["source"]`` holds the file's name, address and SHA-256.

    Raises
    ------
    DataError
        If the file cannot be found or downloaded, is damaged, or does not hold 11,665 cells of
        3 regions and 8 types.
    SettingsError
        If the file must be downloaded and pooch is not installed.

    Notes
    -----
    GEO publishes no checksum of this file, and none is compared: what is checked is gzip's own
    (of every byte), that each cell name has its four parts, that all values are counts, and the
    numbers of cells, regions and types (paper, section 6). Compare ``uns["source"]["sha256"]``
    between machines.

    Examples
    --------
    >>> adata = haber_intestine()  # doctest: +SKIP
    >>> mgvi = MGVI.from_anndata(prepare(adata), group_key="region")  # doctest: +SKIP
    """
    path = default_folder() if path is None else Path(path).expanduser()
    if path.is_dir() or (not path.exists() and path.suffix not in (".gz", ".txt")):
        path = path / HABER_FILE
        if not path.is_file():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise DataError(f"folder {path.parent} cannot be made: {error}") from error
            _fetch(path)
    if not path.is_file():
        raise DataError(
            f"{path} does not exist: download {HABER_URL} and put it there, or name a folder to "
            "have it downloaded"
        )
    cache = path.with_name(path.name.removesuffix(".gz").removesuffix(".txt") + ".mgvi.h5ad")
    stamp = f"{path.stat().st_size} bytes, changed {path.stat().st_mtime_ns}"
    adata = _cached(cache, stamp)
    if adata is None:
        adata = read_umi_table(path, HABER_FIELDS)
        source = {"file": HABER_FILE, "url": HABER_URL, "sha256": _sha256(path), "stamp": stamp}
        adata.uns["source"] = source
        if whole:
            _check_whole(adata, path)
        _store(adata, cache)
    elif whole:
        _check_whole(adata, path)
    return adata


def prepare(adata: ad.AnnData, n_genes: int = 2000) -> ad.AnnData:
    """Return the cells with their most variable genes only (paper, appendix E).

    Genes are chosen by scanpy's ``seurat_v3`` on the counts, over all cells at once.

    Parameters
    ----------
    adata
        Counts in ``X``, cells x genes. Stays as it is.
    n_genes
        Genes to keep.

    Returns
    -------
    A copy, in the order of ``adata``'s genes, with scanpy's ``means``, ``variances`` and
    ``variances_norm`` in ``var``.

    Raises
    ------
    SettingsError
        If scanpy or scikit-misc is not installed, or ``n_genes`` is out of range.

    Examples
    --------
    >>> from pyro_mgvi.datasets.simulate import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=120, n_shared_genes=100, n_program_genes=20)
    >>> prepare(adata, 50).n_vars  # doctest: +SKIP
    50
    """
    if not 1 <= n_genes <= adata.n_vars:
        raise SettingsError(f"n_genes must be within 1 and {adata.n_vars}, not {n_genes}")
    scanpy = require("scanpy", "tutorials")
    require("skmisc.loess", "tutorials")  # seurat_v3 fits with it
    genes = ad.AnnData(adata.X, var=adata.var[[]])
    scanpy.pp.highly_variable_genes(genes, flavor="seurat_v3", n_top_genes=n_genes)
    chosen = genes.var["highly_variable"].to_numpy()
    out = adata[:, chosen].copy()
    for column in ("means", "variances", "variances_norm"):
        out.var[column] = genes.var[column].to_numpy()[chosen]
    return out


def _fetch(path: Path) -> None:
    """Download the file, whole or not at all."""
    other_means = f"Download {HABER_URL} by other means and put it at {path}"
    try:
        pooch = require("pooch", "tutorials")
    except SettingsError as error:
        raise SettingsError(f"{error}. {other_means}") from error
    try:
        pooch.retrieve(
            HABER_URL, known_hash=None, fname=path.name, path=path.parent, downloader=_download
        )
    except (OSError, ValueError) as error:  # those of requests are OSErrors
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path.name} could not be downloaded: {reason:.200}. {other_means}"
        ) from error


def _download(url: str, output_file: str, pooch: object) -> None:
    """Write the bytes as they are sent: some servers call a gzip file its encoding."""
    requests = require("requests", "tutorials")
    protocol_error = require("urllib3.exceptions", "tutorials").HTTPError  # no OSError
    with requests.get(url, stream=True, timeout=30) as response, open(output_file, "wb") as file:
        response.raise_for_status()
        try:
            for piece in response.raw.stream(2**16, decode_content=False):
                file.write(piece)
        except protocol_error as error:
            raise OSError(error) from error


def _check_whole(adata: ad.AnnData, path: Path) -> None:
    found = {
        "cells": adata.n_obs,
        **{key: adata.obs[key].nunique() for key in HABER_SHAPE if key != "cells"},
    }
    if found != HABER_SHAPE:
        raise DataError(
            f"{path} is not the whole {HABER_FILE}: it has {found}, expected {HABER_SHAPE}; "
            "download it again, or pass whole=False for a part of it"
        )


def _cached(cache: Path, stamp: str) -> ad.AnnData | None:
    """Return the h5ad if it was made from this very text file."""
    if not cache.is_file():
        return None
    try:
        adata = ad.read_h5ad(cache)
        return adata if adata.uns["source"]["stamp"] == stamp else None
    except (OSError, KeyError, TypeError):  # damaged, or somebody else's: made anew
        return None


def _store(adata: ad.AnnData, cache: Path) -> None:
    try:
        with tempfile.TemporaryDirectory(dir=cache.parent, prefix=".mgvi-") as folder:
            partial = Path(folder) / cache.name
            adata.write_h5ad(partial, compression="lzf")
            os.replace(partial, cache)
    except OSError as error:
        warnings.warn(f"not kept as {cache}, will be read anew: {error}", stacklevel=3)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
