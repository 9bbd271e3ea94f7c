"""From an AnnData to checked counts and integer codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData

from pyro_mgvi.core.interfaces import DataKind
from pyro_mgvi.data import checks
from pyro_mgvi.data.counts import Counts, checked, columns, matrix
from pyro_mgvi.data.masks import FeatureMasks, absent_features, only_measured
from pyro_mgvi.data.matching import gene_columns
from pyro_mgvi.data.schema import Schema, Source
from pyro_mgvi.errors import DataError, DataWarning, warn
from pyro_mgvi.support.values import flag

SAMPLES = 3  # of a group, or in both of two; a variance of fewer says nothing


class Read(NamedTuple):
    """What was read; see :class:`~pyro_mgvi.data.GroupedCounts`."""

    x: Counts
    group_n: np.ndarray
    batch_n: np.ndarray
    covariate_nc: np.ndarray
    cells: np.ndarray
    sample_n: np.ndarray


def read_new(
    adata: AnnData,
    group_key: str,
    source: Source,
    batch_key: str | None,
    covariate_keys: Sequence[str],
    drop_empty: bool,
    data_kind: DataKind,
    sample_key: str | None,
    feature_masks: FeatureMasks | None = None,
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
    genes = source.var_names(adata)
    x, absent = matrix(adata, source), {}
    if feature_masks is not None:
        checks.names(genes)
        group = checks.labels(obs, group_key)
        groups = tuple(group.cat.categories)
        absent = absent_features(adata, source, genes, groups, feature_masks)
        has_bg = np.array([~genes.isin(absent.get(name, ())) for name in groups])
        x = only_measured(x, group.cat.codes.to_numpy(), has_bg, tuple(genes), groups)
    x = checked(x, adata, genes, source, data_kind, known=False)
    checks.names(genes)
    if len(genes) < 2:
        raise DataError(f"the data have {len(genes)} gene(s); at least 2 are needed")
    keep = checks.nonempty(obs, x, drop_empty, data_kind)
    if len(keep) < adata.n_obs:
        obs, x = obs[keep], x[keep]
    group = checks.labels(obs, group_key)
    checks.group_sizes(group, group_key)
    batches: tuple[str, ...] = ("all",)
    labels: dict[str, pd.Series] = {}
    if batch_key is not None:
        labels[f"batch_key {batch_key!r}"] = batch = checks.batches(obs, batch_key)
        batches = tuple(batch.cat.categories)
    categories, moments = checks.covariates(obs, covariate_keys)
    labels |= {f"covariate {key!r}": checks.labels(obs, key) for key in categories}
    _warn_of_confounded(group, group_key, labels)
    if sample_key is not None:
        _check_samples(group, group_key, checks.labels(obs, sample_key), sample_key)
    schema = Schema(
        group_key=group_key,
        layer=source.layer,
        batch_key=batch_key,
        covariate_keys=covariate_keys,
        genes=tuple(map(str, genes)),
        groups=tuple(group.cat.categories),
        batches=batches,
        categories=categories,
        moments=moments,
        drop_empty=bool(drop_empty),
        use_raw=source.use_raw,
        round_counts=source.round_counts,
        sample_key=sample_key,
        absent={name: absent[name] for name in group.cat.categories if name in absent},
    )
    return schema, _coded(obs, x, schema, keep)


def read_known(
    adata: AnnData, schema: Schema, data_kind: DataKind, source: Source, missing_genes: float
) -> Read:
    """Read data for a model that is there: its schema decides what is read."""
    obs = checks.annotated(adata)
    checks.keys(obs, schema.group_key, schema.batch_key, schema.covariate_keys, schema.sample_key)
    source = source.resolved(adata)
    found = source.var_names(adata)
    checks.names(found)
    measured_bg, group_n, needed_g = schema.measured_bg, None, None
    if measured_bg is not None:  # genes of groups that no cell is of may be missing
        group_n = checks.codes(obs, schema.group_key, schema.groups)
        needed_g = measured_bg[np.unique(group_n)].any(0)
    order = gene_columns(found, schema.genes, missing_genes, source.var(adata), needed_g)
    x = columns(matrix(adata, source), order)
    if group_n is not None:
        x = only_measured(x, group_n, measured_bg, schema.genes, schema.groups)
    x = checked(x, adata, pd.Index(schema.genes), source, data_kind, known=True)
    keep = checks.nonempty(obs, x, schema.drop_empty, data_kind)
    if len(keep) < adata.n_obs:
        obs, x = obs[keep], x[keep]
    return _coded(obs, x, schema, keep)


def _coded(adata: AnnData, x: Counts, schema: Schema, cells: np.ndarray) -> Read:
    group_n = checks.codes(adata, schema.group_key, schema.groups)
    batch_n = np.zeros(adata.n_obs, int)
    parts = []
    if schema.batch_key is not None:
        batch_n = checks.codes(adata, schema.batch_key, schema.batches)
        parts.append(np.eye(len(schema.batches))[batch_n])
    for key, levels in schema.categories.items():
        parts.append(np.eye(len(levels))[checks.codes(adata, key, levels)])
    for key, (mean, std) in schema.moments.items():
        parts.append(((checks.continuous(adata, key) - mean) / std)[:, None])
    covariate_nc = np.hstack([np.zeros((adata.n_obs, 0)), *parts]).astype(np.float32)
    sample_n = np.full(adata.n_obs, "")
    if schema.sample_key is not None:
        sample_n = checks.labels(adata, schema.sample_key).to_numpy(str)
    return Read(x, group_n, batch_n, covariate_nc, cells, sample_n)


def _warn_of_confounded(group: pd.Series, group_key: str, others: Mapping[str, pd.Series]) -> None:
    """Warn of batches and covariates that tell the group of a cell: nested in it, or the same.

    Parameters
    ----------
    group, group_key
        Group of each cell, and the name of its column.
    others
        Labels of each cell, by what to call them.
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


