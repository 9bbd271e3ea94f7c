"""The values of all latents of all cells, as arrays."""

from __future__ import annotations

import numpy as np
import torch

from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.training.program import Program

FOREIGN = ("nan", "zero", "encode")


def check_foreign(foreign: str) -> None:
    """Refuse an unknown way to report copies that a cell does not own."""
    if foreign not in FOREIGN:
        raise SettingsError(f"foreign must be one of {FOREIGN}, not {foreign!r}")


def reported(value_snd: torch.Tensor, owned_sn: torch.Tensor, foreign: str) -> torch.Tensor:
    """Return the values (S, n, d) of a family as ``foreign`` wants those of foreign copies."""
    if foreign == "encode":
        return value_snd
    return value_snd.where(owned_sn.unsqueeze(-1), torch.nan if foreign == "nan" else 0.0)


def latent_values(
    program: Program, data: GroupedCounts, foreign: str = "nan", draw: int | None = None
) -> dict[str, np.ndarray]:
    """Return the posterior mean of every copy, (n, dim) each, by key.

    Parameters
    ----------
    program
        A trained program.
    data
        The cells.
    foreign, draw
        See :meth:`MGVI.latents <pyro_mgvi.MGVI.latents>`.

    Raises
    ------
    SettingsError
        If ``foreign`` is unknown.
    """
    check_foreign(foreign)
    families = program.families
    out = {copy.key: np.empty((len(data), copy.dim), np.float32) for copy in families.copies}
    generator = None if draw is None else torch.Generator().manual_seed(draw)
    for cells, posterior in program.posteriors(data, keep_sparse=True):
        values = posterior.means() if draw is None else posterior.draw(generator)
        for name, value_snd in values.items():
            shown = reported(value_snd, posterior.owned(name), foreign).cpu().numpy()
            for copy, value_nd in zip(families.copies_of(name), shown, strict=True):
                out[copy.key][cells] = value_nd
    return out
