"""What ``pyro-mgvi fit`` wrote, read back and checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData

from pyro_mgvi.analysis.latent_values import latent_values
from pyro_mgvi.core import Copy, Latents
from pyro_mgvi.core.modalities import Modalities
from pyro_mgvi.data import GroupedCounts, checks
from pyro_mgvi.data.modalities import is_mudata, side_by_side
from pyro_mgvi.data.schema import modalities_of
from pyro_mgvi.errors import DataError
from pyro_mgvi.plots.colours import MOST, is_number
from pyro_mgvi.report.result.record import (
    PREFIX,
    check_latent,
    chosen_labels,
    groups_of_fit,
    modalities_read,
    recorded_fit,
    with_latents,
)
from pyro_mgvi.training.program import Program


class OwnCells(NamedTuple):
    """One copy of a latent with the cells that own it, and their posterior means."""

    copy: Copy
    own_n: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Result:
    """A fit as recorded in an AnnData, and its model if it was saved.

    Attributes
    ----------
    adata
        Cells with latents in ``obsm``.
    n_left_out
        How many cells have none, because they are without a count (``drop_empty``).
    settings, versions, history
        As recorded in ``uns["mgvi"]``.
    group
        Group of each cell, categories in the model's order. ``settings["group_key"]`` is its name:
        of several columns, "tissue x treatment".
    latents
        The families of latents.
    labels
        Columns of ``obs`` to colour by, beside the group.
    mgvi, data
        The model and its counts, or None.
    modalities
        Whose features these are, if of several modalities.
    """

    adata: AnnData
    n_left_out: int
    settings: dict[str, Any]
    versions: dict[str, Any]
    history: pd.DataFrame
    group: pd.Series
    latents: Latents
    labels: tuple[str, ...]
    mgvi: Program | None = None
    data: GroupedCounts | None = None
    modalities: Modalities | None = None

    @property
    def interrupted(self) -> bool:
        """Whether a Ctrl-C ended the training."""
        if self.mgvi is not None:
            return self.mgvi.interrupted
        return bool(self.adata.uns["mgvi"].get("interrupted", False))

    @classmethod
    def read(
        cls,
        adata: AnnData | Any,
        mgvi: Program | None = None,
        labels: Sequence[str] | None = None,
    ) -> Result:
        """Return the fit recorded in ``adata``, after checking that all of it is there.

        The modalities of a MuData are put side by side.

        Raises
        ------
        DataError
            Naming what is missing, or what does not fit the model.
        """
        if not is_mudata(adata):
            adata = checks.annotated(_whole(adata))
        settings, recorded, history = recorded_fit(adata, mgvi)
        key = settings["group_key"]
        key = tuple(key) if isinstance(key, list) else key
        several = None
        if is_mudata(adata):
            modalities = modalities_read(adata, mgvi, settings)
            several = modalities_of(modalities)
            adata = side_by_side(adata, modalities, _needed(key, settings, labels))
        checks.keys(adata, key, settings.get("batch_key"))
        n_cells = adata.n_obs
        if settings.get("drop_empty", False):
            adata = adata[with_latents(adata)]
        group, design = groups_of_fit(adata, key, mgvi, settings)
        if mgvi is not None:
            latents = mgvi.families
        else:
            latents = Latents(settings["latents"], design, settings.get("having"))
        for copy in latents.copies:
            check_latent(adata, PREFIX + copy.key, copy.dim)
        data = None if mgvi is None else mgvi.read_for_results(adata)
        of_groups = key if isinstance(key, tuple) else ()
        taken = (key, *of_groups, settings.get("batch_key"))
        columns = (*chosen_labels(adata, labels, taken), *of_groups)
        settings["group_key"] = " x ".join(map(str, of_groups)) or key
        left_out = n_cells - adata.n_obs
        read = adata, left_out, settings, recorded, history, group, latents, columns
        result = cls(*read, mgvi, data, several)
        result._check_model()
        return result

    @property
    def group_columns(self) -> tuple[str, ...]:
        """What tells the groups: the column, or what several make up, and each of these."""
        keys = self.latents.design.keys
        return (self.settings["group_key"], *(keys if len(keys) > 1 else ()))

    @property
    def n_genes(self) -> int:
        """How many genes the fit is of: those that were chosen, where some were."""
        if self.mgvi is not None:
            return len(self.mgvi.schema.genes)
        return int(self.adata.n_vars) - int(self.settings.get("genes_left_out", 0))

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups."""
        return tuple(self.group.cat.categories)

    def copies(self) -> Iterator[OwnCells]:
        """Yield each copy with the values of the cells that own it.

        One that all groups own which have what it reaches is shared here.
        """
        for copy in self.latents.copies:
            own_n = self.group.isin(copy.groups).to_numpy()
            values = np.asarray(self.adata.obsm[PREFIX + copy.key], float)[own_n]
            if not np.isfinite(values).all():
                raise DataError(
                    f"obsm[{PREFIX + copy.key!r}] is not finite for cells of "
                    f"{checks.some(copy.groups)}"
                )
            if self.latents.everyones(copy) and not copy.shared:
                reach = " or ".join(self.latents.modalities_of(copy.latent))
                copy = replace(copy, shared=True, owners=f"all groups with {reach}")
            yield OwnCells(copy, own_n, values)

    def alone(self, copy: Copy) -> str:
        """Return the modalities that a copy reaches, in words; empty if it reaches all."""
        reach = self.latents.modalities_of(copy.latent)
        return "" if len(reach) == len(self.latents.having) else " and ".join(reach)

    def column(self, name: str) -> pd.Series:
        """Return a column of ``obs``: numbers only where there are too many to tell apart."""
        if name == self.settings["group_key"]:
            return self.group
        values: pd.Series = self.adata.obs[name]
        few = is_number(values) and values.nunique() <= MOST
        return values.astype("category") if few else values

    @property
    def first_label(self) -> str | None:
        """Return the most important label that is no number."""
        named = (name for name in self.labels if not is_number(self.column(name)))
        return next(named, None)

    def colours(self, own_n: np.ndarray) -> Iterator[tuple[str, pd.Series]]:
        """Yield the columns that tell cells apart among these, no two the same partition.

        Each with the labels of all cells; missing ones are no label.
        """
        batch = self.settings.get("batch_key")
        seen: list[np.ndarray] = []
        for name in (self.settings["group_key"], *self.labels, *([batch] if batch else [])):
            values = self.column(name)
            codes = pd.factorize(values[own_n])[0]
            if codes.max() > 0 and not any((codes == other).all() for other in seen):
                seen.append(codes)
                yield name, values

    def _check_model(self) -> None:
        """Refuse a model whose latents are not those in the file."""
        copies = list(self.copies())
        if self.mgvi is None or self.data is None:
            return
        known = latent_values(self.mgvi, self.data)
        for copy, own_n, values in copies:
            if not np.allclose(values, known[copy.key][own_n], atol=1e-3):
                raise DataError(
                    f"the model does not give the latents in obsm[{PREFIX + copy.key!r}]: "
                    "name the model that the same fit saved"
                )


def _whole(adata: AnnData) -> AnnData:
    """Return cells in memory, which may be on disk (anndata's read_lazy)."""
    return adata if isinstance(adata.obs, pd.DataFrame) else adata.to_memory()


def _needed(
    key: str | tuple[str, ...], settings: dict[str, Any], labels: Sequence[str] | None
) -> tuple[str, ...]:
    """Return the columns of ``obs`` that a report cannot do without."""
    batch = settings.get("batch_key")
    asked = () if labels is None or isinstance(labels, str) else tuple(labels)
    keys = key if isinstance(key, tuple) else (key,)
    return (*keys, *([] if batch is None else [batch]), *asked)


def sample(n: int, most: int) -> np.ndarray:
    """Return positions of all of n cells, or of a random sample of them, in order."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, most, replace=False))
