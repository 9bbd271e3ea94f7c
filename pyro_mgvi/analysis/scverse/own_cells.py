"""The cells that own a latent, ready for neighbours and clusters."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData

from pyro_mgvi.analysis.gene_effects.effects import dims_in_use
from pyro_mgvi.analysis.scverse.written import PREFIX, write_latents
from pyro_mgvi.core.copies import Copy
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.checks import annotated, keys, some
from pyro_mgvi.data.modalities import is_mudata, labelled
from pyro_mgvi.data.names import known_labels, named_groups
from pyro_mgvi.errors import DataError, DataWarning, SettingsError, warn
from pyro_mgvi.training.program import Program


def own(mgvi: Program, adata: AnnData, name: str) -> AnnData:
    """Return a copy of the cells that own a latent, in which that latent is finite.

    Other groups' latents are NaN for a cell, which neighbours and clusters refuse. Here they are
    left out: ``scanpy.pp.neighbors(own_cells, use_rep="X_mgvi_t_Ileum")`` works.

    Parameters
    ----------
    mgvi
        A trained :class:`~pyro_mgvi.MGVI`.
    adata
        Annotated data. Latents that :meth:`~pyro_mgvi.MGVI.write_latents` has written are taken as
        they are; without them, they are computed from the counts. Of a MuData, the labels and the
        latents that are written are taken, and no counts.
    name
        A latent (``"t_Ileum"``), or what tells it from the others of its family (``"Ileum"``);
        or a level of a column, where several make up the groups.

    Returns
    -------
    Annotated data with ``obsm["X_mgvi_<key>"]`` of the latents that all of these cells own.

    Raises
    ------
    SettingsError
        If no latent has that name, or several that other cells own.
    DataError
        If no cell owns it.

    Warns
    -----
    DataWarning
        If none of the latent's dimensions is in use: neighbours of equal cells mean nothing.

    Examples
    --------
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.datasets.simulate import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=120, n_shared_genes=60, n_program_genes=20)
    >>> mgvi = MGVI.from_anndata(adata, group_key="group", latents=["z:2", "t:1"])
    >>> cells = own(mgvi, adata, "group1")
    >>> sorted(cells.obsm), bool(np.isfinite(cells.obsm["X_mgvi_t_group1"]).all())
    (['X_mgvi_t_group1', 'X_mgvi_z'], True)
    """
    named = _named(mgvi, name)
    groups = set(named[0].groups)
    if isinstance(adata, GroupedCounts):
        raise DataError("own needs the AnnData that the counts were read from")
    of_several, held = is_mudata(adata), annotated(labelled(adata))
    keys(held, mgvi.schema.group_key)
    mine = _of_groups(mgvi, held, groups)
    if not mine.any():
        raise DataError(f"no cell owns {name}: it belongs to {some(sorted(groups), 20)}")
    if not of_several and adata.isbacked and (adata.is_view or held is not adata):
        held = annotated(adata.to_memory())  # of a part of a file no part can be taken
    cells = held[mine].to_memory(copy=True)
    kept = [copy for copy in mgvi.families.copies if groups <= set(copy.groups)]
    if any(PREFIX + copy.key not in cells.obsm for copy in kept):
        if of_several:
            raise DataError(
                "the MuData has no latents of this model: call mgvi.write_latents(mdata)"
            )
        write_latents(mgvi, cells)
    for copy in mgvi.families.copies:
        if copy not in kept:
            cells.obsm.pop(PREFIX + copy.key, None)
    finite = [np.isfinite(cells.obsm[PREFIX + copy.key]).all(axis=1) for copy in kept]
    present = np.all(finite, axis=0)
    if not present.all():  # of cells that the model leaves out
        cells = cells[present].copy()
    for copy in named:
        if not len(dims_in_use(mgvi, copy)):
            warn(
                f"{copy.key} has no dimension in use: it is the same in every cell, and neighbours "
                "or clusters by it mean nothing",
                DataWarning,
            )
    return cells


def _of_groups(mgvi: Program, adata: AnnData, groups: set[str]) -> np.ndarray:
    """Return which cells are of some groups, boolean; others may be of none that it knows."""
    design, key = mgvi.families.design, mgvi.schema.group_key
    columns = key if isinstance(key, tuple) else (key,)
    wanted = [levels for levels, group in zip(design.levels_gc, design) if group in groups]
    cells = pd.MultiIndex.from_arrays([known_labels(adata.obs[column])[0] for column in columns])
    mine: np.ndarray = cells.isin(wanted)
    return mine


def _named(mgvi: Program, name: str) -> list[Copy]:
    """Return the latents that a key or a label means, all of the same owners."""
    copies = mgvi.families.copies
    named = [copy for copy in copies if copy.key == name]
    named = named or [copy for copy in copies if copy.label == str(name) and not copy.shared]
    if not named and str(name) in _levels(mgvi):
        codes = named_groups(mgvi.families, name).codes
        owners = {mgvi.schema.groups[code] for code in codes}
        named = [copy for copy in copies if set(copy.groups) == owners and not copy.shared]
    if not named:
        raise SettingsError(
            f"no latent is called {name!r}: name one of {[copy.key for copy in copies]}"
        )
    if len({copy.groups for copy in named}) > 1:
        raise SettingsError(
            f"{name!r} means several latents of other cells each: name one of "
            f"{[copy.key for copy in named]}"
        )
    return named


def _levels(mgvi: Program) -> set[str]:
    """Return the levels of all columns, where several make up the groups."""
    design = mgvi.families.design
    return {level for levels in design.levels_gc for level in levels} - set(design.groups)
