"""Directions along which genes covary and that a model has not got: where idle dimensions start.

A program of few, rare genes is lost in the noise of thousands of others: a latent that starts at
random is switched off before it has found it. Its pairs of genes stand out one by one, though
(covariance thresholding, Bickel & Levina 2008; Deshpande & Montanari 2014).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg import eigh
from torch import Tensor

from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.relevance import EVALUATION_SIZE

LARGEST = 10.0  # standard deviations: what a residual may say at most
NUMBERS = 5e7  # residuals kept, over all groups
CELLS, GENES = 4000, 6000  # that are searched, of each group and at most
LEAST_CELLS, LEAST_GENES = 100, 3  # in a group to be searched, and in a direction
MARGIN = 0.8  # of the threshold: pairs above it are tested exactly
PAIRS = 20_000  # tested exactly, at most
ROUNDS = 5  # of refining a direction
SAME = 0.95  # correlation of two scores above which they are of one direction
MOSTLY = 0.5  # of a direction's genes: with more in another direction, it is that one


class Direction(NamedTuple):
    """A direction of genes that covary.

    Attributes
    ----------
    loading_g
        Log expression (values of transformed data) per standard deviation of the score.
    score_n
        Its score for the ``cells``, with standard deviation 1.
    cells
        Positions in the data.
    """

    loading_g: Tensor
    score_n: Tensor
    cells: np.ndarray

    def scores_of(self, cells: np.ndarray) -> Tensor:
        """Return the score of those of its cells that are among ``cells``."""
        return self.score_n[torch.from_numpy(np.isin(self.cells, cells))]


class Residuals(NamedTuple):
    """Pearson residuals of some cells of a group, and their mean change with the location."""

    r_ng: Tensor
    slope_g: Tensor
    cells: np.ndarray


class Taken(NamedTuple):
    """What the search for a copy has found, and all genes that it has looked at for it."""

    owner_b: np.ndarray
    genes_g: Tensor
    directions: list[Direction]


@torch.no_grad()
def find_directions(
    model, guide, data: GroupedCounts, copies: Mapping[str, Tensor] | None = None, seed: int = 0
) -> dict[tuple[str, int], list[Direction]]:
    r"""Find directions of genes whose residuals covary in the groups that own a copy.

    With residuals :math:`r` of the fit as it is, a pair of genes counts if

    .. math:: |\sum_n r_{ni} r_{nj}| > \sqrt{2 \log (G (G - 1) / 2) \sum_n r_{ni}^2 r_{nj}^2}

    in each of these groups, with one sign, and if the difference to the other groups' covariance
    does, too: by chance, fewer than one pair in all would. The leading eigenvector of the
    covariance of such pairs, refined by every gene that follows it, is one direction; its genes
    are taken, and the rest searched again. What some groups' copy took is not searched for
    one of fewer of them; what all groups' took is, for there the covariance must exceed theirs. A
    copy of some groups for which nothing is found is searched for once more, in residuals
    without the directions found for all groups; and if that finds nothing, among genes that larger
    copies took, too, where a direction counts if no more than half its genes are those of theirs.
    One whose scores are those of a direction of all groups does not count.

    Parameters
    ----------
    model, guide
        Partly trained :class:`~pyro_mgvi.model.Model` and :class:`~pyro_mgvi.guide.Guide`, in
        evaluation mode.
    data
        Cells; a sample of each group is used.
    copies
        Copies of each latent to search for, boolean (S,); all by default.
    seed
        Of the sample.

    Returns
    -------
    Directions by latent and copy, leading ones first; nothing for a copy without any.

    Examples
    --------
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.simulate import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=400, n_shared_genes=60, n_program_genes=60)
    >>> mgvi = MGVI.from_anndata(adata, group_key="group")
    >>> found = find_directions(mgvi.model, mgvi.guide, mgvi.read(adata))
    >>> len(found["z", 0]) > 0  # the types, which an untrained model has not got
    True
    """
    groups = _residuals(model, guide, data, seed)
    searched_g = _best_seen(groups)
    unhidden, found, taken, shared = groups, {}, [], []
    for latent in sorted(model.latents, key=lambda x: -max(map(len, x.subsets))):
        for copy, owner_b in enumerate(latent.membership(model.groups).numpy()):
            if not (copies is None or copies[latent.name][copy]):
                continue
            if not searchable(owner_b, data, alone=copies is not None):
                continue
            larger = [each for each in taken if (each.owner_b >= owner_b).all()]
            untaken_g = searched_g.clone()
            for each in larger:
                untaken_g &= ~each.genes_g
            kinds = (groups,) if unhidden is groups else (groups, unhidden)
            searches = [(residuals, untaken_g) for residuals in kinds]
            if larger:  # owners' own programs may agree in some genes, and these are taken then
                searches += [(residuals, searched_g) for residuals in kinds]
            directions, seen_g = _first_found(searches, owner_b, larger, shared)
            if directions:
                found[latent.name, copy] = directions
            if not all(owner_b[b] for b in groups):
                taken.append(Taken(owner_b, seen_g, directions))
            elif directions:  # what is shared and not learnt yet may hide what is not shared
                shared += directions
                unhidden = {b: _without(unhidden[b], directions) for b in groups}
    return found


def _first_found(
    searches, owner_b, larger: list[Taken], shared: list[Direction]
) -> tuple[list[Direction], Tensor]:
    """Return the directions of the first search that has any, and the genes it has looked at."""
    for groups, genes_g in searches:
        own = [groups[b] for b in groups if owner_b[b]]
        others = [groups[b].r_ng for b in groups if not owner_b[b]]
        free_g = genes_g.clone()
        directions = leading_directions(own, torch.cat(others) if others else None, free_g)
        directions = [
            each for each in directions if not _known(each, larger) and not _same(each, shared)
        ]
        if directions:
            break
    return directions, genes_g & ~free_g


def _known(direction: Direction, larger: list[Taken]) -> bool:
    """Return whether most genes of a direction are those of one that more groups share."""
    genes_g = direction.loading_g != 0
    shares = (genes_g[each.loading_g != 0].sum() for by in larger for each in by.directions)
    return any(share > MOSTLY * genes_g.sum() for share in shares)


def _same(direction: Direction, shared: list[Direction]) -> bool:
    """Return whether a direction is one of all groups: it tells cells apart as that one does."""
    scores = ((direction.score_n, each.scores_of(direction.cells)) for each in shared)
    return any(torch.corrcoef(torch.stack(pair))[0, 1].abs() > SAME for pair in scores)


def searchable(owner_b: np.ndarray, data: GroupedCounts, alone: bool = False) -> bool:
    """Return whether there are cells enough of a copy's owners, and of others to compare with.

    With ``alone``, what is shared has been learnt from others' cells: owners are enough.
    """
    large_b = np.bincount(data.group_n, minlength=len(owner_b)) >= LEAST_CELLS
    compared = alone or owner_b.all() or large_b[~owner_b].any()
    return bool(large_b[owner_b].any() and compared)


def _residuals(model, guide, data: GroupedCounts, seed: int) -> dict[int, Residuals]:
    rng, device = np.random.default_rng(seed), guide.depth.device
    sizes = np.bincount(data.group_n, minlength=len(model.groups))
    most = int(min(CELLS, NUMBERS / (data.x.shape[1] * len(sizes))))
    groups = {}
    for code in np.flatnonzero(sizes >= LEAST_CELLS):
        cells = np.flatnonzero(data.group_n == code)
        cells = np.sort(rng.permutation(cells)[:most])
        residuals, slope_g = [], 0.0
        for batch in data.subset(cells).minibatches(EVALUATION_SIZE, shuffle=False):
            batch = batch.to(device)
            posteriors = guide.posteriors(batch.counts, batch.covariates)
            values = {latent.name: posteriors[latent.name][0] for latent in model.latents}
            parts = model.decode(values, batch.group, batch.covariates)
            log_size = batch.counts.sum(-1).log() if guide.counts_only else None
            fit = model.likelihood(parts, log_size)
            sd = fit.variance.clamp(min=1e-8).sqrt()
            residuals.append(((batch.counts - fit.mean) / sd).cpu())
            change = fit.mean if guide.counts_only else torch.ones_like(sd)
            slope_g = slope_g + (change / sd).sum(0).cpu()
        r_ng = torch.cat(residuals).clamp_(-LARGEST, LARGEST)
        groups[code] = Residuals(r_ng - r_ng.mean(0), slope_g / len(r_ng), cells)
    return groups


def _without(group: Residuals, directions: list[Direction]) -> Residuals:
    """Return a group's residuals without what follows the scores of some directions."""
    r_ng = group.r_ng
    for direction in directions:
        score_n = direction.scores_of(group.cells)
        r_ng = r_ng - torch.outer(score_n, score_n @ r_ng / score_n.square().sum())
    return group._replace(r_ng=r_ng)


