"""What clustering finds of known labels: in latents, and in principal components beside them.

    python -m benchmarks.clusterable DATA.h5ad --latents disentangle/DATA-default-*.npz

For each representation: k-means, k-means started at the true centres, the nearest true centre, and
a cross-validated classifier, each as adjusted Rand index. Principal components are of log counts
at one depth, centred in each group, and of Pearson residuals from each group's shares (negative
binomial, dispersion by moments); whitened ones have unit variance each.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import cross_val_predict

from benchmarks.known_truth import known_labels
from benchmarks.pearson import pearson_residuals
from pyro_mgvi.analysis.metrics import kmeans_ari, log_shares


def scores(latent_nk: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return how much of the labels is found, without and with knowing them."""
    names = np.unique(labels)
    centre_lk = np.stack([latent_nk[labels == name].mean(0) for name in names])
    from_truth = KMeans(len(names), init=centre_lk, n_init=1).fit_predict(latent_nk)
    nearest = ((latent_nk[:, None] - centre_lk) ** 2).sum(-1).argmin(1)
    told = cross_val_predict(LogisticRegression(max_iter=2000), latent_nk, labels, cv=5)
    return {
        "k-means": kmeans_ari(latent_nk, labels),
        "k-means from the true centres": adjusted_rand_score(labels, from_truth),
        "nearest true centre": adjusted_rand_score(labels, nearest),
        "classifier": adjusted_rand_score(labels, told),
    }


def components(adata: ad.AnnData, numbers: list[int]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield principal components of the counts, plain and whitened, by name."""
    group = adata.obs["group"].astype(str).to_numpy()
    counts_ng = adata.to_df().to_numpy(float)
    log_ng, residual_ng = log_shares(adata.X), np.zeros(adata.shape)
    for name in np.unique(group):
        mine = group == name
        log_ng[mine] -= log_ng[mine].mean(0)
        x_ng = counts_ng[mine]
        expected_ng = x_ng.sum(1, keepdims=True) * (x_ng.sum(0) + 1e-3) / x_ng.sum()
        residual_ng[mine] = pearson_residuals(x_ng, expected_ng)[0]
    for kind, x_ng in (("log", log_ng), ("Pearson", residual_ng)):
        all_nk = PCA(max(numbers), random_state=0).fit_transform(x_ng)
        for number in numbers:
            some_nk = all_nk[:, :number]
            yield f"{number} components, {kind}", some_nk
            yield f"{number} components, {kind}, whitened", some_nk / some_nk.std(0)


def main() -> None:
    """Score all representations and print them, one a row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--latents", nargs="*", type=Path, default=[], help="of disentangle.py")
    parser.add_argument("--components", nargs="+", type=int, default=[10, 15, 20, 30])
    arguments = parser.parse_args()
    adata = ad.read_h5ad(arguments.data)
    labels = known_labels(adata)
    rows = {path.stem: scores(np.load(path)["z"], labels) for path in arguments.latents}
    rows |= {name: scores(x, labels) for name, x in components(adata, arguments.components)}
    print(pd.DataFrame(rows).T.to_string(float_format="{:.3f}".format))


if __name__ == "__main__":
    main()
