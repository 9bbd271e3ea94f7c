"""Dropout with few random bits."""

from __future__ import annotations

import torch
from torch import Tensor


def dropout(h: Tensor, rate: float, training: bool) -> Tensor:
    """Set a random share of units to zero in training, and scale the others up.

    As in torch, but with 16 random bits a unit, drawn four at a time: on a processor random numbers
    are what takes time. ``rate`` is rounded to a multiple of 2 to the power -16.
    """
    if h.device.type != "cpu" or not training or rate == 0:
        return torch.nn.functional.dropout(h, rate, training)
    bits = torch.empty(-(-h.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    kept = bits.view(torch.int16)[: h.numel()].view(h.shape) >= round(rate * 2**16) - 2**15
    return h * (kept.to(h.dtype) * (1 / (1 - rate)))
