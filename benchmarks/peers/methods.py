"""Each method as its authors recommend it: from cells with groups to a shared latent and its own.

Every function takes counts in ``X`` and ``obs["group"]``, and returns a latent that all groups
share and, where the method has some, latents of single groups (their own cells' rows; NaN
elsewhere). What is not installed raises ImportError, which the table says.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData

from pyro_mgvi import MGVI, PAPER, GroupedCounts
from pyro_mgvi.analysis.metrics import log_shares
from pyro_mgvi.baselines import method


class Found(NamedTuple):
    """A shared latent (cells x dims), and those of single groups by name."""

    z: np.ndarray
    t: dict[str, np.ndarray]


Peer = Callable[[AnnData, int], Found]
DIMS = 20  # of principal components, as many as ours has of shared and private together


def _ours(adata: AnnData, seed: int) -> Found:
    mgvi = MGVI.from_anndata(adata, "group", seed=seed)
    mgvi.fit(adata, progress=False)
    return _of_latents(mgvi, adata)


def _paper(adata: AnnData, seed: int) -> Found:
    mgvi = MGVI.from_anndata(adata, "group", seed=seed, **PAPER.settings)
    mgvi.fit(adata, PAPER.plan, max_epochs=60, progress=False)
    return _of_latents(mgvi, adata)


def _of_latents(mgvi: MGVI, adata: AnnData) -> Found:
    latents = {name: table.to_numpy() for name, table in mgvi.latents(adata).items()}
    return Found(latents["z"], {g: latents[f"t_{g}"] for g in mgvi.schema.groups})


def _baseline(name: str) -> Peer:
    def fit(adata: AnnData, seed: int) -> Found:
        found = method(name).fit(GroupedCounts.from_anndata(adata, "group"), seed=seed)
        return Found(found["z"], dict(found["t"]))

    return fit


def components(adata: AnnData) -> np.ndarray:
    """Return principal components of the log shares, which know nothing of groups."""
    from sklearn.decomposition import PCA

    return PCA(DIMS, random_state=0).fit_transform(log_shares(adata.X))


def _pca(adata: AnnData, seed: int) -> Found:
    return Found(components(adata), {})


def _harmony(adata: AnnData, seed: int) -> Found:
    import harmonypy

    run = harmonypy.run_harmony(components(adata), adata.obs, "group", random_state=seed)
    z = np.asarray(run.Z_corr)
    return Found(z if len(z) == len(adata) else z.T, {})  # the releases differ


def _scvi_settings(seed: int) -> dict[str, object]:
    import scvi

    scvi.settings.seed, scvi.settings.verbosity = seed, 40
    scvi.settings.progress_bar_style = "tqdm"
    return {"accelerator": "cpu", "enable_progress_bar": False}


def _scvi(adata: AnnData, seed: int) -> Found:
    import scvi

    settings = _scvi_settings(seed)
    scvi.model.SCVI.setup_anndata(adata, batch_key="group")
    model = scvi.model.SCVI(adata)
    model.train(early_stopping=True, **settings)
    return Found(model.get_latent_representation(), {})


def _contrastive(adata: AnnData, seed: int) -> Found:
    import scvi

    settings = _scvi_settings(seed)
    scvi.external.ContrastiveVI.setup_anndata(adata)
    model = scvi.external.ContrastiveVI(adata)
    background, *targets = sorted(adata.obs["group"].unique())
    is_background = (adata.obs["group"] == background).to_numpy()
    target = np.flatnonzero(~is_background).tolist()
    model.train(np.flatnonzero(is_background).tolist(), target, early_stopping=True, **settings)
    z = model.get_latent_representation(representation_kind="background")
    salient = model.get_latent_representation(representation_kind="salient")
    group = adata.obs["group"].to_numpy()
    return Found(z, {g: np.where((group == g)[:, None], salient, np.nan) for g in targets})


def _mrvi(adata: AnnData, seed: int) -> Found:
    import scvi

    settings = _scvi_settings(seed)
    scvi.external.MRVI.setup_anndata(adata, sample_key="group", backend="torch")
    model = scvi.external.MRVI(adata)
    model.train(early_stopping=True, **settings)
    return Found(np.asarray(model.get_latent_representation(give_z=False)), {})


def _sysvi(adata: AnnData, seed: int) -> Found:
    import scvi

    settings = _scvi_settings(seed)
    logged = adata.copy()
    logged.X = log_shares(adata.X).astype(np.float32)
    scvi.external.SysVI.setup_anndata(logged, batch_key="group")
    model = scvi.external.SysVI(logged)
    weights = {"kl_weight": 1.0, "z_distance_cycle_weight": 5.0}
    model.train(plan_kwargs=weights, early_stopping=True, max_epochs=200, **settings)
    return Found(model.get_latent_representation(logged), {})


def _drvi(adata: AnnData, seed: int) -> Found:
    from drvi.model import DRVI

    settings = _scvi_settings(seed)
    DRVI.setup_anndata(adata, batch_key="group", is_count_data=True)
    model = DRVI(
        adata, n_latent=32, encoder_dims=[128, 128], decoder_dims=[128, 128],
    )  # fmt: skip
    model.train(early_stopping=True, max_epochs=400, **settings)
    return Found(model.get_latent_representation(), {})


def _lemur(adata: AnnData, seed: int) -> Found:
    import pylemur

    np.random.seed(seed)  # noqa: NPY002 -- it has no seed of its own
    logged = adata.copy()
    logged.X = log_shares(adata.X)
    model = pylemur.tl.LEMUR(logged, design="~ group", n_embedding=15)
    model.fit(verbose=False)
    model.align_with_harmony(verbose=False)
    return Found(np.asarray(model.embedding), {})


def _mofa_flex(adata: AnnData, seed: int) -> Found:
    import mofaflex

    logged = adata.copy()
    logged.X = log_shares(adata.X).astype(np.float32)
    groups = logged.obs["group"].unique()
    data = {name: {"rna": logged[logged.obs["group"] == name].copy()} for name in groups}
    with tempfile.TemporaryDirectory() as folder:  # it saves what it has trained
        model = mofaflex.MOFAFLEX(
            data,
            mofaflex.DataOptions(plot_data_overview=False),
            mofaflex.ModelOptions(n_factors=DIMS, init_factors="pca", likelihoods="Normal"),
            mofaflex.TrainingOptions(
                device="cpu", seed=seed, lr=0.01, save_path=Path(folder, "model.h5")
            ),
        )
    factors = pd.concat(model.get_factors().values()).loc[adata.obs_names]
    return Found(factors.to_numpy(), {})


METHODS: dict[str, Peer] = {
    "MGVI": _ours,
    "paper's preset": _paper,
    "PCA": _pca,
    "Harmony": _harmony,
    "scVI": _scvi,
    "ContrastiveVI": _contrastive,
    "MrVI": _mrvi,
    "sysVI": _sysvi,
    "DRVI": _drvi,
    "LEMUR": _lemur,
    "MOFA-FLEX": _mofa_flex,
    "GMDF": _baseline("GMDF 10+10"),
    "iNMF": _baseline("iNMF"),
    "MGFA": _baseline("MGFA"),
}
