"""Simulated cells of donors who differ, nested in two groups, with and without effects of a group.

Everything is done by thinning Splat's counts: what is left of Poisson-like counts is Poisson-like.
"""

from __future__ import annotations

import anndata as ad
import numpy as np
from scipy.sparse import csr_matrix

from pyro_mgvi.datasets import clear_recipe

CELLS, GENES = 1_000, 500
DEPTH = 0.1  # of Splat's 22,000 counts per cell
DONORS = 0.3  # size of the donors' effects, on the log scale
PLANTED = 40  # genes of each kind
LEAST_MEAN = 0.2  # counts per cell of a gene that is planted: rarer ones nobody finds
SHIFT = 0.6  # share of the counts that is left in one group
MIDDLE, SWING = 0.5, 0.4  # of the program: 0.9 and 0.1 are left in its two halves of cells
SHIFTED, VARYING, NOTHING = "shift", "program", ""


def thinned_by_donors(
    x_ng: np.ndarray, donor_n: np.ndarray, size: float, rng: np.random.Generator
) -> np.ndarray:
    """Return counts that are thinned, gene by gene, as each donor has it.

    Parameters
    ----------
    x_ng, donor_n
        Counts and the donor of each cell.
    size
        Of the log effects: normal with a scale for each gene, of which those below zero are
        applied. Scales follow ``size`` times the root of an inverse gamma variable (shape 3, mean
        1): donors differ more in some genes.
    rng
        Where effects and counts are drawn from.
    """
    names, code_n = np.unique(donor_n, return_inverse=True)
    scale_g = size * np.sqrt(2 / rng.gamma(3, 1, x_ng.shape[1]))
    effect_sg = rng.normal(size=(len(names), x_ng.shape[1])) * scale_g
    return rng.binomial(x_ng, np.exp(np.minimum(effect_sg, 0.0))[code_n])


def nested_donors(n: int, seed: int, planted: bool) -> ad.AnnData:
    """Return cells of ``n`` donors in each of two groups, "first" and "second".

    If ``planted``, 40 genes are shifted: thinned to 0.6 in one group, one half of the genes in the
    first and the other half in the second, so that depths stay alike. 40 others are a program of
    the first group: in a random half of its cells, 0.9 of the counts of half of these genes and 0.1
    of the others are left, and the other way round in the other cells; everywhere else, 0.5 of
    them. The mean of a program's gene is the same in both groups.

    Parameters
    ----------
    n
        Donors in each group.
    seed
        Of everything.
    planted
        Whether groups differ; otherwise only donors do.

    Returns
    -------
    Counts with ``group``, ``donor`` and ``celltype`` in ``obs``, and in ``var["planted"]`` what was
    done to each gene: ``"shift"``, ``"program"`` or nothing.
    """
    rng = np.random.default_rng([n, seed, planted])
    adata = clear_recipe(
        rng, n_cells=CELLS, n_shared_genes=GENES, n_program_genes=0, groups=("first", "second")
    )
    number = adata.obs.groupby("group", observed=True).cumcount() % n
    adata.obs["donor"] = [f"{group}.{i}" for group, i in zip(adata.obs["group"], number)]
    x = rng.binomial(adata.X.toarray(), DEPTH)
    x = thinned_by_donors(x, adata.obs["donor"].to_numpy(), DONORS, rng)
    kind_g = np.full(GENES, NOTHING, dtype=object)
    if planted:
        x = _with_effects(x, (adata.obs["group"] == "first").to_numpy(), kind_g, rng)
    adata.X = csr_matrix(x.astype(np.float32))
    adata.var["planted"] = kind_g
    return adata


def _with_effects(
    x: np.ndarray, first_n: np.ndarray, kind_g: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return counts with both kinds of effects, and write to ``kind_g`` which genes have which."""
    common = np.flatnonzero(x.mean(0) >= LEAST_MEAN)
    genes = rng.choice(common, 2 * PLANTED, replace=False)
    shifted, varying = genes[:PLANTED], genes[PLANTED:]
    kind_g[shifted], kind_g[varying] = SHIFTED, VARYING
    left_ng = np.ones(x.shape)
    for own_n, mine in ((first_n, shifted[::2]), (~first_n, shifted[1::2])):
        left_ng[np.ix_(own_n, mine)] = SHIFT
    half_n = np.where(rng.random(len(x)) < 0.5, 1, -1) * first_n
    sign_g = np.where(np.arange(PLANTED) % 2, 1, -1)
    left_ng[:, varying] = MIDDLE + SWING * np.outer(half_n, sign_g)
    return rng.binomial(x, left_ng)
