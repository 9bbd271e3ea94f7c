"""Initial values of several modalities: those of each, over the cells that have it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from pyro_mgvi.core.initial_values import InitialValues
from pyro_mgvi.core.modalities import Modalities
from pyro_mgvi.data.moments import CountsOfGroups
from pyro_mgvi.data.schema import Schema
from pyro_mgvi.data.stores.in_memory import Counts


class OneModality(NamedTuple):
    """The cells that have a modality, and its features alone."""

    data: CountsOfGroups
    columns: slice
    cells: np.ndarray
    group_n: np.ndarray
    batch_n: np.ndarray
    schema: Schema

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of cells and of features."""
        return len(self.cells), len(self.schema.genes)

    def counts(self, cells: np.ndarray) -> Counts:
        """Return the counts of the cells at these positions."""
        return self.data.counts(self.cells[cells])[:, self.columns]

    @classmethod
    def of(cls, data: CountsOfGroups, columns: slice) -> OneModality:
        """Return what data hold of one modality: cells without any count have not got it."""
        every = np.arange(len(data))
        cells = np.flatnonzero(np.asarray(data.counts(every)[:, columns].sum(1)).ravel() > 0)
        genes, own = data.schema.genes[columns], set(data.schema.genes[columns])
        absent = {
            group: tuple(gene for gene in listed if gene in own)
            for group, listed in data.schema.absent.items()
        }
        # A group without any of them has no cell here.
        absent = {group: some for group, some in absent.items() if 0 < len(some) < len(genes)}
        schema = replace(data.schema, genes=genes, absent=absent, modalities=())
        labels = data.group_n[cells], data.batch_n[cells]
        return cls(data, columns, cells, *labels, schema)


def initial_values_of_modalities(
    data: CountsOfGroups, modalities: Modalities, of_one: Callable[[OneModality], InitialValues]
) -> InitialValues:
    """Return initial values of several modalities, each estimated by ``of_one``."""
    found = (OneModality.of(data, columns) for columns in modalities.columns.values())
    parts = [of_one(each) if len(each) else each.schema.blank_values() for each in found]
    n_groups, measured_bg = len(data.schema.groups), data.schema.measured_bg
    sizes = np.bincount(data.group_n, minlength=n_groups)
    return InitialValues(
        log_rate_g=torch.cat([part.log_rate_g for part in parts]),
        offset_bg=torch.cat([part.offset_bg for part in parts], 1),
        log_theta_g=torch.cat([part.log_theta_g for part in parts]),
        gate_logits_g=torch.cat([part.gate_logits_g for part in parts]),
        log_library_b2=torch.stack([part.log_library_b2 for part in parts], 1),
        input_g=torch.cat([part.input_g for part in parts]),
        depth=torch.stack([part.depth.expand(n_groups) for part in parts], 1),
        n_covariates=data.schema.n_covariates,
        n_group_b=torch.tensor(sizes, dtype=torch.float32),
        measured_bg=None if measured_bg is None else torch.from_numpy(measured_bg),
        modalities=modalities,
    )