def _check_samples(group: pd.Series, group_key: str, sample: pd.Series, sample_key: str) -> None:
    """Refuse samples that say nothing beside the groups, and warn of what they cannot tell.

    Parameters
    ----------
    group, sample
        Labels of each cell.
    group_key, sample_key
        Names of their columns.
    """
    cells_sg = pd.crosstab(sample, group)
    in_groups_s, of_group_g = (cells_sg > 0).sum(axis=1), (cells_sg > 0).sum(axis=0)
    crossed_s = in_groups_s > 1
    if not crossed_s.any() and (of_group_g == 1).all():
        raise DataError(
            f"sample_key {sample_key!r} has one sample in each group of {group_key!r}: nothing "
            "tells a sample from its group; name a column with several samples in a group, or "
            "leave it out (q-values then speak of new cells of these samples)"
        )
    said = []
    lonely = cells_sg.index[cells_sg.sum(axis=1) == 1]
    if len(lonely):
        said.append(
            f"sample(s) of one cell, which weigh little, but count: {checks.some(lonely)}; "
            "remove them, if they are leftovers of a filter"
        )
    kept = "latents, effects and Bayes factors can be estimated, but no q-value for new samples"
    comparable_sg = cells_sg.loc[crossed_s] if crossed_s.any() else cells_sg
    samples_g = (comparable_sg > 0).sum(axis=0)
    few = list(samples_g.index[samples_g < SAMPLES])
    if crossed_s.any():
        one_sided = cells_sg.index[~crossed_s]
        if len(one_sided):
            said.append(
                f"sample(s) in one group only, beside others in several: {checks.some(one_sided)}; "
                "the comparison of groups is within samples, and gains nothing from them"
            )
    if few:
        said.append(f"fewer than {SAMPLES} samples of {checks.some(few)}: {kept} of them")
    if said:
        warn(f"sample_key {sample_key!r}: {'; '.join(said)}", DataWarning)
