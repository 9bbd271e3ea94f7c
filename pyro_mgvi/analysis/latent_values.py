"""The values of all latents of all cells: as arrays, as tables, and in an AnnData."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from anndata import AnnData, ImplicitModificationWarning

from pyro_mgvi.core.latents.text import as_text
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.checks import annotated, some
from pyro_mgvi.data.modalities import is_mudata
from pyro_mgvi.data.names import cell_index
from pyro_mgvi.data.schema import Schema
from pyro_mgvi.errors import DataError, DataWarning, SettingsError, warn
from pyro_mgvi.support.values import one_of, whole_number
from pyro_mgvi.support.versions import versions
from pyro_mgvi.training.program import Program, check_model

PREFIX = "X_mgvi_"  # of the keys in obsm
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
    index = cell_index(data, adata)
    return {
        key: pd.DataFrame(value, index, [f"{key}_{d + 1}" for d in range(value.shape[1])])
        for key, value in latent_values(program, data, foreign, draw, progress).items()
    }


def write_latents(
    program: Program,
    adata: AnnData,
    foreign: str = "nan",
    prefix: str = PREFIX,
    counts: GroupedCounts | None = None,
    progress: bool = True,
) -> None:
    """Write all latents to ``adata.obsm``: ``X_mgvi_z``, ``X_mgvi_t_<group>``, ...

    Cells that the model leaves out (``drop_empty``) are NaN. Latents of an earlier fit under the
    same prefix are removed; ``uns["mgvi"]`` records what wrote these (:func:`record`).

    Parameters
    ----------
    program
        A trained :class:`~pyro_mgvi.MGVI`.
    adata
        Annotated data; of a model of several modalities, the MuData.
    foreign
        As for :func:`latents`.
    prefix
        Start of the keys.
    counts
        Counts of these cells that are read already: ``mgvi.read(adata, layer=...)``.
    progress
        Show a progress bar, if it takes seconds.

    Raises
    ------
    DataError
        If ``adata`` cannot be written to.
    SettingsError
        If ``foreign`` or ``prefix`` is invalid.

    Warns
    -----
    DataWarning
        Naming the latents of an earlier fit.
    UntrainedWarning
        If the model was never trained.
    """
    check_model(program)
    if isinstance(adata, GroupedCounts):
        raise DataError(
            "write_latents needs the AnnData to write to: mgvi.write_latents(adata, counts=counts)"
        )
    if not isinstance(prefix, str) or not prefix or "/" in prefix:
        raise SettingsError(f"prefix must be a text without '/', not {prefix!r}")
    if not is_mudata(adata):
        annotated(adata)
    if adata.isbacked and adata.is_view:
        raise DataError(
            "nothing can be written to a part of a file that is opened in backed mode: take "
            "mgvi.latents(adata), or load the cells first, adata = adata.to_memory()"
        )
    data = program.read_for_results(adata if counts is None else counts)
    if len(data) and data.cells.max() >= adata.n_obs:
        raise DataError(f"counts are of other cells than these {adata.n_obs}: read them of adata")
    written = {
        prefix + copy.key: np.full((adata.n_obs, copy.dim), np.nan, np.float32)
        for copy in program.families.copies
    }
    for cells, values in latent_blocks(program, data, foreign, progress=progress):
        for key, value_nd in values.items():
            written[prefix + key][data.cells[cells]] = value_nd
    stale = stale_latents(program, adata, prefix)
    with warnings.catch_warnings():  # that a view becomes data of its own, as it should
        warnings.simplefilter("ignore", ImplicitModificationWarning)
        for key in stale:
            del adata.obsm[key]
        for key, whole in written.items():
            adata.obsm[key] = whole
        record(program, adata, prefix, foreign=foreign)
    if stale:
        warn(f"removed the latents of an earlier fit from adata.obsm: {some(stale)}", DataWarning)


def record(program: Program, adata: AnnData, prefix: str = PREFIX, **more: object) -> None:
    """Write settings, versions, history and how training went to ``adata.uns``.

    Parameters
    ----------
    program
        What the latents are of.
    adata
        Where they are.
    prefix
        Of their keys. The record of the usual one is ``uns["mgvi"]``.
    more
        Further settings, such as the command that was run.
    """
    schema, families = program.schema, program.families
    switches = {**schema.source.flags(), "drop_empty": schema.drop_empty}
    settings = {
        "group_key": schema.group_key,
        "layer": schema.layer,
        **{name: True for name, is_so in switches.items() if is_so},
        "batch_key": schema.batch_key,
        "covariate_keys": list(schema.covariate_keys),
        **({} if schema.sample_key is None else {"sample_key": schema.sample_key}),
        **_modalities(schema),
        "latents": [as_text(family, schema.groups) for family in families],
        "seed": program.seed,
    }
    adata.uns[_record_key(prefix)] = {
        "settings": json.dumps(settings | more),
        "versions": versions(),
        "history": program.history.copy(),
        "interrupted": program.interrupted,
        "latents": np.array([prefix + copy.key for copy in families.copies], dtype=object),
        **({"agreement": program.agreement.copy()} if len(program.agreement) else {}),
    }


def _modalities(schema: Schema) -> dict[str, object]:
    """Return the modalities of a MuData, which groups have each, and where counts are."""
    if not schema.modalities:
        return {}
    layers = {each.name: each.layer for each in schema.modalities if each.layer is not None}
    names = [each.name for each in schema.modalities]
    found: dict[str, object] = {"modalities": names, "having": schema.having}
    return found | ({"layers": layers} if layers else {})


def _record_key(prefix: str) -> str:
    return "mgvi" if prefix == PREFIX else f"mgvi_{prefix}"


def _recorded(adata: AnnData, key: str) -> list[str] | None:
    """Return the latents that a record names, or None if there is none that does."""
    try:
        return list(map(str, adata.uns[key]["latents"]))
    except (KeyError, TypeError, IndexError):
        return None


def stale_latents(program: Program, adata: AnnData, prefix: str = PREFIX) -> list[str]:
    """Return the keys of an earlier fit's latents that this one has not got."""
    kept = {prefix + copy.key for copy in program.families.copies}
    return [key for key in _earlier(adata, prefix) if key not in kept]


def _earlier(adata: AnnData, prefix: str) -> list[str]:
    """Return the latents that an earlier fit has written under a prefix.

    Without a record, as of earlier versions, whatever has the usual prefix is a latent.
    """
    recorded = _recorded(adata, _record_key(prefix))
    if recorded is not None:
        return [key for key in recorded if key in adata.obsm]
    if prefix != PREFIX:
        return []
    records = (_recorded(adata, key) for key in adata.uns if str(key).startswith("mgvi_"))
    others = {key for found in records for key in found or ()}
    return [key for key in adata.obsm if key.startswith(prefix) and key not in others]
