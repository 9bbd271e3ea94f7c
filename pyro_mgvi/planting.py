"""Starting idle dimensions of a model at directions that it has not got."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.directions import find_directions
from pyro_mgvi.relevance import dimension_kl

IDLE = 0.5  # nats: a dimension that says less about a cell may be started anew
CELLS = 2000  # from which an encoder's start is computed


def plant_directions(
    model,
    guide,
    data: GroupedCounts,
    copies: Mapping[str, Tensor] | None = None,
    seed: int = 0,
) -> int:
    """Find what the model has not got, and start idle dimensions there.

    Parameters
    ----------
    model, guide, data, copies, seed
        As for :func:`~pyro_mgvi.directions.find_directions`.

    Returns
    -------
    How many dimensions were started. None with a decoder or an encoder without ``plant``.

    Examples
    --------
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.simulate import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=400, n_shared_genes=60, n_program_genes=60)
    >>> mgvi = MGVI.from_anndata(adata, group_key="group")
    >>> plant_directions(mgvi.model, mgvi.guide, mgvi.read(adata)) > 0
    True
    """
    if not (hasattr(model.decoder, "plant") and hasattr(guide.encoder, "plant")):
        return 0
    found = find_directions(model, guide, data, copies, seed)
    information = dimension_kl(guide, data) if found else {}
    n_planted = 0
    for (name, copy), directions in found.items():
        kl_d = information[name][copy]
        for dim, direction in zip(np.argsort(kl_d, kind="stable"), directions):
            if kl_d[dim] > IDLE or not model.decoder.plant(name, copy, dim, direction.loading_g):
                break
            chosen = np.random.default_rng(seed).permutation(len(direction.cells))[:CELLS]
            counts = data.rows(direction.cells[chosen]).counts.to(guide.depth.device)
            x_ng = guide.inputs(counts)
            score_n = direction.score_n[chosen].to(x_ng)
            genes = direction.loading_g.nonzero()[:, 0].to(x_ng.device)
            guide.encoder.plant(name, copy, int(dim), x_ng, score_n, genes)
            n_planted += 1
    return n_planted
