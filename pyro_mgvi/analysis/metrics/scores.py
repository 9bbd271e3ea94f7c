"""Scores of latents against known labels, and the ceilings that no method can pass."""

from __future__ import annotations

import warnings

import numpy as np
from anndata import AnnData
from numpy.typing import ArrayLike

from pyro_mgvi.analysis.metrics.expression import Expression, check_finite, dense_genes
from pyro_mgvi.analysis.metrics.named import cells_with, check_names
from pyro_mgvi.data.checks import some
from pyro_mgvi.data.names import Labels, known_labels
from pyro_mgvi.errors import DataError
from pyro_mgvi.support.values import number, whole_number

FOLDS = 3  # of a probe's cross-validation; rarer labels cannot be in each


def in_use(latent_nk: np.ndarray) -> np.ndarray:
    """Return which dimensions of a latent are in use: those that are not the same in every cell.

    Examples
    --------
    >>> in_use(np.array([[1.0, 0.0, 7.0], [2.0, 0.0, 7.0]])).tolist()
    [True, False, False]
    """
    if not len(latent_nk):
        return np.zeros(latent_nk.shape[1], bool)
    # A mean of equal numbers is not always equal to them: what rounding does is no difference.
    widest = np.abs(latent_nk).max(0)
    return np.ptp(latent_nk, axis=0) > 1e-6 * widest


def _labelled(
    latent_nk: ArrayLike, labels: Labels, folds: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return latent and label of the cells that have both, of labels of ``folds`` cells or more."""
    check_names(latent_nk, labels)
    latent_nk, has_n = cells_with(latent_nk)
    text_n, known_n = known_labels(labels)
    if len(text_n) != len(latent_nk):
        raise DataError(f"{len(text_n)} labels for {len(latent_nk)} cells: pass one per cell")
    known_n = known_n & has_n
    names, code_n, sizes = np.unique(
        text_n[known_n].astype(str), return_inverse=True, return_counts=True
    )
    common = sizes[code_n] >= folds
    return latent_nk[known_n][common], names[code_n][common]


def kmeans_ari(latent_nk: ArrayLike, labels: Labels, seed: int = 0) -> float:
    """Return the adjusted Rand index of k-means clusters against labels (as in the paper).

    Cells without a label or without the latent (NaN, as for foreign copies) are left out.

    Parameters
    ----------
    latent_nk
        Cells x dims.
    labels
        Label of each cell; there are as many clusters as labels.
    seed
        Seed of k-means.

    Raises
    ------
    DataError
        If fewer than two labels are left.

    Examples
    --------
    >>> kmeans_ari(np.array([[0.0], [0.1], [5.0], [5.1]]), ["a", "a", "b", "b"])
    1.0
    """
    from sklearn.cluster import KMeans  # takes a second to import
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import adjusted_rand_score

    latent_nk, label_n = _labelled(latent_nk, labels)
    n_labels = _two_labels(label_n, "clusters are compared with")
    seed = whole_number("seed", seed, least=0) % 2**32  # as large as scikit-learn takes them
    kmeans = KMeans(n_labels, n_init=10, random_state=seed)
    with warnings.catch_warnings():
        # An empty latent has fewer points than there are labels: one cluster, an index of 0.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = kmeans.fit_predict(latent_nk)
    return float(adjusted_rand_score(label_n, found))


def silhouette(latent_nk: ArrayLike, labels: Labels) -> float:
    """Return the average silhouette width of labels, unscaled (-1 to 1; 0 is mixed).

    Cells without a label or without the latent (NaN, as for foreign copies) are left out.

    Raises
    ------
    DataError
        If fewer than two labels are left, or no two cells have the same.

    Examples
    --------
    >>> round(silhouette(np.array([[0.0], [0.1], [5.0], [5.1]]), ["a", "a", "b", "b"]), 2)
    0.98
    """
    from sklearn.metrics import silhouette_score

    latent_nk, label_n = _labelled(latent_nk, labels)
    if _two_labels(label_n, "a silhouette is of") == len(label_n):
        raise DataError("each cell has a label of its own: a silhouette needs cells that share one")
    return float(silhouette_score(latent_nk, label_n))


def _two_labels(label_n: np.ndarray, what: str) -> int:
    n_labels = len(np.unique(label_n))
    if n_labels < 2:
        raise DataError(
            f"{what} two labels or more, and {len(label_n)} cell(s) with {n_labels} are left: NaN "
            "rows and missing labels do not count"
        )
    return n_labels


def probe(latent_nk: ArrayLike, labels: Labels, folds: int = FOLDS) -> float:
    """Return how well a linear classifier reads labels from a latent.

    Cross-validated balanced accuracy of a logistic regression on standardised dimensions;
    chance is one over the number of labels (:func:`probe_and_chance`). Cells without a label
    or without the latent (NaN, as for foreign copies) are left out, and so are labels of fewer
    cells than ``folds``.

    Raises
    ------
    DataError
        If fewer than two labels are left.

    Examples
    --------
    >>> labels = ["a", "b"] * 15
    >>> probe(np.array([[0.0], [1.0]] * 15), labels)
    1.0
    """
    found = probe_and_chance(latent_nk, labels, folds)
    if found is None:
        raise DataError(
            f"a probe needs two labels of {folds} cells each that have the latent: NaN rows, "
            "missing labels and rarer labels do not count"
        )
    return found[0]


def probe_and_chance(
    latent_nk: ArrayLike, labels: Labels, folds: int = FOLDS
) -> tuple[float, float] | None:
    """Return :func:`probe` and what guessing would reach; None with fewer than two labels."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folds = whole_number("folds", folds, least=2)
    latent_nk, label_n = _labelled(latent_nk, labels, folds)
    n_labels = len(np.unique(label_n))
    if n_labels < 2:
        return None
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    scores = cross_val_score(
        classifier, latent_nk.astype(float), label_n, cv=folds, scoring="balanced_accuracy"
    )
    return float(scores.mean()), 1 / n_labels


def active_units(latent_nk: ArrayLike, threshold: float = 0.01) -> int:
    """Return how many dimensions vary: posterior means with a variance over cells above it.

    After Burda et al. (2016), "Importance weighted autoencoders". Cells without the latent (NaN,
    as for foreign copies) are left out.

    Raises
    ------
    DataError
        If no cell is left.

    Examples
    --------
    >>> active_units(np.array([[1.0, 0.0], [-1.0, 0.01]]))
    1
    """
    threshold = number("threshold", threshold)
    values_nk, known_n = cells_with(latent_nk)
    if not known_n.any():
        raise DataError("no cell has the latent: all rows are NaN")
    return int((np.var(values_nk[known_n], axis=0) > threshold).sum())


def linear_cka(a_nk: ArrayLike, b_nk: ArrayLike) -> float:
    """Return linear centred kernel alignment of two latents of the same cells (0 to 1).

    Kornblith et al. (2019); does not change under rotation or scaling of either.

    Raises
    ------
    DataError
        If a value is not finite, or the latents are of different cells.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(linear_cka(x, 2 * x[:, ::-1]), 6)
    1.0
    """
    check_names(a_nk, b_nk)
    both = [cells_with(x) for x in (a_nk, b_nk)]
    sizes = [len(known_n) for _, known_n in both]
    if sizes[0] != sizes[1]:
        raise DataError(f"latents of {sizes[0]} and {sizes[1]} cells: compare those of the same")
    for _, known_n in both:
        if not known_n.all():
            raise DataError(
                "a latent has NaN rows, as private ones have for other groups' cells: compare "
                "the cells that own it"
            )
    # Squares of very large or small numbers have no place in a number; scales make no difference.
    a_nk, b_nk = (x / (np.abs(x).max(initial=0.0) or 1.0) for x, _ in both)
    # A constant minus its mean may be a rounding error, which would agree with itself.
    a, b = ((x - x.mean(axis=0, dtype=float)) * in_use(x) for x in (a_nk, b_nk))
    norms = np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)
    return float(np.linalg.norm(b.T @ a) ** 2 / norms) if norms > 0 else 0.0


