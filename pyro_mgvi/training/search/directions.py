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
from torch import Tensor

from pyro_mgvi.core.copies import Copy, Latents
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.training.plan import SearchSettings
from pyro_mgvi.training.program import Program
from pyro_mgvi.training.search.modality_reach import (
    covered,
    handed_down,
    having_any,
    owners_of_all,
    reached_features,
)
from pyro_mgvi.training.search.pairs import leading_directions
from pyro_mgvi.training.search.residuals import (
    Direction,
    Residuals,
    residuals_of_groups,
    searched_groups,
    units,
    without,
)


class Taken(NamedTuple):
    """What the search for a copy has found, and all genes that it has looked at for it."""

    owner_b: np.ndarray
    genes_g: Tensor
    directions: list[Direction]


@torch.no_grad()
def find_directions(
    program: Program,
    data: GroupedCounts,
    settings: SearchSettings | None = None,
    copies: Mapping[str, Tensor] | None = None,
    seed: int = 0,
) -> dict[Copy, list[Direction]]:
    r"""Find directions of genes whose residuals covary in the groups that own a copy.

    With residuals :math:`r` of the fit as it is, a pair of genes counts if

    .. math:: |\sum_n r_{ni} r_{nj}| > \sqrt{2 \log (G (G - 1) / 2) \sum_n r_{ni}^2 r_{nj}^2}

    in each of these groups, with one sign, and if the difference to the other groups' covariance
    does, too: by chance, fewer than one pair in all would. The leading eigenvector of the
    covariance of such pairs, refined by every gene that follows it, is one direction; its genes
    are taken, and the rest searched again. Genes explained by a latent of several groups are not
    searched again for a latent of fewer of these groups. Genes explained by a *shared* latent are:
    there, a group's covariance must exceed the others'. A copy of some groups for which nothing is
    found is searched for once more, in residuals without the directions found for all groups; and
    if that finds nothing, also among genes that larger copies took, where a direction counts if no
    more than half of its genes are theirs. A direction whose scores are those of a shared one does
    not count.

    Parameters
    ----------
    program
        A partly trained program.
    data
        Cells; a sample of each group is used.
    settings
        Thresholds; the defaults if not given.
    copies
        Copies of each latent to search for, boolean (S,); all by default.
    seed
        Of the sample.

    Returns
    -------
    Directions by copy, leading ones first; a copy without any is not in it.

    Examples
    --------
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.datasets import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=400, n_shared_genes=60, n_program_genes=60)
    >>> mgvi = MGVI.from_anndata(adata, group_key="group")
    >>> found = find_directions(mgvi, mgvi.read(adata))
    >>> "z" in [copy.key for copy in found]  # the types, which an untrained model has not got
    True
    """
    settings = SearchSettings() if settings is None else settings
    groups = residuals_of_groups(program, data, settings, seed)
    searched_g = best_seen(groups, settings)
    unhidden = groups
    taken: list[Taken] = []
    shared: list[Direction] = []
    found: dict[Copy, list[Direction]] = {}
    families = program.families
    for latent in sorted(families, key=lambda x: -max(map(len, x.owners))):
        for copy in families.copies_of(latent.name):
            owner_b = families.membership(latent.name)[copy.index].numpy()
            if not (copies is None or copies[latent.name][copy.index]):
                continue
            if not searchable(owner_b, data, families, settings, alone=copies is not None):
                continue
            if covered(families, copy):
                continue
            own_b, free_g = owner_b, searched_g
            other_b = ~owner_b
            if families.having:  # of several modalities
                own_b = owners_of_all(families, copy, owner_b)
                free_g = searched_g & reached_features(program, copy)
                other_b = other_b & having_any(families, copy)
            free_g = free_g & _of_all(groups, own_b)
            larger = [each for each in taken if (each.owner_b >= owner_b).all()]
            untaken_g = free_g.clone()
            for each in larger:
                untaken_g &= ~each.genes_g
            kinds = (groups,) if unhidden is groups else (groups, unhidden)
            searches = [(residuals, untaken_g) for residuals in kinds]
            if larger:  # owners' own programs may agree in some genes, and these are taken then
                searches += [(residuals, free_g) for residuals in kinds]
            directions, seen_g = _first_found(searches, own_b, other_b, larger, shared, settings)
            if directions:
                found[copy] = directions
            if not all(owner_b[b] for b in groups):
                taken.append(Taken(owner_b, seen_g, directions))
            elif directions:  # what is shared and not learnt yet may hide what is not shared
                shared += directions
                unhidden = unhidden | {
                    b: without(unhidden[b], directions) for b in groups if own_b[b]
                }
    return handed_down(program, found, settings)


