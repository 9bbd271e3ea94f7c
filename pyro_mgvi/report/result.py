"""What ``pyro-mgvi fit`` wrote, read back and checked."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData

from pyro_mgvi.analysis.latent_values import latent_values
from pyro_mgvi.core import Copy, Latents
from pyro_mgvi.data import GroupedCounts, checks
from pyro_mgvi.data.matching import groups_of
from pyro_mgvi.errors import DataError
from pyro_mgvi.plots.colours import MOST, is_number
from pyro_mgvi.report.blocks import Hint
from pyro_mgvi.support.versions import versions
from pyro_mgvi.training.program import Program

PREFIX = "X_mgvi_"
LEVELS = 24  # a column with more levels is not chosen by itself
CHOSEN = 4  # as many columns are chosen by themselves
NEEDS_MODEL = "pyro-mgvi fit IN.h5ad {} --out RESULT.h5ad --model MODEL"
WITH_MODEL = "pyro-mgvi report RESULT.h5ad --model MODEL --out report.html"


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

    @property
    def interrupted(self) -> bool:
        """Whether a Ctrl-C ended the training."""
        if self.mgvi is not None:
            return self.mgvi.interrupted
        return bool(self.adata.uns["mgvi"].get("interrupted", False))

    @classmethod
    def read(
        cls, adata: AnnData, mgvi: Program | None = None, labels: Sequence[str] | None = None
    ) -> Result:
        """Return the fit recorded in ``adata``, after checking that all of it is there.

        Raises
        ------
        DataError
            Naming what is missing, or what does not fit the model.
        """
        settings, recorded, history = _record(adata, mgvi)
        key = settings["group_key"]
        key = tuple(key) if isinstance(key, list) else key
        checks.keys(adata, key, settings.get("batch_key"))
        n_cells = adata.n_obs
        if settings.get("drop_empty", False):
            adata = adata[_with_latents(adata)]
        group, design = groups_of(adata, key)
        groups = design.groups
        if mgvi is not None:
            latents = mgvi.families
        else:
            latents = Latents(settings["latents"], design)
        for copy in latents.copies:
            _check_latent(adata, PREFIX + copy.key, copy.dim)
        data = None
        if mgvi is not None:
            if (mgvi.schema.group_key, mgvi.schema.groups) != (key, groups):
                raise DataError(
                    f"the model is of other groups: {mgvi.schema.group_key!r} with "
                    f"{checks.some(mgvi.schema.groups)}, the result {key!r} with "
                    f"{checks.some(groups)}; name the model of the same fit"
                )
            data = mgvi.read_for_results(adata)
        of_groups = key if isinstance(key, tuple) else ()
        taken = (key, *of_groups, settings.get("batch_key"))
        columns = (*_labels(adata, labels, taken), *of_groups)
        settings["group_key"] = " x ".join(map(str, of_groups)) or key
        left_out = n_cells - adata.n_obs
        read = adata, left_out, settings, recorded, history, group, latents, columns
        result = cls(*read, mgvi, data)
        result._check_model()
        return result

    @property
    def group_columns(self) -> tuple[str, ...]:
        """What tells the groups: the column, or what several make up, and each of these."""
        keys = self.latents.design.keys
        return (self.settings["group_key"], *(keys if len(keys) > 1 else ()))

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups."""
        return tuple(self.group.cat.categories)

    def copies(self) -> Iterator[OwnCells]:
        """Yield each copy with the values of the cells that own it."""
        for copy in self.latents.copies:
            own_n = self.group.isin(copy.groups).to_numpy()
            values = np.asarray(self.adata.obsm[PREFIX + copy.key], float)[own_n]
            if not np.isfinite(values).all():
                raise DataError(
                    f"obsm[{PREFIX + copy.key!r}] is not finite for cells of "
                    f"{checks.some(copy.groups)}"
                )
            yield OwnCells(copy, own_n, values)

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


