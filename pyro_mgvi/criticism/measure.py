"""What a likelihood is of: those of two models compare if all of it is the same."""

from __future__ import annotations

from itertools import compress

import torch

from pyro_mgvi.training.program import Program


def measure_of(mgvi: Program) -> dict[str, object]:
    """Return what must be the same for likelihoods to be of the same thing, by name."""
    genes, likelihood = mgvi.schema.genes, mgvi.model.likelihood
    twos = torch.full((1, len(genes)), 2.0, device=mgvi.device, dtype=torch.float32)
    open_or_closed = (likelihood.observed(twos)[0] == 1).tolist()
    layers = {each.name: each.layer for each in mgvi.schema.modalities if each.layer is not None}
    return {
        "genes": frozenset(genes),
        "feature masks": {k: frozenset(v) for k, v in mgvi.schema.absent.items()},
        "layer": layers or mgvi.schema.layer,
        "use_raw": mgvi.schema.use_raw,
        "round_counts": mgvi.schema.round_counts,
        "data_kind": mgvi.data_kind,
        "what is open or closed": frozenset(compress(genes, open_or_closed)),
        "observed_library": mgvi.model.observed_library,
    }
