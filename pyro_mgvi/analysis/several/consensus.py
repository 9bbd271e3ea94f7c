"""What several trainings agree on: directions in the latents of most of them, denoised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

AGREED = 0.5  # from which a direction is agreed on
TINY = 1e-9


class Consensus(NamedTuple):
    """Directions of one latent that several trainings hold.

    Attributes
    ----------
    score_nk
        Their scores, uncorrelated, in units of the prior's standard deviation.
    loading_kg
        Log expression (values of transformed data) per unit of a score.
    found_jk
        Share of each direction's variance that each training's latent holds.
    """

    score_nk: np.ndarray
    loading_kg: np.ndarray
    found_jk: np.ndarray

    @property
    def agreement_k(self) -> np.ndarray:
        """How far the trainings agree on each direction: 0 if one alone has it, 1 if all do."""
        agreement: np.ndarray = (self.found_jk.sum(0) - 1) / (len(self.found_jk) - 1)
        return agreement


def consensus(
    latents: Sequence[np.ndarray],
    loadings: Sequence[np.ndarray],
    weight_g: np.ndarray,
    wider: Sequence[np.ndarray] = (),
) -> Consensus:
    r"""Return the directions that latents of several trainings have in common.

    Of all directions u, with a variance of one over the cells, those come first that maximise

    .. math:: \sum_j R^2(u, T_j)

    the shares of their variance that the latents :math:`T_j` of the trainings hold (canonical
    correlations of several sets; Kettenring 1971). A direction that one training alone has reaches
    1, one that all n have reaches n; it is agreed on from half of the way between them.
    What latents of *more* groups hold more of than these do, the trainings take for shared rather
    than private: it is left out.

    The directions are then turned to the principal axes of what they do to expression, the largest
    first, and the gene that they do most to rises: order and sign do not hang on the seeds.

    Parameters
    ----------
    latents
        Posterior means of the same cells by each training, (n, dims); dims may differ.
    loadings
        What a unit of each dimension adds to log expression, (dims, genes), by each training.
    weight_g
        What a squared change of a gene's log expression counts.
    wider
        Latents of more groups, by each training: all side by side, (n, dims).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> common_n, own_n = rng.normal(size=(2, 200))
    >>> first_nk, second_nk = np.column_stack([own_n, common_n]), -common_n[:, None]
    >>> first_kg, second_kg = np.array([[3.0, 3.0, 3.0], [1.0, -2.0, 1.0]]), [[-1.0, 2.0, -1.0]]
    >>> found = consensus([first_nk, second_nk], [first_kg, np.array(second_kg)], np.ones(3))
    >>> found.loading_kg.round().tolist(), found.agreement_k.round(2).tolist()
    ([[-1.0, 2.0, -1.0]], [1.0])
    """
    bases = [_basis(latent_nk) for latent_nk in latents]
    n_cells, n_genes = len(latents[0]), len(weight_g)
    u_nk = _common(bases)
    if wider and u_nk.shape[1]:
        own_kk, wider_kk = (
            sum((u_nk.T @ basis) @ (basis.T @ u_nk) for basis in each)
            for each in (bases, [_basis(x) for x in wider])
        )
        more_k, turn_kk = np.linalg.eigh(own_kk - wider_kk)
        u_nk = u_nk @ turn_kk[:, more_k > 0]
    if not u_nk.shape[1]:
        return Consensus(np.zeros((n_cells, 0)), np.zeros((0, n_genes)), np.zeros((len(bases), 0)))
    loading_kg = _loadings(u_nk, bases, latents, loadings)
    turn_kk, _, axis_kg = np.linalg.svd(loading_kg * np.sqrt(weight_g), full_matrices=False)
    largest_k = np.abs(axis_kg).argmax(1)
    u_nk = u_nk @ (turn_kk * np.sign(axis_kg[np.arange(len(axis_kg)), largest_k]))
    loading_kg = _loadings(u_nk, bases, latents, loadings)
    found_jk = np.array([_held(basis, u_nk) for basis in bases])
    moved_jk = np.array([np.linalg.norm(_moved(u_nk, x), axis=1) for x in latents])
    unit_k = (found_jk * moved_jk).sum(0) / found_jk.sum(0)
    return Consensus(np.sqrt(n_cells) * u_nk * unit_k, loading_kg / unit_k[:, None], found_jk)


def _basis(latent_nk: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis of a latent's centred dimensions."""
    centred_nk = latent_nk - latent_nk.mean(0)
    spread_k = centred_nk.std(0)
    centred_nk = centred_nk[:, spread_k > TINY] / spread_k[spread_k > TINY]
    if not centred_nk.shape[1]:
        return centred_nk
    basis_nk, size_k, _ = np.linalg.svd(centred_nk, full_matrices=False)
    return basis_nk[:, size_k > 1e-6 * size_k[0]]


def _common(bases: Sequence[np.ndarray]) -> np.ndarray:
    """Return the directions that are agreed on, orthonormal, those of most trainings first."""
    side_by_side = np.concatenate(bases, 1)
    if not side_by_side.shape[1]:
        return side_by_side
    u_nk, size_k, _ = np.linalg.svd(side_by_side, full_matrices=False)
    agreed: np.ndarray = u_nk[:, (size_k**2 - 1) / (len(bases) - 1) >= AGREED]
    return agreed


def _held(basis_nk: np.ndarray, u_nk: np.ndarray) -> np.ndarray:
    """Return the share of each direction's variance that a basis holds."""
    shares: np.ndarray = ((basis_nk.T @ u_nk) ** 2).sum(0)
    return shares


def _moved(u_nk: np.ndarray, latent_nk: np.ndarray) -> np.ndarray:
    """Return how a latent moves with a standard deviation of each direction, (k, dims)."""
    moved: np.ndarray = u_nk.T @ (latent_nk - latent_nk.mean(0)) / np.sqrt(len(u_nk))
    return moved


def _loadings(
    u_nk: np.ndarray,
    bases: Sequence[np.ndarray],
    latents: Sequence[np.ndarray],
    loadings: Sequence[np.ndarray],
) -> np.ndarray:
    """Return what a standard deviation of each direction does, by those trainings that hold it."""
    held_jk = np.array([_held(basis, u_nk) for basis in bases])
    does_jkg = np.array([_moved(u_nk, x) @ loading for x, loading in zip(latents, loadings)])
    mean: np.ndarray = (held_jk[:, :, None] * does_jkg).sum(0) / held_jk.sum(0)[:, None]
    return mean
