"""The values of all latents of all cells: as arrays and as tables."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.names import cell_index
from pyro_mgvi.support.values import one_of, whole_number
from pyro_mgvi.training.program import Program, check_model

FOREIGN = ("nan", "zero", "encode")


def check_foreign(foreign: str) -> None:
    """Refuse an unknown way to report copies that a cell does not own."""
    one_of("foreign", foreign, FOREIGN)


def reported(value_snd: torch.Tensor, owned_sn: torch.Tensor, foreign: str) -> torch.Tensor:
    """Return the values (S, n, d) of a family as ``foreign`` wants those of foreign copies."""
    if foreign == "encode":
        return value_snd
    return value_snd.where(owned_sn.unsqueeze(-1), torch.nan if foreign == "nan" else 0.0)


def latent_values(
    program: Program,
    data: GroupedCounts,
    foreign: str = "nan",
    draw: int | None = None,
    progress: bool = False,
) -> dict[str, np.ndarray]:
    """Return the posterior mean of every copy, (n, dim) each, by key.

    Parameters
    ----------
    program
        A trained program.
    data
        The cells.
    foreign, draw, progress
        See :meth:`MGVI.latents <pyro_mgvi.MGVI.latents>`.

    Raises
    ------
    SettingsError
        If ``foreign`` is unknown.
    """
    copies = program.families.copies
    out = {copy.key: np.empty((len(data), copy.dim), np.float32) for copy in copies}
    for cells, values in latent_blocks(program, data, foreign, draw, progress):
        for key, value_nd in values.items():
            out[key][cells] = value_nd
    return out


def latent_blocks(
    program: Program,
    data: GroupedCounts,
    foreign: str = "nan",
    draw: int | None = None,
    progress: bool = False,
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Yield positions of some cells, in order, and the values of their latents by key.

    Parameters are those of :func:`latent_values`, which holds all of them at once.
    """
    check_foreign(foreign)
    families = program.families
    if draw is not None:
        draw = whole_number("draw", draw, least=0)
    generator = None if draw is None else torch.Generator().manual_seed(draw)
    shown = "encoding" if progress else None
    for cells, posterior in program.posteriors(data, keep_sparse=True, progress=shown):
        values = posterior.means() if draw is None else posterior.draw(generator)
        found: dict[str, np.ndarray] = {}
        for name, value_snd in values.items():
            value_snd = reported(value_snd, posterior.owned(name), foreign).cpu()
            keys = (copy.key for copy in families.copies_of(name))
            found |= dict(zip(keys, value_snd.numpy(), strict=True))
        yield cells, found


def latents(
    program: Program,
    adata: AnnData | GroupedCounts,
    foreign: str = "nan",
    draw: int | None = None,
    progress: bool = True,
) -> dict[str, pd.DataFrame]:
    """Return the posterior mean of every latent copy, cells x dim each, by key.

    Parameters
    ----------
    program
        A trained :class:`~pyro_mgvi.MGVI`.
    adata
        Annotated data (or :class:`~pyro_mgvi.GroupedCounts`).
    foreign
        What to report of a copy for cells that do not own it: ``"nan"``; ``"zero"``, the
        value in the model; or ``"encode"``, what the encoder says, which carries little
        and is penalised towards zero. Nan and zero tell who owns what: use neither to
        compare groups.
    draw
        Seed of one posterior draw to return instead of the mean: what a latent carries
        beyond its own uncertainty.
    progress
        Show a progress bar, if it takes seconds.

    Returns
    -------
    Tables with the cells' names as index and the columns ``<key>_1``, ...

    Raises
    ------
    SettingsError
        If ``foreign`` is none of the three.

    Warns
    -----
    UntrainedWarning
        If the model was never trained.
    """
    check_model(program)
    data = program.read_for_results(adata)
    index = cell_index(data)
    return {
        key: pd.DataFrame(value, index, [f"{key}_{d + 1}" for d in range(value.shape[1])])
        for key, value in latent_values(program, data, foreign, draw, progress).items()
    }