def log_shares(x: Expression) -> np.ndarray:
    """Return log1p of counts scaled to their median library size, dense.

    Raises
    ------
    DataError
        If they are not finite numbers, cells x genes.

    Examples
    --------
    >>> from scipy import sparse
    >>> log_shares(sparse.csr_matrix([[1, 3], [2, 2]])).shape
    (2, 2)
    """
    counts_ng = dense_genes(x, "counts")
    check_finite(counts_ng, x, "counts")
    library_n1 = counts_ng.sum(1, keepdims=True)
    return np.log1p(counts_ng / np.maximum(library_n1, 1) * np.median(library_n1))


def program_score(adata: AnnData, group: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the ideal score of a simulated group's programs, and the programs.

    Shares of the program genes' counts weighted with the difference of the true log factors: a
    score that knows which genes respond, and how.

    Parameters
    ----------
    adata
        From :mod:`pyro_mgvi.datasets.simulate`, with two programs in the group.
    group
        Name of the group.

    Raises
    ------
    DataError
        If no cell is of that group, or the data have no programs.
    """
    if missing := {"group", "program"} - {*adata.obs}:
        raise DataError(f"obs has no {some(sorted(missing))}: these are no simulated cells")
    if group not in set(adata.obs["group"]):
        raise DataError(f"no cell is of group {group!r}: there are {some(set(adata.obs['group']))}")
    cells = adata[(adata.obs["group"] == group).to_numpy()]
    programs = sorted(cells.obs["program"].unique())
    cells = cells[:, cells.var["is_program"].to_numpy(bool)]
    factors = [np.log(cells.var[f"DEFac{p}"].to_numpy(float)) for p in programs]
    x = dense_genes(cells.X, "counts")
    share = x / np.maximum(x.sum(1, keepdims=True), 1)
    score = share @ (factors[0] - factors[-1])
    return score[:, None], cells.obs["program"].to_numpy(str)
