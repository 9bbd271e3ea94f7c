"""Dimensions of one modality that repeat what other latents hold."""

from __future__ import annotations

import numpy as np
import torch

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
    narrow = [copy for copy in families.copies if covered(families, copy)]
    if not narrow:
        return 0
    cells = np.sort(np.random.default_rng(seed).permutation(len(data))[: settings.start_cells])
    part = data.subset(cells)
    means: dict[str, list[np.ndarray]] = {copy.key: [] for copy in families.copies}
    for _, posterior in program.posteriors(part):
        for copy in families.copies:
            owned = posterior.owned(copy.latent)[copy.index].unsqueeze(-1)
            value = posterior.mean(copy.latent)[copy.index] * owned
            means[copy.key].append(value.cpu().numpy())
    whole = {key: np.concatenate(found) for key, found in means.items()}
    for copy in narrow:
        owner_n = np.isin(part.group_n, [families.groups.index(group) for group in copy.groups])
        others = [whole[other.key] for other in families.copies if other not in narrow]
        x_nk = np.column_stack(others)[owner_n]
        for dim in range(copy.dim):
            y_n = whole[copy.key][owner_n, dim]
            if y_n.std() > 1e-6 and foretold(x_nk, y_n) > settings.echo:
                program.model.active.of(copy)[dim] = False
                closed += 1
    return closed


def foretold(x_nk: np.ndarray, y_n: np.ndarray) -> float:
    """Return the share of a variable's variance that its value in similar cells foretells.

    Examples
    --------
    >>> x_nk = np.random.default_rng(0).normal(size=(500, 1))
    >>> foretold(x_nk, x_nk[:, 0] ** 2) > 0.9
    True
    >>> foretold(x_nk, np.random.default_rng(1).normal(size=500)) < 0.1
    True
    """
    from sklearn.neighbors import NearestNeighbors  # takes a second to import

    if len(y_n) <= NEIGHBOURS + 1:
        return 0.0
    _, at = NearestNeighbors(n_neighbors=NEIGHBOURS + 1).fit(x_nk).kneighbors(x_nk)
    guess_n = y_n[at[:, 1:]].mean(1)
    return float(1 - np.mean((y_n - guess_n) ** 2) / y_n.var())
