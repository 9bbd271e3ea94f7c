"""Latents in the data themselves, where scanpy looks for them, and the record of their fit."""

from __future__ import annotations

import json
import warnings

import numpy as np
from anndata import AnnData, ImplicitModificationWarning

from pyro_mgvi.analysis.latent_values import latent_blocks
from pyro_mgvi.core.latents.text import as_text
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.checks import annotated, some
from pyro_mgvi.data.modalities import is_mudata
from pyro_mgvi.data.schema import Schema
from pyro_mgvi.errors import DataError, DataWarning, SettingsError, warn
from pyro_mgvi.support.versions import versions
from pyro_mgvi.training.program import Program, check_model

PREFIX = "X_mgvi_"  # of the keys in obsm


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
        As for :meth:`MGVI.latents <pyro_mgvi.MGVI.latents>`.
    prefix
        Start of the keys.
    counts
        Counts of these cells that are read already: ``mgvi.read(adata, layer=...)``.
    progress
        Show a progress bar, if it takes seconds.

    Raises
    ------
    DataError
        If ``adata`` cannot be written to, or ``counts`` are of other cells.
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
    held = adata if is_mudata(adata) else annotated(adata)
    if adata.isbacked and adata.is_view:
        raise DataError(
            "nothing can be written to a part of a file that is opened in backed mode: take "
            "mgvi.latents(adata), or load the cells first, adata = adata.to_memory()"
        )
    data = program.read_for_results(adata if counts is None else counts)
    if data.names is not None and not data.names.equals(adata.obs_names):
        raise DataError(
            f"counts are of {len(data.names):,} other cells than these {adata.n_obs:,}, or of "
            "these in another order: read them of adata"
        )
    written = {
        prefix + copy.key: np.full((adata.n_obs, copy.dim), np.nan, np.float32)
        for copy in program.families.copies
    }
    for cells, values in latent_blocks(program, data, foreign, progress=progress):
        for key, value_nd in values.items():
            written[prefix + key][data.cells[cells]] = value_nd
    stale = stale_latents(program, held, prefix)
    with warnings.catch_warnings():  # that a view becomes data of its own, as it should
        warnings.simplefilter("ignore", ImplicitModificationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning, module="mudata")
        for key in stale:
            del adata.obsm[key]
        for key, whole in written.items():
            adata.obsm[key] = whole
        record(program, adata, prefix, foreign=foreign)
    if stale:
        warn(f"removed the latents of an earlier fit from adata.obsm: {some(stale)}", DataWarning)


def record(program: Program, adata: AnnData, prefix: str = PREFIX, **more: object) -> None:
    """Write settings, versions, history, discovery and how training went to ``adata.uns``.

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
    families, discovery = program.families, program.discovery
    adata.uns[_record_key(prefix)] = {
        "settings": settings_of(program, **more),
        "versions": versions(),
        "history": program.history.copy(),
        "interrupted": program.interrupted,
        "latents": np.array([prefix + copy.key for copy in families.copies], dtype=object),
        **({"agreement": program.agreement.copy()} if len(program.agreement) else {}),
        **({} if discovery is None else {"discovery": discovery.table.copy()}),
    }


def settings_of(program: Program, **more: object) -> str:
    """Return the settings of a model, and further ones, as JSON."""
    schema, families = program.schema, program.families
    lacking = {} if schema.modalities else {k: len(v) for k, v in schema.absent.items()}
    switches = {**schema.source.flags(), "drop_empty": schema.drop_empty}
    settings = {
        "group_key": schema.group_key,
        "groups": schema.groups,
        "layer": schema.layer,
        **{name: True for name, is_so in switches.items() if is_so},
        "batch_key": schema.batch_key,
        "covariate_keys": list(schema.covariate_keys),
        **({} if schema.sample_key is None else {"sample_key": schema.sample_key}),
        **_modalities(schema),
        **({"genes_left_out": schema.left_out} if schema.left_out else {}),
        **({"genes_absent": lacking} if lacking else {}),
        "latents": [as_text(family, schema.groups) for family in families],
        "seed": program.seed,
    }
    return json.dumps(settings | more)


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
