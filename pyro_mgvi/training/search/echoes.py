"""Dimensions of one modality that repeat what other latents hold."""

from __future__ import annotations

import numpy as np
import torch

from pyro_mgvi.core.copies import Copy, Latents
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.training.plan import SearchSettings
from pyro_mgvi.training.program import Program
from pyro_mgvi.training.search.modality_reach import covered

NEIGHBOURS = 15  # cells from which a dimension is foretold


@torch.no_grad()
def close_echoes(
    program: Program, data: GroupedCounts, settings: SearchSettings, seed: int = 0
) -> int:
    """Close dimensions of fewer modalities that the other latents foretell.

    What several modalities show may be written down once more in the latent of one, where it is
    cheaper: it says a little of what a shared dimension has left. Such an echo is no variation of
    that modality alone.

    Parameters
    ----------
    program, data, settings, seed
        As for :func:`~pyro_mgvi.training.search.find_directions`.

    Returns
    -------
    How many dimensions were closed.
    """
    families, closed = program.families, 0
    if not families.having:
        return 0
    narrow = [copy for copy in families.copies if not copy.shared or covered(families, copy)]
    cells = np.sort(np.random.default_rng(seed).permutation(len(data))[: settings.start_cells])
    part = data.subset(cells)
    whole = _owned_means(program, part)
    for copy in narrow:
        owner_n = np.isin(part.group_n, [families.groups.index(group) for group in copy.groups])
        others = [
            whole[other.key]
            for other in families.copies
            if other.key != copy.key and _says_more(families, other, copy)
        ]
        if not others:
            continue
        x_nk = np.column_stack(others)[owner_n]
        for dim in range(copy.dim):
            y_n = whole[copy.key][owner_n, dim]
            if y_n.std() > 1e-6 and foretold(x_nk, y_n) > settings.echo:
                program.model.active.of(copy)[dim] = False
                closed += 1
    return closed


def _says_more(families: Latents, other: Copy, copy: Copy) -> bool:
    """Return whether one copy is of more groups, or of more modalities, than another."""
    wider = set(families.modalities_of(other.latent)) > set(families.modalities_of(copy.latent))
    return set(other.groups) > set(copy.groups) or wider


def _owned_means(program: Program, part: GroupedCounts) -> dict[str, np.ndarray]:
    """Return the posterior means of each copy, (n, dim); zeros for cells that do not own it."""
    copies = program.families.copies
    means: dict[str, list[np.ndarray]] = {copy.key: [] for copy in copies}
    for _, posterior in program.posteriors(part):
        for copy in copies:
            owned_n1 = posterior.owned(copy.latent)[copy.index].unsqueeze(-1)
            value_nd = posterior.mean(copy.latent)[copy.index] * owned_n1
            means[copy.key].append(value_nd.cpu().numpy())
    return {key: np.concatenate(found) for key, found in means.items()}


def foretold(x_nk: np.ndarray, y_n: np.ndarray) -> float:
    """Return the share of a variable's variance that its value in similar cells foretells.

    Examples
    --------
    >>> x_nk = np.random.default_rng(0).normal(size=(500, 1))
    >>> foretold(x_nk, np.sin(2 * x_nk[:, 0])) > 0.9
    True
    >>> foretold(x_nk, np.random.default_rng(1).normal(size=500)) < 0.1
    True
    """
    from sklearn.neighbors import NearestNeighbors  # takes a second to import

    if len(y_n) <= NEIGHBOURS + 1:
        return 0.0
    _, at = NearestNeighbors(n_neighbors=NEIGHBOURS + 1).fit(x_nk).kneighbors(x_nk)
    guess_n = y_n[at[:, 1:]].mean(1)
    error = np.mean((y_n - guess_n) ** 2) / y_n.var()
    return max(0.0, float(1 - error))
