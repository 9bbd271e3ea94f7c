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