def _best_seen(groups: dict[int, Residuals]) -> Tensor:
    """Return which genes are searched, boolean: those in which a change shows best."""
    slope_g = sum(group.slope_g for group in groups.values()) if groups else torch.zeros(0)
    free_g = torch.zeros(len(slope_g), dtype=torch.bool)
    free_g[slope_g.topk(min(GENES, len(slope_g))).indices] = True
    return free_g


def leading_directions(
    own: list[Residuals], others: Tensor | None, free_g: Tensor
) -> list[Direction]:
    """Return the directions of one copy, and take their genes out of ``free_g``.

    Parameters
    ----------
    own
        Residuals of each group that owns the copy.
    others
        Residuals of the other groups' cells, (n, genes), or None.
    free_g
        Which genes to search, boolean; changed in place.
    """
    slope_g = torch.stack([group.slope_g for group in own]).mean(0).clamp(min=1e-3)
    pairs_p2, covariance_p = _pairs([group.r_ng for group in own], others, free_g)
    n_genes, found = len(free_g), []
    while len(pairs_p2):
        first_g = _leading(pairs_p2, covariance_p, n_genes)
        first_g[first_g.abs() < 1e-3] = 0.0
        v_g = _refined(first_g, [group.r_ng for group in own], free_g)
        free_g &= (first_g == 0) & (v_g == 0)
        if (v_g != 0).sum() >= LEAST_GENES:
            scores = [group.r_ng @ v_g for group in own]
            score_n = torch.cat([score / score.std() for score in scores])
            cells = np.concatenate([group.cells for group in own])
            found.append(Direction(v_g / slope_g, score_n, cells))
        left = free_g[pairs_p2].all(1)
        pairs_p2, covariance_p = pairs_p2[left], covariance_p[left]
    return found


