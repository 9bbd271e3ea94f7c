"""Scores of latents against known labels, and the ceilings that no method can pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import sparse

from pyro_mgvi.errors import DataError


def kmeans_ari(latent_nk: np.ndarray, labels: Sequence, seed: int = 0) -> float:
    """Return the adjusted Rand index of k-means clusters against labels (as in the paper).

    Parameters
    ----------
    latent_nk
        Cells x dims.
    labels
        Label of each cell; there are as many clusters as labels.
    seed
        Seed of k-means.

    Examples
    --------
    >>> kmeans_ari(np.array([[0.0], [0.1], [5.0], [5.1]]), ["a", "a", "b", "b"])
    1.0
    """
    from sklearn.cluster import KMeans  # takes a second to import
    from sklearn.metrics import adjusted_rand_score

    labels = np.asarray(labels)
    kmeans = KMeans(len(np.unique(labels)), n_init=10, random_state=seed)
    return float(adjusted_rand_score(labels, kmeans.fit_predict(latent_nk)))


def silhouette(latent_nk: np.ndarray, labels: Sequence) -> float:
    """Return the average silhouette width of labels, unscaled (-1 to 1; 0 is mixed).

    Examples
    --------
    >>> round(silhouette(np.array([[0.0], [0.1], [5.0], [5.1]]), ["a", "a", "b", "b"]), 2)
    0.98
    """
    from sklearn.metrics import silhouette_score

    return float(silhouette_score(latent_nk, np.asarray(labels)))


def probe(latent_nk: np.ndarray, labels: Sequence, folds: int = 3) -> float:
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
    latent_nk: np.ndarray, labels: Sequence, folds: int = 3
) -> tuple[float, float] | None:
    """Return :func:`probe` and what guessing would reach; None with fewer than two labels."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    latent_nk, label_n = np.asarray(latent_nk, float), pd.Series(np.asarray(labels))
    kept = np.isfinite(latent_nk).all(1) & label_n.notna().to_numpy()
    sizes = label_n[kept].astype(str).value_counts()
    common = sizes.index[sizes >= folds]
    if len(common) < 2:
        return None
    text_n = label_n.astype(str)
    kept &= text_n.isin(common).to_numpy()
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    scores = cross_val_score(
        classifier,
        latent_nk[kept],
        text_n[kept].to_numpy(str),
        cv=folds,
        scoring="balanced_accuracy",
    )
    return float(scores.mean()), 1 / len(common)


def active_units(latent_nk: np.ndarray, threshold: float = 0.01) -> int:
    """Return how many dimensions vary: posterior means with a variance over cells above it.

    After Burda et al. (2016), "Importance weighted autoencoders".

    Examples
    --------
    >>> active_units(np.array([[1.0, 0.0], [-1.0, 0.01]]))
    1
    """
    return int((np.var(latent_nk, axis=0) > threshold).sum())


def linear_cka(a_nk: np.ndarray, b_nk: np.ndarray) -> float:
    """Return linear centred kernel alignment of two latents of the same cells (0 to 1).

    Kornblith et al. (2019); does not change under rotation or scaling of either.

    Raises
    ------
    DataError
        If a value is not finite.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(linear_cka(x, 2 * x[:, ::-1]), 6)
    1.0
    """
    for x in (a_nk, b_nk):
        if not np.isfinite(x).all():
            raise DataError(
                "a latent has NaN rows, as private ones have for other groups' cells: compare "
                "the cells that own it"
            )
    a, b = (np.asarray(x, float) - np.mean(x, axis=0) for x in (a_nk, b_nk))
    norms = np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)
    return float(np.linalg.norm(b.T @ a) ** 2 / norms) if norms > 0 else 0.0


def log_shares(x) -> np.ndarray:
    """Return log1p of counts scaled to their median library size, dense.

    Examples
    --------
    >>> from scipy import sparse
    >>> log_shares(sparse.csr_matrix([[1, 3], [2, 2]])).shape
    (2, 2)
    """
    x = x.toarray() if sparse.issparse(x) else np.asarray(x)
    library = x.sum(1, keepdims=True)
    return np.log1p(x / np.maximum(library, 1) * np.median(library))


def program_score(adata, group: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the ideal score of a simulated group's programs, and the programs.

    Shares of the program genes' counts weighted with the difference of the true log factors: a
    score that knows which genes respond, and how.

    Parameters
    ----------
    adata
        From :mod:`pyro_mgvi.datasets.simulate`, with two programs in the group.
    group
        Name of the group.
    """
    cells = adata[(adata.obs["group"] == group).to_numpy()]
    programs = sorted(cells.obs["program"].unique())
    cells = cells[:, cells.var["is_program"].to_numpy(bool)]
    factors = [np.log(cells.var[f"DEFac{p}"].to_numpy(float)) for p in programs]
    x = cells.X.toarray() if sparse.issparse(cells.X) else np.asarray(cells.X)
    share = x / np.maximum(x.sum(1, keepdims=True), 1)
    score = share @ (factors[0] - factors[-1])
    return score[:, None], cells.obs["program"].to_numpy(str)