def _record(
    adata: AnnData, mgvi: Program | None
) -> tuple[dict[str, Any], dict[str, Any], pd.DataFrame]:
    if "mgvi" not in adata.uns:
        if mgvi is None:
            raise DataError(
                "the file has no uns['mgvi']: it is no result of `pyro-mgvi fit`; "
                "fit it first, or name its model (--model)"
            )
        schema = mgvi.schema
        settings = {
            "group_key": list(schema.group_key)
            if isinstance(schema.group_key, tuple)
            else schema.group_key,
            "layer": schema.layer,
            "batch_key": schema.batch_key,
            "covariate_keys": list(schema.covariate_keys),
            "seed": mgvi.seed,
            **({"drop_empty": True} if schema.drop_empty else {}),
        }
        return settings, versions(), mgvi.history
    record = adata.uns["mgvi"]
    try:
        settings = dict(json.loads(record["settings"]))
        recorded, history = dict(record["versions"]), pd.DataFrame(record["history"])
        wanted = ("group_key",) if mgvi is not None else ("group_key", "latents")
        missing = [f"settings: {key}" for key in wanted if key not in settings]
        columns = ("epoch", "train") if len(history) else ()
        missing += [f"history: {key}" for key in columns if key not in history]
        losses = [key for key in ("epoch", "train", "validation") if key in history]
        missing += [f"history: numbers in {key}" for key in losses if not is_number(history[key])]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"uns['mgvi'] is damaged: {error!r}; fit again") from error
    if missing:
        raise DataError(f"uns['mgvi'] lacks {', '.join(missing)}; fit again")
    return settings, recorded, history


def _with_latents(adata: AnnData) -> np.ndarray:
    """Return which cells have a value of some latent, boolean."""
    values = [np.asarray(adata.obsm[key], float) for key in adata.obsm if key.startswith(PREFIX)]
    known: np.ndarray = np.isfinite(np.hstack([np.zeros((adata.n_obs, 0)), *values])).any(1)
    return known if known.any() else ~known  # without any latent there is something else to say


def _check_latent(adata: AnnData, key: str, dim: int) -> None:
    if key not in adata.obsm:
        found = checks.some([k for k in adata.obsm if k.startswith(PREFIX)], 20) or "none"
        raise DataError(f"obsm[{key!r}] is missing; the latents there are: {found}")
    shape = np.shape(adata.obsm[key])
    if not pd.api.types.is_numeric_dtype(np.asarray(adata.obsm[key]).dtype):
        raise DataError(f"obsm[{key!r}] holds no numbers")
    if shape != (adata.n_obs, dim):
        raise DataError(f"obsm[{key!r}] has shape {shape}, not {(adata.n_obs, dim)}")


def _labels(
    adata: AnnData, labels: Sequence[str] | None, taken: tuple[str | None, ...]
) -> tuple[str, ...]:
    """Return the columns that were asked for, or those that look like labels."""
    if labels is not None:
        if isinstance(labels, str) or not isinstance(labels, Iterable):
            raise DataError(f"labels must be a list of columns of obs, not {labels!r}")
        labels = tuple(labels)
        for column in labels:
            checks.column(adata, column, "label")
        return tuple(column for column in labels if column not in taken)
    chosen = [
        column
        for column in adata.obs
        if column not in taken
        and not pd.api.types.is_numeric_dtype(adata.obs[column])
        and 2 <= adata.obs[column].nunique() <= LEVELS
    ]
    return tuple(chosen[:CHOSEN])


def sample(n: int, most: int) -> np.ndarray:
    """Return positions of all of n cells, or of a random sample of them, in order."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, most, replace=False))


def without_model(result: Result, what: str) -> Hint:
    """Say that the model is missing, and what to run."""
    columns = result.group_columns
    return Hint(
        f"{what}: not here, because this report was made without the trained model. Save the "
        "model with the fit, and name it:",
        NEEDS_MODEL.format(_options(columns[1:] or columns, result.settings)) + "\n" + WITH_MODEL,
    )


def _options(columns: Iterable[str], settings: Mapping[str, Any]) -> str:
    """Return the options of the command line that say what the fit read, and from where."""
    options = ["--group-key", *(shlex.quote(str(column)) for column in columns)]
    for key in ("layer", "batch_key", "sample_key"):
        if settings.get(key) is not None:
            options += [f"--{key.replace('_', '-')}", shlex.quote(str(settings[key]))]
    for key in settings.get("covariate_keys") or ():
        options += ["--covariate-key", shlex.quote(str(key))]
    options += [
        f"--{key.replace('_', '-')}"
        for key in ("use_raw", "round_counts", "drop_empty")
        if settings.get(key)
    ]
    return " ".join(options)
