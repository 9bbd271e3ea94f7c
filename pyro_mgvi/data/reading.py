"""From an AnnData to checked counts and integer codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from anndata import AnnData
from scipy import sparse

from pyro_mgvi.core.interfaces import DataKind
from pyro_mgvi.data import checks
from pyro_mgvi.data.schema import Schema

Counts = sparse.csr_matrix | np.ndarray


class Read(NamedTuple):
    """What was read; see :class:`~pyro_mgvi.data.GroupedCounts`."""

    x: Counts
    group_n: np.ndarray
    batch_n: np.ndarray
    covariate_nc: np.ndarray
    cells: np.ndarray


def read_new(
    adata: AnnData,
    group_key: str,
    layer: str | None,
    batch_key: str | None,
    covariate_keys: Sequence[str],
    drop_empty: bool,
    data_kind: DataKind,
) -> tuple[Schema, Read]:
    """Read data for a new model: they decide its schema."""
    checks.keys(adata, group_key, batch_key, covariate_keys)
    x = checks.counts(adata, layer, data_kind)
    checks.names(adata)
    keep = checks.nonempty(adata, x, drop_empty, data_kind)
    if len(keep) < adata.n_obs:
        adata, x = adata[keep], x[keep]
    group = checks.labels(adata, group_key)
    checks.group_sizes(group, group_key)
    batches: tuple[str, ...] = ("all",)
    if batch_key is not None:
        batches = tuple(checks.batches(adata, batch_key).cat.categories)
    categories, moments = checks.covariates(adata, covariate_keys)
    schema = Schema(
        group_key=group_key,
        layer=layer,
        batch_key=batch_key,
        covariate_keys=tuple(covariate_keys),
        genes=tuple(map(str, adata.var_names)),
        groups=tuple(group.cat.categories),
        batches=batches,
        categories=categories,
        moments=moments,
        drop_empty=drop_empty,
    )
    return schema, _coded(adata, x, schema, keep)


def read_known(adata: AnnData, schema: Schema, data_kind: DataKind) -> Read:
    """Read data for a model that is there: its schema decides what is read."""
    checks.keys(adata, schema.group_key, schema.batch_key, schema.covariate_keys)
    checks.names(adata)
    order = checks.gene_order(adata.var_names, schema.genes)
    x = checks.counts(adata, schema.layer, data_kind)
    if order is not None:
        x = x[:, order]
    keep = checks.nonempty(adata, x, schema.drop_empty, data_kind)
    if len(keep) < adata.n_obs:
        adata, x = adata[keep], x[keep]
    return _coded(adata, x, schema, keep)


def _coded(adata: AnnData, x: Counts, schema: Schema, cells: np.ndarray) -> Read:
    group_n = checks.codes(adata, schema.group_key, schema.groups)
    batch_n = np.zeros(adata.n_obs, int)
    columns = []
    if schema.batch_key is not None:
        batch_n = checks.codes(adata, schema.batch_key, schema.batches)
        columns.append(np.eye(len(schema.batches))[batch_n])
    for key, levels in schema.categories.items():
        columns.append(np.eye(len(levels))[checks.codes(adata, key, levels)])
    for key, (mean, std) in schema.moments.items():
        columns.append(((checks.continuous(adata, key) - mean) / std)[:, None])
    covariate_nc = np.hstack([np.zeros((adata.n_obs, 0)), *columns]).astype(np.float32)
    return Read(x, group_n, batch_n, covariate_nc, cells)
