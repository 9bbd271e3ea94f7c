"""Small data with two modalities, and mosaics of them."""

import warnings

import mudata
import numpy as np
import pandas as pd
from anndata import AnnData

from pyro_mgvi import MGVI, NB, ZINB, modality, private, shared

LATENTS = (shared(3), private(2), modality("rna", 2), modality("prot", 2))
LIKELIHOODS = {"rna": ZINB, "prot": NB}


def mudata_of(parts):
    """Return a MuData without what mudata warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mudata.MuData(parts)


def small(seed=0, n=40, n_genes=12, n_proteins=6, groups=2):
    """Return cells with both modalities; the group is a column of each modality."""
    rng = np.random.default_rng(seed)
    obs = pd.DataFrame(
        {"donor": [f"d{i % groups}" for i in range(n)], "kind": rng.choice(["a", "b"], n)},
        index=[f"cell{i}" for i in range(n)],
    )
    parts = {}
    for name, size, mean in (("rna", n_genes, 3.0), ("prot", n_proteins, 20.0)):
        x = rng.poisson(mean * rng.lognormal(0, 0.5, size), (n, size)) + (np.arange(size) == 0)
        var = pd.DataFrame(index=[f"{name}{g}" for g in range(size)])
        parts[name] = AnnData(x.astype(np.float32), obs=obs.copy(), var=var)
    return mudata_of(parts)


def mosaic(seed=0, **lacking):
    """Return cells of three donors; ``prot="d0"`` takes the proteins of a donor away."""
    mdata = small(seed, n=60, groups=3)
    parts = {}
    for name, part in mdata.mod.items():
        keep = part.obs["donor"] != lacking.get(name, "")
        parts[name] = part[keep].copy()
    return mudata_of(parts)


def model(mdata, **settings):
    """Return a small model of both modalities."""
    settings = {"latents": LATENTS, **settings}
    return MGVI.from_mudata(mdata, "donor", LIKELIHOODS, **settings)


def fitted_mosaic(max_epochs):
    """Return a mosaic whose first donor has no proteins, and its model; latents are written."""
    mdata = mosaic(prot="d0")
    mgvi = model(mdata)
    mgvi.fit(mdata, max_epochs=max_epochs, progress=False)
    mgvi.write_latents(mdata)
    return mdata, mgvi


def random_mosaic(rng, n=30, groups=3, sizes=None):
    """Return a mosaic of three modalities, and which group has which feature, by modality.

    Each cell has one modality or more; some groups lack a modality, and some features are absent
    from some groups, as columns of ``var`` say. RNA connects all groups.
    """
    sizes = sizes or {"rna": 10, "prot": 6, "atac": 8}
    group_n = np.arange(n) % groups
    names = np.array([f"cell{i}" for i in range(n)])
    parts, masks = {}, {}
    for kind, size in sizes.items():
        x = rng.poisson(4.0, (n, size)) + 1  # whoever has a modality has a count in it
        has_b = np.ones(groups, bool)
        if kind != "rna":
            has_b[rng.integers(groups)] = rng.random() < 0.3
        has_n = (rng.random(n) < 0.7) & has_b[group_n]
        has_n[:groups] = has_b  # of each group, the first cell has what the group has
        if kind == "rna":
            has_n |= rng.random(n) < 0.5
            missing = ~has_n
        else:
            missing &= ~has_n
        has_bg = rng.random((groups, size)) < 0.8
        has_bg[:, :2] = True
        has_bg[rng.integers(groups, size=size), np.arange(size)] = True
        if not has_b.all():  # a feature is in a group that has the modality
            has_bg[np.flatnonzero(has_b)[0]] = True
        masks[kind] = has_bg
        parts[kind] = (x, has_n)
    x, has_n = parts["rna"]
    parts["rna"] = x, has_n | missing
    made = {}
    for kind, (x, has_n) in parts.items():
        var = pd.DataFrame(index=[f"{kind}{g}" for g in range(sizes[kind])])
        for b in range(groups):
            var[f"in_d{b}"] = masks[kind][b]
        obs = pd.DataFrame({"donor": [f"d{b}" for b in group_n[has_n]]}, index=names[has_n])
        kept = np.where(masks[kind][group_n[has_n]], x[has_n], 0)
        made[kind] = AnnData(kept.astype(np.float32), obs=obs, var=var)
    return mudata_of(made)
