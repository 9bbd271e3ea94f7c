"""Entries of features that a group has not got: they hold nothing, whatever is written there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyro_mgvi.data.schema import Schema
from pyro_mgvi.data.stores.absent import Dropped, without_absent
from pyro_mgvi.data.stores.in_memory import Counts
from pyro_mgvi.data.stores.on_disk import OnDisk
from pyro_mgvi.errors import DataWarning, warn


def only_measured(
    x: Counts | OnDisk,
    group_n: np.ndarray,
    measured_bg: np.ndarray | None,
    genes: Sequence[str] = (),
    groups: Sequence[str] = (),
) -> Counts | OnDisk:
    """Return values with zeros where a cell's group has not got the gene, as the same kind.

    What is written there is not looked at: numbers, NaN and negative ones alike are dropped. A
    number other than zero there makes a mask doubtful, though, so one of them is named, each time
    that data are read. The caller's array stays as it is.

    Parameters
    ----------
    x
        Cells x genes.
    group_n
        Codes of the cells' groups.
    measured_bg
        Which group has which gene; None where all have all.
    genes, groups
        Their names, for the warning; none without.

    Warns
    -----
    DataWarning
        If values other than zero (and than NaN) are dropped.

    Examples
    --------
    >>> only_measured(np.ones((2, 2)), np.array([0, 1]), np.array([[True, False], [True, True]]))
    array([[1., 0.],
           [1., 1.]])
    """
    if measured_bg is None:
        return x
    kept: Counts | OnDisk
    if isinstance(x, OnDisk):  # what is dropped is looked for only if it is to be named
        kept, dropped = x.only_measured(group_n, measured_bg), None
        if len(genes):
            dropped = _first_on_disk(x, group_n, measured_bg)
    else:
        kept, dropped = without_absent(x, group_n, measured_bg)
    if dropped is not None and len(genes):
        n, group, gene, value = dropped
        at_least = "at least " if isinstance(x, OnDisk) else ""
        warn(
            f"{at_least}{n} value(s) other than zero are of features that the masks say a group "
            f"has not got (gene {genes[gene]!r} is {value:g} in a cell of group "
            f"{groups[group]!r}); they are left out: look at the masks, if this is not as it "
            "should be",
            DataWarning,
        )
    return kept


def _first_on_disk(x: OnDisk, group_n: np.ndarray, measured_bg: np.ndarray) -> Dropped:
    """Return what is dropped of the first block that has something to drop."""
    found = (without_absent(part, group_n[cells], measured_bg)[1] for cells, part in x.blocks())
    return next((dropped for dropped in found if dropped is not None), None)


def common_absent(schema: Schema) -> dict[str, tuple[str, ...]]:
    """Return genes absent from any group as absent from every group."""
    missing = {gene for genes in schema.absent.values() for gene in genes}
    absent = tuple(gene for gene in schema.genes if gene in missing)
    return {group: absent for group in schema.groups} if absent else {}
