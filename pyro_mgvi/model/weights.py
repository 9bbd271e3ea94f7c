"""A sample of the weights of some modules: enough to tell whether anybody has trained them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

SAMPLED = 512  # entries of each parameter


def sampled(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Return some entries of every parameter, spread over it, by name.

    In double precision and on the CPU: they stay the same when a model changes its device or its
    precision, is copied or is stored.

    Examples
    --------
    >>> sampled({"layer": nn.Linear(1000, 2)})["layer.weight"].shape
    torch.Size([500])
    """
    found = {}
    for part, module in modules.items():
        for name, weight in module.named_parameters():
            flat = weight.detach().flatten()
            step = max(1, -(-len(flat) // SAMPLED))
            found[f"{part}.{name}"] = flat[::step].cpu().double().clone()
    return found


def differ(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Return whether any sampled entry, or the parameters themselves, are others."""
    if first.keys() != second.keys():
        return True
    return any(not torch.equal(value, second[name]) for name, value in first.items())
