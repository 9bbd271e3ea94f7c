"""Whether most counts are zero, so that sparse products are the faster ones."""

from __future__ import annotations

import numpy as np
import torch

from pyro_mgvi.core.modalities import Modalities
from pyro_mgvi.data.stores.in_memory import Counts
from pyro_mgvi.data.stores.on_disk import OnDisk
from pyro_mgvi.kernels.sparse import DENSITY, is_sparse

SOME = 1000  # cells that tell how many counts of a modality are zero


def mostly_zero(x: Counts | OnDisk, several: Modalities | None = None) -> bool:
    """Return whether sparse products beat dense ones on these counts.

    Of several modalities, each is looked at by itself, in some cells: hardly a protein is zero, and
    genes beside them are as sparse as without. The kind that has more features decides.
    """
    if isinstance(x, OnDisk):
        return x.indptr is not None and bool(x.per_cell < DENSITY * x.shape[1])
    if not is_sparse(x):
        return False
    if several is None:
        return bool(x.nnz < DENSITY * np.prod(x.shape))
    some = x[:: max(1, x.shape[0] // SOME)]
    counts_k = several.totals(torch.from_numpy(some.getnnz(axis=0))).numpy()
    size_k = np.array(several.sizes)
    zero_k = counts_k < DENSITY * some.shape[0] * size_k
    return bool(size_k[zero_k].sum() > size_k[~zero_k].sum())
