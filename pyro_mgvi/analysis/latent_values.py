"""The values of all latents of all cells: as arrays, as tables, and in an AnnData."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.names import cell_index
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


def latents(
    program: Program, adata: AnnData | GroupedCounts, foreign: str = "nan", draw: int | None = None
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

    Returns
    -------
    Tables with the cells' names as index and the columns ``<key>_1``, ...

    Raises
    ------
    SettingsError
        If ``foreign`` is none of the three.
    """
    data = program.read(adata)
    index = cell_index(data, adata)
    return {
        key: pd.DataFrame(value, index, [f"{key}_{d + 1}" for d in range(value.shape[1])])
        for key, value in latent_values(program, data, foreign, draw).items()
    }


def write_latents(
    program: Program, adata: AnnData, foreign: str = "nan", prefix: str = "X_mgvi_"
) -> None:
    """Write all latents to ``adata.obsm``: ``X_mgvi_z``, ``X_mgvi_t_<group>``, ...

    Cells that the model leaves out (``drop_empty``) are NaN.
    """
    data = program.read(adata)
    for key, value in latent_values(program, data, foreign).items():
        whole = np.full((adata.n_obs, value.shape[1]), np.nan, np.float32)
        whole[data.cells] = value
        adata.obsm[prefix + key] = whole
