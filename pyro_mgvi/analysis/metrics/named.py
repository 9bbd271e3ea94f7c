"""Whose latents a score is of: cells that have them, and the same in every table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike

from pyro_mgvi.errors import DataError


def check_names(*given: object) -> None:
    """Refuse tables that name their cells, but not the same ones in the same order.

    Raises
    ------
    DataError
        Saying how to align them. Tables without names are taken as they are.

    Examples
    --------
    >>> z = pd.DataFrame({"z_1": [0.0, 1.0]}, index=["cell1", "cell2"])
    >>> check_names(z, pd.Series(["a", "b"], index=["cell1", "cell2"]), ["a", "b"])
    """
    tables = [x for x in given if isinstance(x, pd.DataFrame | pd.Series)]
    named = [x.index for x in tables if pd.api.types.is_string_dtype(x.index)]
    if any(not index.equals(named[0]) for index in named[1:]):
        raise DataError(
            "the cells' names say that these are other cells, or in another order: align them by "
            "name, as in labels.loc[latent.index]"
        )


def cells_with(latent_nk: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return a latent as an array, and which cells have it; NaN says that they do not own it.

    Masked values are as good as NaN.

    Examples
    --------
    >>> cells_with(np.ma.masked_greater([[0.5], [9.0]], 1.0))[1].tolist()
    [True, False]
    """
    if isinstance(latent_nk, torch.Tensor):
        latent_nk = latent_nk.detach().cpu()
    try:
        if isinstance(latent_nk, np.ma.MaskedArray) and latent_nk.mask.any():
            kind = np.result_type(latent_nk, np.float32)
            latent_nk = np.ma.filled(latent_nk.astype(kind), np.nan)
        latent_nk = np.asarray(latent_nk)
    except (TypeError, ValueError) as error:  # rows of several lengths, and types of torch's own
        raise DataError(f"a latent is numbers, cells x dims: {error}") from error
    if latent_nk.ndim != 2 or latent_nk.dtype.kind not in "fiub":
        shape = f"{latent_nk.dtype} values of shape {latent_nk.shape}"
        raise DataError(f"a latent is numbers, cells x dims, not {shape}")
    if not latent_nk.shape[1]:
        raise DataError("the latent has no dimension")
    if np.isinf(latent_nk).any():
        raise DataError("a latent holds infinite values: correct or remove these cells")
    return latent_nk.astype(np.result_type(latent_nk, np.float32)), ~np.isnan(latent_nk).any(1)