def _leading(pairs_p2: Tensor, covariance_p: Tensor, n_genes: int) -> Tensor:
    """Return the leading eigenvector of the matrix whose only entries are those of pairs."""
    genes, position_p2 = pairs_p2.unique(return_inverse=True)
    among = np.zeros((len(genes), len(genes)))
    i, j = position_p2.T.numpy()
    among[i, j] = among[j, i] = covariance_p.numpy()
    last = [len(genes) - 1] * 2
    v_g = torch.zeros(n_genes)
    v_g[genes] = torch.from_numpy(eigh(among, subset_by_index=last)[1][:, 0]).float()
    return v_g


def _pairs(own: list[Tensor], others: Tensor | None, free_g: Tensor) -> tuple[Tensor, Tensor]:
    """Return the pairs of genes that covary in all owners, (P, 2), and their covariance."""
    index = free_g.nonzero()[:, 0]
    if len(index) < 2:
        return index.new_zeros(0, 2), torch.zeros(0)
    threshold = (2 * np.log(len(index) * (len(index) - 1) / 2)) ** 0.5
    least_gg = None
    for r_ng in own:
        r_ng = r_ng[:, index]
        r_ng = r_ng / r_ng.std(0).clamp(min=1e-6)
        z_gg = (r_ng.T @ r_ng).abs_().div_(len(r_ng) ** 0.5)
        least_gg = z_gg if least_gg is None else torch.minimum(least_gg, z_gg)
    candidates = (least_gg.triu_(1) > MARGIN * threshold).nonzero()
    if len(candidates) > PAIRS:
        candidates = candidates[least_gg[tuple(candidates.T)].topk(PAIRS).indices]
    pairs = index[candidates]
    means, errors = zip(*(_moments(r_ng, pairs) for r_ng in own))
    mean, error = torch.stack(means), torch.stack(errors)
    chosen = (mean.abs() > threshold * error).all(0)
    chosen &= (mean > 0).all(0) | (mean < 0).all(0)
    if others is not None:
        mean_others, error_others = _moments(others, pairs)
        gap, gap_error = (mean - mean_others).abs(), (error**2 + error_others**2).sqrt()
        chosen &= (gap > threshold * gap_error).all(0)
    return pairs[chosen], mean.mean(0)[chosen]


def _moments(r_ng: Tensor, pairs_p2: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean product of each pair, and its standard error if there is no covariance."""
    means, squares = [], []
    for i, j in (part.T for part in pairs_p2.split(500)):
        product = r_ng[:, i] * r_ng[:, j]
        means.append(product.mean(0))
        squares.append(product.square_().mean(0))
    if not means:
        return torch.zeros(0), torch.zeros(0)
    return torch.cat(means), (torch.cat(squares) / len(r_ng)).sqrt().clamp(min=1e-9)


def _refined(v_g: Tensor, own: list[Tensor], free_g: Tensor) -> Tensor:
    """Return the covariance with the score of all free genes that follow it, zero elsewhere."""
    threshold = (2 * np.log(len(v_g))) ** 0.5
    for _ in range(ROUNDS):
        covariance_g, follows_g = torch.zeros_like(v_g), free_g.clone()
        for r_ng in own:
            score_n = r_ng @ v_g
            score_n = score_n / score_n.std().clamp(min=1e-6)
            product_g = r_ng.T @ score_n
            error_g = (r_ng.square().T @ score_n.square()).sqrt()
            follows_g &= product_g.abs() > threshold * error_g
            covariance_g += product_g / (len(r_ng) * len(own))
        if follows_g.sum() < 2:
            return torch.zeros_like(v_g)
        v_g = covariance_g * follows_g
    return v_g
