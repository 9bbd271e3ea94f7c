"""Joining latents, and the simplex of a cell's expected expression."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def concatenate(values: Sequence[Tensor], covariates: Tensor | None = None) -> Tensor:
    """Join latents and covariates along the last dimension, broadcasting over particles.

    Examples
    --------
    >>> concatenate([torch.zeros(2, 1, 5, 3), torch.zeros(5, 1)]).shape
    torch.Size([2, 1, 5, 4])
    """
    if covariates is not None and covariates.shape[-1]:
        values = [*values, covariates]
    if len(values) == 1:
        return values[0]
    shape = np.broadcast_shapes(*(value.shape[:-1] for value in values))  # torch's takes longer
    return torch.cat([value.expand(*shape, -1) for value in values], -1)


def log_proportions(
    parts: Sequence[tuple[Tensor, ...]], measured_ng: Tensor | None = None
) -> Tensor:
    """Return the log of the mean of the parts' softmax: one simplex per cell (equation 3).

    Parameters
    ----------
    parts
        The first tensor of each is what the softmax is taken of, (..., n, genes).
    measured_ng
        Which genes a cell has, boolean: the softmax is over these, and others are in their units.
        All by default.

    Examples
    --------
    >>> log_proportions([(torch.zeros(1, 4),)]).exp()
    tensor([[0.2500, 0.2500, 0.2500, 0.2500]])
    """
    if measured_ng is None:
        simplexes = [location.log_softmax(-1) for location, *_ in parts]
    else:
        totals = [x.where(measured_ng, -torch.inf).logsumexp(-1, keepdim=True) for x, *_ in parts]
        simplexes = [location - total for (location, *_), total in zip(parts, totals)]
    if len(simplexes) == 1:
        return simplexes[0]
    return torch.stack(simplexes).logsumexp(0) - math.log(len(simplexes))


def log_share(parts: Sequence[tuple[Tensor, ...]], among_ng: Tensor, measured_ng: Tensor) -> Tensor:
    """Return the log of the share that some genes have of all that a cell has, (..., n).

    Parameters
    ----------
    parts
        As for :func:`log_proportions`.
    among_ng, measured_ng
        Which genes are asked for, and which a cell has, boolean.

    Examples
    --------
    >>> has = torch.tensor([[True, True, True, False]])
    >>> log_share([(torch.zeros(1, 4),)], has & torch.tensor([True, False, False, True]), has).exp()
    tensor([0.3333])
    """
    each = [
        x.where(among_ng, -torch.inf).logsumexp(-1) - x.where(measured_ng, -torch.inf).logsumexp(-1)
        for x, *_ in parts
    ]
    return each[0] if len(each) == 1 else torch.stack(each).logsumexp(0) - math.log(len(each))
