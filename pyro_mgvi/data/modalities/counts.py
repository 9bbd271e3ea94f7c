"""Grouped counts of a MuData, for a new model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pyro_mgvi.data import checks
from pyro_mgvi.data.grouped_counts import GroupedCounts
from pyro_mgvi.data.modalities.joining import (
    as_modalities,
    features_by_group,
    joined,
    measured_by_group,
)
from pyro_mgvi.data.schema import modalities_of


def counts_of_mudata(
    mdata: Any,
    group_key: str | Sequence[str],
    modalities: Iterable[str],
    layers: Mapping[str, str] | None = None,
    batch_key: str | None = None,
    covariate_keys: Sequence[str] = (),
    drop_empty: bool = False,
    sample_key: str | None = None,
    sample_effects: bool = True,
    feature_masks: Mapping[str, str] | None = None,
) -> GroupedCounts:
    """Read counts and labels of some modalities of a MuData, which stays as it is.

    Parameters
    ----------
    mdata
        The MuData, with raw counts in each modality's ``X`` or layer.
    group_key, batch_key, covariate_keys, drop_empty, sample_key, sample_effects
        As for :meth:`GroupedCounts.from_anndata <pyro_mgvi.GroupedCounts.from_anndata>`; columns of
        ``mdata.obs``, or of the modalities' ``obs``.
    modalities
        Names of the modalities, in the order of their features.
    layers
        By modality, the layer that holds its counts; ``X`` for the others.
    feature_masks
        By group, the column of the modalities' ``var`` that says which features it has, 1 or True.
        A modality without such columns has all features in all groups that have it.

    Raises
    ------
    DataError
        Naming what is at fault, and what to do.
    """
    chosen = as_modalities(mdata, modalities, layers)
    covariate_keys = checks.columns(covariate_keys)
    group_keys = checks.columns_of_groups(group_key)
    for option, key in checks.options_of(group_key, batch_key, covariate_keys, sample_key):
        checks.one_name(key, option)
    adata = joined(mdata, chosen, [*group_keys, batch_key, *covariate_keys, sample_key])
    masks, several = None, modalities_of(chosen)
    if several is not None:
        masks = measured_by_group(adata, several, group_keys)
    if feature_masks is not None:
        masks = features_by_group(mdata, chosen, feature_masks, masks)
    data = GroupedCounts.from_anndata(
        adata,
        group_key,
        batch_key=batch_key,
        covariate_keys=covariate_keys,
        drop_empty=drop_empty,
        sample_key=sample_key,
        feature_masks=masks,
        sample_effects=sample_effects,
    )
    data.schema = replace(data.schema, modalities=chosen)
    return data
