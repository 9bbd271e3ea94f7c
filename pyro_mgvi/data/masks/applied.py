"""Masks on counts that are being read: for a new model, and for one that is there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData

from pyro_mgvi.data import checks
from pyro_mgvi.data.counts import matrix
from pyro_mgvi.data.masks.entries import only_measured
from pyro_mgvi.data.masks.reading import FeatureMasks, absent_features
from pyro_mgvi.data.matching import group_codes, groups_of
from pyro_mgvi.data.schema import Schema, Source
from pyro_mgvi.data.stores.in_memory import Counts
from pyro_mgvi.data.stores.on_disk import OnDisk, chosen_columns


def masked_new(
    adata: AnnData,
    source: Source,
    genes: pd.Index,
    group_key: str | Sequence[str],
    given: FeatureMasks | None,
    chosen: np.ndarray | None = None,
) -> tuple[Counts | OnDisk, dict[str, tuple[str, ...]]]:
    """Return counts without what is absent, and the absent genes of each group.

    With ``chosen``, positions of genes, of these alone.

    Raises
    ------
    DataError
        If a mask is none.
    """
    x = chosen_columns(matrix(adata, source), chosen)
    if given is None:
        return x, {}
    checks.names(genes)
    keys = checks.columns_of_groups(group_key)
    group, design = groups_of(checks.annotated(adata), keys if len(keys) > 1 else keys[0])
    absent = absent_features(adata, source, genes, design, given, chosen)
    genes = genes if chosen is None else genes[chosen]
    has_bg = np.array([~genes.isin(absent.get(name, ())) for name in design.groups])
    return only_measured(x, group.cat.codes.to_numpy(), has_bg, tuple(genes), design.groups), absent


def needed_genes(obs: AnnData, schema: Schema) -> np.ndarray | None:
    """Return which genes the groups of some cells have; None where all groups have all genes."""
    measured_bg = schema.measured_bg
    if measured_bg is None:
        return None
    needed_g: np.ndarray = np.any(measured_bg[np.unique(group_codes(obs, schema))], axis=0)
    return needed_g


def masked_known(x: Counts | OnDisk, obs: AnnData, schema: Schema) -> Counts | OnDisk:
    """Return counts without what is absent from a model's groups."""
    if schema.measured_bg is None:
        return x
    group_n = group_codes(obs, schema)
    return only_measured(x, group_n, schema.measured_bg, schema.genes, schema.groups)
