"""Maximise the marginal density of multi-group factor analysis: start, objective, L-BFGS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from scipy.optimize import OptimizeResult, minimize
from sklearn.utils.extmath import randomized_svd
from torch import Tensor

Array = TypeVar("Array", np.ndarray, Tensor)


class Factors(NamedTuple, Generic[Array]):
    """Shared loadings (p, K), private ones (p, J) of each group, and log uniquenesses (G, p)."""

    shared_pk: Array
    private_pj: list[Array]
    log_psi_gp: Array


def maximise(
    centred: list[np.ndarray],
    n_shared: int,
    n_private: Sequence[int],
    floor: float,
    prior_p: np.ndarray,
    seed: int,
    **options: Any,
) -> tuple[Factors[np.ndarray], OptimizeResult]:
    """Return the factors of highest posterior density, and scipy's account of the search.

    Parameters
    ----------
    centred
        For each group its cells less their mean (n, p), of unit variance over all groups.
    n_shared, n_private
        Number of shared factors, and of each group's private ones.
    floor
        Least uniqueness.
    prior_p
        Precision of the normal prior on each variable's loadings, (p,).
    seed
        Of the start.
    **options
        Of L-BFGS-B.
    """
    sizes = [len(y) for y in centred]
    # The likelihood knows the data by their cross-products alone: keep the smaller root of them.
    roots = [_root(y) for y in centred]
    begin = start(roots, sizes, n_shared, n_private, seed)
    shapes = [part.shape for part in (begin.shared_pk, *begin.private_pj, begin.log_psi_gp)]
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    tensors = [torch.from_numpy(np.ascontiguousarray(root)) for root in roots]
    prior_p1 = torch.from_numpy(0.5 * prior_p)[:, None]

    def unpack(flat: Array) -> Factors[Array]:
        pieces = [flat[end - np.prod(shape, dtype=int) : end] for end, shape in zip(ends, shapes)]
        parts = [piece.reshape(shape) for piece, shape in zip(pieces, shapes)]
        return Factors(parts[0], parts[1:-1], parts[-1])

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        leaf = torch.from_numpy(flat).requires_grad_()
        factors = unpack(leaf)
        loss = (prior_p1 * factors.shared_pk**2).sum()
        for root, n, own_pj, log_psi_p in zip(
            tensors, sizes, factors.private_pj, factors.log_psi_gp
        ):
            loadings_pf = torch.cat([factors.shared_pk, own_pj], 1)
            loss = loss + (prior_p1 * own_pj**2).sum()
            loss = loss - log_density(root, n, loadings_pf, log_psi_p)
        (loss / sum(sizes)).backward()
        assert leaf.grad is not None  # by backward()
        return loss.item() / sum(sizes), leaf.grad.numpy()

    flat = np.concatenate(
        [part.ravel() for part in (begin.shared_pk, *begin.private_pj, begin.log_psi_gp)]
    )
    least = np.full(len(flat), -np.inf)
    least[ends[-2] :] = np.log(floor)
    bounds = np.column_stack([least, np.full(len(flat), np.inf)])
    result = minimize(objective, flat, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return unpack(result.x), result


def log_density(root_rp: Tensor, n: int, loadings_pf: Tensor, log_psi_p: Tensor) -> Tensor:
    """Return the log density of n centred cells, up to a constant, by Woodbury's identity.

    ``root_rp`` is the cells, or any other root of their cross-products.
    """
    weighted_pf = loadings_pf * torch.exp(-log_psi_p)[:, None]
    precision_ff = loadings_pf.T @ weighted_pf + torch.eye(loadings_pf.shape[1]).to(loadings_pf)
    lower_ff = torch.linalg.cholesky(precision_ff)
    explained = torch.linalg.solve_triangular(lower_ff, (root_rp @ weighted_pf).T, upper=False)
    squares = (root_rp.square().sum(0) * torch.exp(-log_psi_p)).sum() - explained.square().sum()
    log_det = log_psi_p.sum() + 2 * lower_ff.diagonal().log().sum()
    log_p: Tensor = -0.5 * (n * log_det + squares)
    return log_p


def _root(y_np: np.ndarray) -> np.ndarray:
    """Return a root of the cross-products of cells, of no more rows than there are cells."""
    if len(y_np) <= y_np.shape[1]:
        return y_np
    return np.asarray(np.linalg.qr(y_np, mode="r"))  # annotated as if it were Q and R


def start(
    roots: list[np.ndarray], sizes: list[int], n_shared: int, n_private: Sequence[int], seed: int
) -> Factors[np.ndarray]:
    """Return loadings from principal components: those that groups agree on, then the rest.

    Without the comparison of groups a strong private direction starts as a shared one, and the
    search does not leave that optimum (it is the worse one).
    """
    rng = np.random.default_rng(seed)
    n_variables = roots[0].shape[1]
    bases = [components(y, n_shared + own, seed) for y, own in zip(roots, n_private)]
    stacked = np.concatenate([np.zeros((1, n_variables)), *bases]) / np.sqrt(len(bases))
    _, cosine, directions = np.linalg.svd(stacked, full_matrices=False)
    # Mean projection onto the groups' subspaces: 1 if all hold a direction, 1 / G if one does.
    agreed = cosine[:n_shared] ** 2 > (1 + 1 / len(bases)) / 2 - 1e-6
    common = directions[:n_shared][agreed]

    def loadings(basis: np.ndarray, cells: list[np.ndarray], n: int, width: int) -> np.ndarray:
        out_pf = 0.1 * rng.normal(size=(n_variables, width))
        excess = sum(((y @ basis.T) ** 2).sum(0) for y in cells) / n - 1
        out_pf[:, : len(basis)] = basis.T * np.sqrt(np.maximum(excess, 0.1))
        return out_pf

    shared_pk = loadings(common, roots, sum(sizes), n_shared)
    private_pj = []
    for root, n, width in zip(roots, sizes, n_private):
        left = root - (root @ common.T) @ common
        private_pj.append(loadings(components(left, width, seed), [left], n, width))
    return Factors(shared_pk, private_pj, np.full((len(roots), n_variables), np.log(0.8)))


def components(root: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Return the first k principal directions (or as many as there are), k x p."""
    k = min(k, *root.shape)
    return (
        randomized_svd(root, k, random_state=seed % 2**32)[2] if k else np.zeros((0, root.shape[1]))
    )
