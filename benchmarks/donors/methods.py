"""What is compared: models and peers, each as a p-value per gene."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from importlib.util import find_spec

import anndata as ad
import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu
from scipy.stats import t as student

from pyro_mgvi import MGVI, DataWarning, cross_fit
from pyro_mgvi.analysis.efficient_scores import p_values
from pyro_mgvi.analysis.metrics import log_shares
from pyro_mgvi.analysis.sample_tests import squeezed

#: Settings of the models, beside the column of donors.
MODELS = {
    "rank_genes": None,  # knows no donors
    "rank_genes, no effects": {"sample_effects": False},
    "rank_genes, sample_key": {},
}
HAS_DESEQ = find_spec("pydeseq2") is not None


def wilcoxon(adata: ad.AnnData, group: str) -> np.ndarray:
    """Return p-values of a rank sum test of cells."""
    y, own = log_shares(adata.X), (adata.obs["group"] == group).to_numpy()
    return mannwhitneyu(y[own], y[~own]).pvalue


def sums_of_donors(adata: ad.AnnData, sample: str) -> tuple[np.ndarray, pd.DataFrame]:
    """Return sums of counts (donors x genes), and the donor and group of each."""
    obs = adata.obs[[sample, "group"]].astype(str)
    units = obs.drop_duplicates().reset_index(drop=True)
    sums = np.array(
        [
            np.asarray(adata.X[(obs == unit).all(axis=1).to_numpy()].sum(0, dtype=float)).ravel()
            for _, unit in units.iterrows()
        ]
    )
    return sums, units


def pseudobulk(adata: ad.AnnData, group: str, sample: str) -> np.ndarray:
    """Return p-values of a moderated t test of the log shares of each donor's sums (limma).

    Paired where donors are crossed with groups.
    """
    sums, units = sums_of_donors(adata, sample)
    y_ug = np.log2((sums + 0.5) / (sums.sum(1, keepdims=True) + 1) * 1e6)
    own = (units["group"] == group).to_numpy(float)
    paired = units[sample].duplicated().any()
    blocks = pd.get_dummies(units[sample]).to_numpy(float) if paired else np.ones((len(own), 1))
    x_uk = np.column_stack([blocks, own])
    df = len(x_uk) - np.linalg.matrix_rank(x_uk)
    if df < 1:
        return np.full(adata.n_vars, np.nan)
    found, *_ = np.linalg.lstsq(x_uk, y_ug, rcond=None)
    variance_g, prior = squeezed(((y_ug - x_uk @ found) ** 2).sum(0) / df, df, tails=())
    unscaled = np.linalg.inv(x_uk.T @ x_uk)[-1, -1]
    return 2 * student.sf(np.abs(found[-1]) / np.sqrt(variance_g * unscaled), min(df + prior, 1e9))


def deseq(adata: ad.AnnData, group: str, sample: str) -> np.ndarray:
    """Return p-values of DESeq2 for each donor's sums; paired where donors are crossed."""
    from pydeseq2.dds import DeseqDataSet
    from pydeseq2.ds import DeseqStats

    sums, units = sums_of_donors(adata, sample)
    names = [f"unit{i}" for i in range(len(units))]
    counts = pd.DataFrame(np.rint(sums).astype(int), names, adata.var_names)
    side = np.where(units["group"] == group, "own", "others")
    about = pd.DataFrame({"donor": units[sample].to_numpy(), "side": side}, names)
    paired = about["donor"].duplicated().any()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the package's own dependencies
        design = "~donor + side" if paired else "~side"
        found = DeseqDataSet(counts=counts, metadata=about, design=design, quiet=True, n_cpus=1)
        found.deseq2()
        tests = DeseqStats(found, contrast=["side", "own", "others"], quiet=True, n_cpus=1)
        tests.summary()
    return tests.results_df["pvalue"].loc[adata.var_names].to_numpy()


def p_values_of(
    adata: ad.AnnData,
    group: str,
    sample: str,
    epochs: int | None,
    seed: int,
    only: list[str] | None,
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield what was done, and p-values of all genes: peers, and the models asked for."""
    yield "Wilcoxon, cells", wilcoxon(adata, group)
    yield "moderated t, sums of donors", pseudobulk(adata, group, sample)
    if HAS_DESEQ:
        yield "DESeq2, sums of donors", deseq(adata, group, sample)
    for name, settings in MODELS.items():
        if only and name not in only:
            continue
        known = {} if settings is None else {"sample_key": sample, **settings}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # of too few samples: its row says so
            mgvi = MGVI.from_anndata(adata, "group", seed=seed, **known)
            mgvi.fit(adata, max_epochs=epochs, progress=False)
            refits = cross_fit(mgvi, adata, progress=False)
            for offset in ("averaged", "own"):
                found = mgvi.rank_genes(adata, group, offset=offset, calibration=refits)
                yield f"{name}, {offset}", p_values(found["z_score"].loc[adata.var_names])
