"""Whether another training holds a latent, too, dimension by dimension."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pyro_mgvi.analysis.metrics.completeness import FOLDS, predicted_shares
from pyro_mgvi.analysis.metrics.named import cells_with, check_names
from pyro_mgvi.analysis.metrics.scores import in_use
from pyro_mgvi.errors import DataError
from pyro_mgvi.support.values import whole_number


def recovered(latent_nk: ArrayLike, again_nk: ArrayLike, seed: int = 0) -> np.ndarray:
    """Return which share of the variance of each dimension another latent predicts.

    Ridge regressions on unseen cells (five folds). The linear CKA of two latents is one number,
    ruled by their widest dimensions; this tells which dimension of the first is in the second,
    however that turns or scales it.

    Parameters
    ----------
    latent_nk
        Cells x dims. Cells whose latents are NaN (foreign copies), in either, are left out.
    again_nk
        Another latent of the same cells, of as many dimensions as it likes.
    seed
        Of the folds.

    Returns
    -------
    A share for each dimension of the first, between 0 and 1; NaN for one that is not in use.

    Raises
    ------
    DataError
        If they are not of the same cells, or fewer than ten cells have both.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> z_nk = rng.normal(size=(200, 3))
    >>> turned_nk = z_nk[:, :2] @ [[0.6, 0.8], [-0.8, 0.6]]  # the third is missing
    >>> recovered(z_nk, turned_nk).round(2).tolist()
    [1.0, 1.0, 0.0]
    """
    seed = whole_number("seed", seed, least=0) % 2**32  # as large as scikit-learn takes them
    check_names(latent_nk, again_nk)
    (y_nk, has_n), (x_nk, again_n) = cells_with(latent_nk), cells_with(again_nk)
    if len(y_nk) != len(x_nk):
        raise DataError(f"the latents are of {len(y_nk)} and {len(x_nk)} cells: pass the same ones")
    both_n = has_n & again_n
    if both_n.sum() < 2 * FOLDS:
        raise DataError(f"{both_n.sum()} cells have both latents: too few to test a prediction")
    y_nk, x_nk = (x[both_n].astype(float) for x in (y_nk, x_nk))
    used_k = in_use(y_nk)
    shares_k = np.full(len(used_k), np.nan)
    if used_k.any():
        y_nk, x_nk = (x[:, in_use(x)] for x in (y_nk, x_nk))
        y_nk, x_nk = (x - x.mean(0) for x in (y_nk, x_nk))
        y_nk, x_nk = (x / x.std(0) for x in (y_nk, x_nk))
        shares_k[used_k] = predicted_shares(x_nk, y_nk, seed=seed).clip(0, 1)
    return shares_k
