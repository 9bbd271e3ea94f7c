"""Which dimensions of a model its refits find again, and where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from pyro_mgvi.analysis.diagnosis.probes import owned_cells
from pyro_mgvi.analysis.latent_values import latent_values
from pyro_mgvi.analysis.metrics import recovered
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.training.program import Program

LEAST = 10  # cells of a latent; fewer cannot be predicted


def found_again(
    mgvi: Program, data: GroupedCounts, refits: Sequence[Mapping[str, np.ndarray]]
) -> pd.DataFrame:
    """Return which share of each dimension the same latent of the refits predicts, and the shared.

    Parameters
    ----------
    mgvi
        The model.
    data
        The cells.
    refits
        Posterior means of each latent by each refit.

    Returns
    -------
    Columns ``found_again`` and ``in_shared``, means over the refits, and a row for each dimension
    in the order of the latents; NaN for those that are not in use.
    """
    own = latent_values(mgvi, data)
    shared = [copy.key for copy in mgvi.families.copies if copy.shared]
    rows = []
    for key, cells in owned_cells(mgvi, data).items():
        latent = own[key][cells]
        empty = np.full(latent.shape[1], np.nan)
        again, elsewhere = [empty], [empty]
        if cells.sum() >= LEAST:
            again = [recovered(latent, x[key][cells]) for x in refits]
            if shared:
                parts = [np.concatenate([x[name][cells] for name in shared], 1) for x in refits]
                elsewhere = [recovered(latent, part) for part in parts]
        rows.append(np.stack([np.mean(again, axis=0), np.mean(elsewhere, axis=0)], axis=1))
    return pd.DataFrame(np.concatenate(rows), columns=["found_again", "in_shared"])