def _first_found(
    searches: list[tuple[dict[int, Residuals], Tensor]],
    own_b: np.ndarray,
    other_b: np.ndarray,
    larger: list[Taken],
    shared: list[Direction],
    settings: SearchSettings,
) -> tuple[list[Direction], Tensor]:
    """Return the directions of the first search that has any, and the genes it has looked at."""
    for groups, genes_g in searches:
        own = units([groups[b] for b in groups if own_b[b]], settings.least_cells)
        others = [groups[b] for b in groups if other_b[b]]
        found, left_g = leading_directions(own, others, genes_g, settings)
        directions = [
            each
            for each in found
            if not _known(each, larger, settings) and not _same(each, shared, settings)
        ]
        if directions:
            break
    return directions, genes_g & ~left_g


def _of_all(groups: dict[int, Residuals], owner_b: np.ndarray) -> Tensor:
    """Return which genes all owners have, boolean; True where nobody lacks any."""
    common = torch.tensor(True)
    for b, group in groups.items():
        if owner_b[b] and group.measured_g is not None:
            common = common & group.measured_g
    return common


def _known(direction: Direction, larger: list[Taken], settings: SearchSettings) -> bool:
    """Return whether most genes of a direction are those of one that more groups share."""
    genes_g = direction.loading_g != 0
    shares = (genes_g[each.loading_g != 0].sum() for by in larger for each in by.directions)
    return any(share > settings.same_genes * genes_g.sum() for share in shares)


def _same(direction: Direction, shared: list[Direction], settings: SearchSettings) -> bool:
    """Return whether a direction is one of all groups: it tells cells apart as that one does."""
    # Of several modalities, a shared direction may be of the cells that have them all.
    scores = ((direction.scores_of(each.cells), each.scores_of(direction.cells)) for each in shared)
    correlations = (
        torch.corrcoef(torch.stack(pair))[0, 1].abs() for pair in scores if len(pair[0]) > 1
    )
    return any(float(each) > settings.same_score for each in correlations)


def searchable(
    owner_b: np.ndarray,
    data: GroupedCounts,
    families: Latents,
    settings: SearchSettings,
    alone: bool = False,
) -> bool:
    """Return whether there are cells enough of a copy's owners, and of others to compare with.

    With ``alone``, what is shared has been learnt from others' cells: owners are enough.
    """
    sizes_b = np.bincount(data.group_n, minlength=len(owner_b))
    sizes_b = sizes_b * searched_groups(families.design, sizes_b, settings.least_cells)
    compared = alone or owner_b.all() or sizes_b[~owner_b].sum() >= settings.least_cells
    return bool(sizes_b[owner_b].sum() >= settings.least_cells and compared)


def best_seen(groups: dict[int, Residuals], settings: SearchSettings) -> Tensor:
    """Return which genes are searched, boolean: those in which a change shows best."""
    slopes = [group.slope_g for group in groups.values()]
    slope_g = sum(slopes[1:], start=slopes[0]) if slopes else torch.zeros(0, dtype=torch.float32)
    has = [group.measured_g for group in groups.values() if group.measured_g is not None]
    if has:  # a gene of few groups shows in these as well as a gene of all in all
        slope_g = slope_g / torch.stack(has).sum(0).clamp(min=1)
    free_g = torch.zeros(len(slope_g), dtype=torch.bool)
    free_g[slope_g.topk(min(settings.max_genes, len(slope_g))).indices] = True
    return free_g
