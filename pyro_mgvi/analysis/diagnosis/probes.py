"""What a latent can tell: the group within labels, the labels, and what nobody wants to see."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData

from pyro_mgvi.analysis.latent_values import latent_values
from pyro_mgvi.analysis.metrics import FOLDS, in_use, probe_and_chance
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.checks import some
from pyro_mgvi.data.names import labels_of
from pyro_mgvi.errors import DataWarning, warn
from pyro_mgvi.training.program import Program
from pyro_mgvi.training.search.clusters import clusters

Given = str | Sequence[object] | np.ndarray | pd.Series | None
CLUSTERS = 10  # within which the group is probed for where there are no labels


def owned_cells(program: Program, data: GroupedCounts) -> dict[str, np.ndarray]:
    """Return which cells own each copy, by key."""
    families = program.families
    return {
        copy.key: families.membership(copy.latent)[copy.index].numpy()[data.group_n]
        for copy in families.copies
    }


def probe_latents(
    program: Program,
    data: GroupedCounts,
    label_n: np.ndarray | None,
    nuisances: dict[str, np.ndarray],
) -> pd.DataFrame:
    """Return accuracy and chance of each probe: latent copies against targets, by cross-validation.

    Parameters
    ----------
    program, data
        The model and its cells.
    label_n
        Label of each cell, None where it is missing, or None.
    nuisances
        Labels of each cell that no latent should tell, by column.
    """
    means, owned, rows = latent_values(program, data), owned_cells(program, data), []
    group = np.asarray(program.schema.groups)[data.group_n]
    targets = {} if label_n is None else {("label", "label"): label_n}
    targets |= {("nuisance", name): nuisance_n for name, nuisance_n in nuisances.items()}
    for copy in program.families.copies:
        own = owned[copy.key]
        if copy.shared:
            latent_nk = means[copy.key]
            found = None if label_n is None else _probe_within(latent_nk, group, label_n)
            if found is None:  # no labels, or none that two groups share
                used_nk = latent_nk[:, in_use(latent_nk)]
                within_n = clusters(used_nk, CLUSTERS, program.seed)
                found = _probe_within(latent_nk, group, within_n)
            if found is not None:
                rows.append((copy.key, "group", "group", *found))
        for (kind, name), target in targets.items():
            found = probe_and_chance(means[copy.key][own], target[own])
            if found is not None:
                rows.append((copy.key, kind, name, *found))
    probed = {(kind, name) for _, kind, name, *_ in rows}
    if nothing := [name for kind, name in targets if (kind, name) not in probed]:
        warn(
            f"nothing to probe for: {some(nothing)} tells no two sets of {FOLDS} cells or more "
            "apart among the cells of any latent; missing and rarer labels are left out",
            DataWarning,
        )
    return pd.DataFrame(rows, columns=["latent", "kind", "target", "accuracy", "chance"])


def _probe_within(
    latent_nk: np.ndarray, target_n: np.ndarray, within_n: np.ndarray
) -> tuple[float, float] | None:
    """Return accuracy and chance of probes within each label, averaged over their cells."""
    found, sizes = [], []
    for label in {label for label in within_n if label is not None}:
        cells = within_n == label
        each = probe_and_chance(latent_nk[cells], target_n[cells])
        if each is not None:
            found.append(each)
            sizes.append(int(cells.sum()))
    if not found:
        return None
    accuracy, chance = np.average(found, axis=0, weights=sizes)
    return float(accuracy), float(chance)


def nested_in_groups(data: GroupedCounts, nuisances: dict[str, np.ndarray]) -> frozenset[str]:
    """Return the columns each of whose labels occurs in one group only."""
    return frozenset(
        name
        for name, label_n in nuisances.items()
        if pd.Series(data.group_n).groupby(label_n).nunique().max() == 1
    )


def nuisance_labels(
    adata: AnnData | GroupedCounts, batch: Given, data: GroupedCounts
) -> dict[str, np.ndarray]:
    """Return the labels of each cell that no latent should tell, by the name of their column."""
    schema, found, start = data.schema, {}, 0
    if schema.batch_key is not None:
        found[schema.batch_key] = np.asarray(schema.batches)[data.batch_n]
        start = len(schema.batches)
    for key, levels in schema.categories.items():  # one-hot columns, in this order
        stop = start + len(levels)
        found[key] = np.asarray(levels)[data.covariate_nc[:, start:stop].argmax(1)]
        start = stop
    if batch is not None:
        given_n = labels_of(adata, batch, data, "batch")
        name = batch.name if isinstance(batch, pd.Series) else batch
        if not isinstance(name, str):
            name = "batch"
        while name in found and not np.array_equal(found[name], given_n):
            name += " (given)"  # the model has another column of that name
        found[name] = given_n
    return found
