"""What each sample does to each gene: a table of the effects that a model has learnt."""

from __future__ import annotations

import pandas as pd
import torch

from pyro_mgvi.training.larger.add_samples import effects_of_samples
from pyro_mgvi.training.program import Program, check_model


@torch.no_grad()
def sample_effects(mgvi: Program) -> pd.DataFrame:
    """Return the effect of each sample on each gene, at the posterior means.

    They are shrunken: the fewer cells a sample has, and the less samples differ in a gene, the
    nearer to zero. Within a group (over all groups, where samples are in several) those of the
    samples that the model was trained on have a mean of zero: what is common to all is the group's
    offset. Those that ``add_samples`` has learnt later are differences from this offset, and not in
    the mean.

    Parameters
    ----------
    mgvi
        A trained :class:`~pyro_mgvi.MGVI` with sample effects.

    Returns
    -------
    Samples x genes, in natural log expression (values of transformed data, on their scale).

    Raises
    ------
    SettingsError
        If samples have no effects in the model.

    Examples
    --------
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.datasets import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=160, n_shared_genes=60, n_program_genes=20)
    >>> adata.obs["donor"] = [f"d{i % 8}" for i in range(160)]
    >>> keys = {"group_key": "group", "sample_key": "donor"}
    >>> mgvi = MGVI.from_anndata(adata, **keys)
    >>> _ = mgvi.fit(adata, max_epochs=2, progress=False)
    >>> mgvi.sample_effects().abs().mean(axis=1).idxmax() in set(adata.obs["donor"])
    True
    """
    check_model(mgvi)
    mgvi.warn_untrained()
    location_sg, _ = effects_of_samples(mgvi).moments()
    index = pd.Index(mgvi.schema.samples, name="sample")
    return pd.DataFrame(location_sg.cpu().numpy(), index, pd.Index(mgvi.schema.genes, name="gene"))
