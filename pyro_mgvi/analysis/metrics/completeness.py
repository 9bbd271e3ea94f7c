"""How much of the variation of genes that a fit has not seen its latents predict."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from pyro_mgvi.analysis.metrics.expression import Expression, check_finite, dense_genes
from pyro_mgvi.analysis.metrics.named import cells_with, check_names
from pyro_mgvi.analysis.metrics.scores import in_use
from pyro_mgvi.data.names import Labels, known_labels
from pyro_mgvi.errors import DataError
from pyro_mgvi.support.values import whole_number

if TYPE_CHECKING:
    from sklearn.base import RegressorMixin

PENALTIES = np.logspace(0, 5, 11)  # of the ridge regressions, on standardised columns
FOLDS = 5


class Completeness(NamedTuple):
    """Shares of the variance of held-out genes that are predicted, each gene counting as much.

    Attributes
    ----------
    latents
        From the latents' dimensions in use.
    components
        From as many principal components of the genes that the fit has seen, or all there are.
    ceiling
        From all these genes: what a supervised method reaches.
    """

    latents: float
    components: float
    ceiling: float

    @property
    def ratio(self) -> float:
        """What the latents predict in units of what the components do; NaN if that is nothing."""
        return self.latents / self.components if self.components > 0 else float("nan")


def completeness(
    latent_nk: ArrayLike,
    held_out_nh: Expression,
    seen_ng: Expression,
    within: Labels | None = None,
    regressor: RegressorMixin | None = None,
    seed: int = 0,
) -> Completeness:
    """Return how much of held-out genes the latents of a fit without them predict.

    Probes tell what is wrongly in a latent; this tells what is missing. Regressions, tested on
    cells that they have not seen, predict the genes from the latents, from principal components
    of the same number, and from all genes that the fit has seen.

    Parameters
    ----------
    latent_nk
        Latents of a fit without the held-out genes, side by side, cells x dims. Cells whose
        latents are NaN (foreign copies) are left out.
    held_out_nh, seen_ng
        Log expression of the genes that the fit has not seen, and of those that it has, cells x
        genes; sparse arrays are taken, too.
    within
        One label per cell, such as group and type: only variation within a label counts, and
        cells without one, or with one of fewer than five cells, are left out.
    regressor
        A scikit-learn regressor that takes several targets; by default ridge regressions. A
        straight line misses what the decoder's hidden layer bends:
        :func:`~pyro_mgvi.metrics.bent` reads that, too.
    seed
        Of the folds.

    Raises
    ------
    DataError
        If the arrays are not of the same cells, a gene is missing (NaN) or infinite in a cell, or
        too few cells or no varying gene are left.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> z_nk = rng.normal(size=(200, 2))
    >>> genes_ng = z_nk @ rng.normal(size=(2, 30)) + rng.normal(size=(200, 30))
    >>> found = completeness(z_nk, genes_ng[:, :5], genes_ng[:, 5:])
    >>> found.latents > found.components > 0.3
    True
    """
    seed = whole_number("seed", seed, least=0) % 2**32  # as large as scikit-learn takes them
    check_names(latent_nk, held_out_nh, seen_ng, within)
    latent_nk, own_n = cells_with(latent_nk)
    given = {"held-out genes": held_out_nh, "seen genes": seen_ng}
    held_out_nh, seen_ng = (dense_genes(x, what).astype(float) for what, x in given.items())
    text_n, known_n = known_labels(np.zeros(len(latent_nk)) if within is None else within)
    lengths = {len(latent_nk), len(held_out_nh), len(seen_ng), len(text_n)}
    if len(lengths) > 1:
        raise DataError(
            f"latents, held-out genes, seen genes and labels are of {sorted(lengths)} cells: "
            "pass the same cells in each"
        )
    used_n = own_n & known_n
    _, code_n = np.unique(text_n[used_n].astype(str), return_inverse=True)
    common_n = np.bincount(code_n)[code_n] >= FOLDS
    cells = np.flatnonzero(used_n)[common_n]
    _, code_n = np.unique(code_n[common_n], return_inverse=True)
    if len(cells) < 2 * FOLDS:
        raise DataError(
            f"{len(cells)} cells with latents and a label: too few to test a prediction"
        )
    latent_nk = latent_nk[cells].astype(float)
    held_out_nh, seen_ng = (x[cells] for x in (held_out_nh, seen_ng))
    for (what, named), values in zip(given.items(), (held_out_nh, seen_ng)):
        check_finite(values, named, what)
    if not seen_ng.shape[1]:
        raise DataError("there is no seen gene: give those that the fit has seen")
    target_nh = _standardised(_centred(held_out_nh, code_n))
    if not target_nh.shape[1]:
        raise DataError("no held-out gene varies within the labels: hold out others")
    latent_nk = latent_nk[:, in_use(latent_nk)]
    components_nk = _principal_components(seen_ng, latent_nk.shape[1], seed)
    shares = (
        predicted_shares(_standardised(_centred(x, code_n)), target_nh, regressor, seed).mean()
        for x in (latent_nk, components_nk, seen_ng)
    )
    return Completeness(*(max(0.0, float(share)) for share in shares))


def _centred(x_nk: np.ndarray, code_n: np.ndarray) -> np.ndarray:
    """Return the differences from the means of the cells of the same label."""
    sums = np.zeros((code_n.max() + 1, x_nk.shape[1]))
    np.add.at(sums, code_n, x_nk)
    centred: np.ndarray = x_nk - (sums / np.bincount(code_n)[:, None])[code_n]
    return centred


def _standardised(x_nk: np.ndarray) -> np.ndarray:
    """Return the columns that vary, with a standard deviation of one."""
    varies = x_nk.std(0) > 1e-9
    scaled: np.ndarray = x_nk[:, varies] / x_nk[:, varies].std(0)
    return scaled


def _principal_components(x_ng: np.ndarray, n_components: int, seed: int) -> np.ndarray:
    from sklearn.decomposition import PCA  # takes a second to import

    n_components = min(n_components, *x_ng.shape)  # more there are not
    found: np.ndarray = PCA(n_components, random_state=seed).fit_transform(x_ng)
    return found


def bent(seed: int = 0) -> RegressorMixin:
    """Return a regressor for :func:`completeness` that follows curves as well as straight lines.

    Ridge regressions on the columns and on 100 features of a Gaussian kernel of them (Nystroem); it
    takes at least 125 cells, four fifths of which it learns from.

    Parameters
    ----------
    seed
        Of the cells that the kernel is laid at.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> z_n1 = rng.normal(size=(400, 1))
    >>> genes_ng = z_n1**2 @ np.ones((1, 20)) + rng.normal(size=(400, 20))
    >>> straight, curved = (
    ...     completeness(z_n1, genes_ng[:, :5], genes_ng[:, 5:], regressor=regressor).latents
    ...     for regressor in (None, bent())
    ... )
    >>> straight < 0.05 and curved > 0.4
    True
    """
    from sklearn.kernel_approximation import Nystroem  # takes a second to import
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.preprocessing import FunctionTransformer

    features = make_union(FunctionTransformer(), Nystroem(n_components=100, random_state=seed))
    regressor: RegressorMixin = make_pipeline(features, _ridge())
    return regressor


def _ridge() -> RegressorMixin:
    from sklearn.linear_model import RidgeCV

    regressor: RegressorMixin = RidgeCV(PENALTIES)
    return regressor


def predicted_shares(
    x_nk: np.ndarray, y_nh: np.ndarray, regressor: RegressorMixin | None = None, seed: int = 0
) -> np.ndarray:
    """Return the share of the variance of each column of y that x predicts on unseen cells.

    Negative where a prediction is worse than the mean. Columns of y have a mean of zero.
    """
    from sklearn.model_selection import KFold, cross_val_predict

    if not x_nk.shape[1]:
        return np.zeros(y_nh.shape[1])
    folds = KFold(FOLDS, shuffle=True, random_state=seed)
    predicted_nh = cross_val_predict(regressor or _ridge(), x_nk, y_nh, cv=folds)
    left_h = ((y_nh - predicted_nh.reshape(y_nh.shape)) ** 2).sum(0)
    shares: np.ndarray = 1 - left_h / (y_nh**2).sum(0)
    return shares
