"""From an AnnData to checked counts and integer codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData

from pyro_mgvi.core.interfaces import DataKind
from pyro_mgvi.data import checks
from pyro_mgvi.data.columns.covariates import continuous, covariates
from pyro_mgvi.data.columns.samples import check_samples
from pyro_mgvi.data.counts import checked, matrix
from pyro_mgvi.data.genes.named import GeneChoice, positions
from pyro_mgvi.data.masks import FeatureMasks, masked_known, masked_new, needed_genes
from pyro_mgvi.data.matching import gene_columns, group_codes, groups_of
from pyro_mgvi.data.schema import Schema, Source
from pyro_mgvi.data.stores.in_memory import Counts
from pyro_mgvi.data.stores.on_disk import OnDisk, chosen_columns, kept
from pyro_mgvi.errors import DataError, DataWarning, warn
from pyro_mgvi.support.values import flag


class Read(NamedTuple):
    """What was read; see :class:`~pyro_mgvi.data.GroupedCounts`."""

    x: Counts | OnDisk
    group_n: np.ndarray
    batch_n: np.ndarray
    covariate_nc: np.ndarray
    cells: np.ndarray
    sample_n: np.ndarray
    names: pd.Index


def read_new(
    adata: AnnData,
    group_key: str | Sequence[str],
    source: Source,
    batch_key: str | None,
    covariate_keys: Sequence[str],
    drop_empty: bool,
    data_kind: DataKind,
    sample_key: str | None,
    feature_masks: FeatureMasks | None = None,
    genes: GeneChoice | None = None,
) -> tuple[Schema, Read]:
    """Read data for a new model: they decide its schema."""
    obs = checks.annotated(adata)
    for name, value in {"drop_empty": drop_empty, **source.flags()}.items():
        flag(name, value)
    if source.round_counts and data_kind is not DataKind.COUNTS:
        raise DataError("round_counts=True is for likelihoods of counts: leave it out")
    source = source.resolved(adata)
    covariate_keys = checks.columns(covariate_keys)
    checks.keys(obs, group_key, batch_key, covariate_keys, sample_key)
    names = source.var_names(adata)
    chosen = None if genes is None else positions(names, genes)
    x, absent = masked_new(adata, source, names, group_key, feature_masks, chosen)
    left_out = 0 if chosen is None else len(names) - len(chosen)
    names = names if chosen is None else names[chosen]
    x = checked(x, adata, names, source, data_kind, known=False)
    checks.names(names)
    if len(names) < 2:
        raise DataError(f"the data have {len(names)} gene(s); at least 2 are needed")
    keep = checks.nonempty(obs, x, drop_empty, data_kind, chosen is not None)
    if len(keep) < adata.n_obs:
        obs, x = obs[keep], kept(x, keep)
    group_keys = checks.columns_of_groups(group_key)
    _check_design(obs, group_keys)
    group_key = group_keys if len(group_keys) > 1 else group_keys[0]
    _, design = groups_of(obs, group_key)
    columns = {key: checks.labels(obs, key) for key in group_keys}
    batches: tuple[str, ...] = ("all",)
    labels: dict[str, pd.Series] = {}
    if batch_key is not None:
        labels[f"batch_key {batch_key!r}"] = batch = checks.batches(obs, batch_key)
        batches = tuple(batch.cat.categories)
    categories, moments = covariates(obs, covariate_keys)
    labels |= {f"covariate {key!r}": checks.labels(obs, key) for key in categories}
    for key, column in columns.items():
        _warn_of_confounded(column, key, labels)
    if sample_key is not None:
        check_samples(columns, checks.labels(obs, sample_key), sample_key)
    schema = Schema(
        group_key=group_key,
        layer=source.layer,
        batch_key=batch_key,
        covariate_keys=covariate_keys,
        genes=tuple(map(str, names)),
        groups=design.groups,
        levels_gc=design.levels_gc if len(columns) > 1 else (),
        batches=batches,
        categories=categories,
        moments=moments,
        drop_empty=bool(drop_empty),
        use_raw=source.use_raw,
        round_counts=source.round_counts,
        sample_key=sample_key,
        absent={name: absent[name] for name in design.groups if name in absent},
        left_out=left_out,
    )
    return schema, _coded(obs, x, schema, keep, adata.obs_names)


def read_known(
    adata: AnnData, schema: Schema, data_kind: DataKind, source: Source, missing_genes: float
) -> Read:
    """Read data for a model that is there: its schema decides what is read."""
    obs = checks.annotated(adata)
    checks.keys(obs, schema.group_key, schema.batch_key, schema.covariate_keys, schema.sample_key)
    source = source.resolved(adata)
    found = source.var_names(adata)
    checks.names(found)
    needed_g = needed_genes(obs, schema)  # those of other groups may be missing
    among = schema.genes, missing_genes, source.var(adata), needed_g, schema.left_out > 0
    order = gene_columns(found, *among)
    x = masked_known(chosen_columns(matrix(adata, source), order), obs, schema)
    x = checked(x, adata, pd.Index(schema.genes), source, data_kind, known=True)
    keep = checks.nonempty(obs, x, schema.drop_empty, data_kind)
    if len(keep) < adata.n_obs:
        obs, x = obs[keep], kept(x, keep)
    return _coded(obs, x, schema, keep, adata.obs_names)


def _coded(
    adata: AnnData, x: Counts | OnDisk, schema: Schema, cells: np.ndarray, names: pd.Index
) -> Read:
    group_n = group_codes(adata, schema)
    batch_n = np.zeros(adata.n_obs, int)
    parts = []
    if schema.batch_key is not None:
        batch_n = checks.codes(adata, schema.batch_key, schema.batches)
        parts.append(np.eye(len(schema.batches))[batch_n])
    for key, levels in schema.categories.items():
        parts.append(np.eye(len(levels))[checks.codes(adata, key, levels)])
    for key, (mean, std) in schema.moments.items():
        parts.append(((continuous(adata, key) - mean) / std)[:, None])
    covariate_nc = np.hstack([np.zeros((adata.n_obs, 0)), *parts]).astype(np.float32)
    sample_n = np.full(adata.n_obs, "")
    if schema.sample_key is not None:
        sample_n = checks.labels(adata, schema.sample_key).to_numpy(str)
    return Read(x, group_n, batch_n, covariate_nc, cells, sample_n, names)


def _check_design(adata: AnnData, group_keys: Sequence[str]) -> None:
    """Refuse columns that cannot make up groups together.

    Raises
    ------
    DataError
        If one has a single level, or a level of one cell, or two say the same.

    Warns
    -----
    DataWarning
        If a level of one is a level of another.
    """
    columns = {key: checks.labels(adata, key) for key in group_keys}
    for key, column in columns.items():
        checks.group_sizes(column, key)
    for one, other in combinations(group_keys, 2):
        pairs = (pd.crosstab(columns[one], columns[other]) > 0).to_numpy()
        same = [
            f"{columns[one].cat.categories[i]} of {one!r} and "
            f"{columns[other].cat.categories[j]} of {other!r}"
            for i, j in np.argwhere(pairs)
            if pairs[i].sum() == pairs[:, j].sum() == 1
        ]
        if len(same) == max(pairs.shape):
            raise DataError(
                f"obs[{one!r}] and obs[{other!r}] say the same: each level of one is one level of "
                f"the other, and what {one!r} does cannot be told from what {other!r} does; name "
                "one of them in group_key"
            )
        if same:
            warn(
                f"the cells of {checks.some(same)} are the same: what one level does cannot be "
                "told from what the other does; what the other levels do can",
                DataWarning,
            )


def _warn_of_confounded(group: pd.Series, group_key: str, others: Mapping[str, pd.Series]) -> None:
    """Warn of batches and covariates that tell the group of a cell: nested in it, or the same.

    ``others`` are labels of each cell, by what to call them.
    """
    said = []
    for name, labels_n in others.items():
        if group.groupby(labels_n, observed=True).nunique().max() > 1:
            continue
        if labels_n.nunique() == group.nunique():
            said.append(
                f"{name} is the same as the groups of {group_key!r}: what all cells of a group "
                "have in common cannot be told from what its batch does; leave it out"
            )
        else:
            said.append(
                f"{name} is nested in {group_key!r}, each level within one group: a shift of a "
                "whole group cannot be told from a shift of all its levels; what varies within "
                "a group can"
            )
    if said:
        warn("; ".join(said), DataWarning)
