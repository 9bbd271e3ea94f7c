"""The zero-inflated negative binomial log-probability of whole cells, with its gradients.

With theta the inverse dispersion, m the log mean and gap = log(1 + exp(m) / theta):
log NB(0) = -theta gap  and
log NB(x) = log NB(0) + x (m - log theta - gap) + lgamma(x + theta) - lgamma(theta) - lgamma(x + 1).

One pass over the counts gives value and gradients, which share their logarithms and exponentials;
where means are a cell's total times the softmax of a location, that softmax is part of the pass.
All is elementary arithmetic, which a compiler turns into vector instructions: gamma functions are
Stirling's series after a shift by 4 (relative error under 1e-9), and the difference of the two at
x + theta and x + 1 is formed before rounding, so that single precision is enough for large counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

from pyro_mgvi.kernels.compiled import compilable

#: Log-probability of each cell; its derivatives by location, gate, log theta and log total.
Terms = tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor | None]

BLOCK = 80_000  # counts at a time without a compiler: intermediate values stay in the cache


def gene_log_prob(x_ng: Tensor, log_mean: Tensor, log_theta: Tensor, gate: Tensor | None) -> Tensor:
    """Return the log-probability of each count as the formula says, in nats."""
    theta = log_theta.exp()
    odds = log_mean - log_theta
    gap = softplus(odds)
    log_zero = -theta * gap
    gammas = torch.lgamma(x_ng + theta) - torch.lgamma(theta) - torch.lgamma(x_ng + 1)
    log_p = log_zero + x_ng * (odds - gap) + gammas
    if gate is None:
        return log_p
    return torch.where(x_ng > 0, log_p, torch.logaddexp(gate, log_zero)) - softplus(gate)


def _stirling(r: Tensor) -> Tensor:
    """Return lgamma(y) - (y - 1/2) log y + y - log(2 pi) / 2 at y = 1 / r of at least 4."""
    r2 = r * r
    return r * (1 / 12 - r2 * (1 / 360 - r2 * (1 / 1260 - r2 / 1680)))


def _values(
    x: Tensor,
    odds: Tensor,
    gap: Tensor,
    slope: Tensor,
    theta: Tensor,
    lgamma_theta: Tensor,
    digamma_theta: Tensor,
    gate: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Return log-probability and its derivatives by log mean, gate and log theta, per count.

    ``odds`` is m - log theta, ``gap`` and ``slope`` its softplus and sigmoid. With a = x + theta
    + 4 and b = x + 5, the shifted arguments of the two gamma functions.
    """
    log_zero, chosen = -theta * gap, _positive(x)
    y, b = x + theta, x + 5
    a, excess = y + 4, theta - 1  # a - b
    low, low_b = y * (y + 3), (x + 1) * (x + 4)
    high, high_b = low + 2, low_b + 2  # (y + 1) (y + 2), (x + 2) (x + 3)
    log_a, ra, rb = a.log(), 1 / a, 1 / b
    r2 = ra * ra
    digamma = log_a - ra * (0.5 + ra * (1 / 12 - r2 * (1 / 120 - r2 * (1 / 252 - r2 / 240))))
    per_product = 1 / (low * high)
    digamma = digamma - (2 * y + 3) * (low + high) * per_product - digamma_theta
    gammas = (b - 0.5) * (1 + excess * rb).log() + excess * log_a - (excess + lgamma_theta)
    gammas = gammas + _stirling(ra) - _stirling(rb)
    log_p = log_zero + x * (odds - gap) + gammas
    unshift = low_b * high_b * per_product  # its logarithm belongs to ``gammas``, too
    d_mean = x - y * slope
    d_theta, from_gammas = log_zero - d_mean, chosen * (theta * digamma)
    if gate is None:
        log_p = torch.where(x > 0, log_p + unshift.log(), log_zero)
        return log_p, d_mean, None, d_theta + from_gammas
    # log(e^gate + NB(0)) - log(1 + e^gate) of a zero, with one logarithm for zeros and others.
    more = log_zero - gate
    e, _, from_nb = _sigmoid(more)
    _, gate_likely, sigmoid_gate = _sigmoid(gate)
    largest = torch.where(x > 0, log_p, torch.maximum(log_zero, gate))  # a mean may be zero
    largest = largest - gate.clamp(min=0)
    log_p = largest + (_choose(chosen, unshift, 1 + e) * gate_likely).log()
    weight = _choose(chosen, torch.ones_like(x), from_nb)
    return log_p, d_mean * weight, 1 - weight - sigmoid_gate, d_theta * weight + from_gammas


def _sigmoid(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return exp(-|a|), the sigmoid of |a| and that of a, with one exponential."""
    e = torch.exp(-a.abs())
    likely = 1 / (1 + e)
    return e, likely, _choose(_positive(a), likely, e * likely)


def _positive(a: Tensor) -> Tensor:
    """Return where a number is positive: a mask, or ones and zeros where nothing is compiled."""
    return a > 0 if torch.compiler.is_compiling() else a.sign().clamp_(min=0)


def _choose(chosen: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return a where chosen, and b elsewhere; both finite.

    A mask is slow without a compiler: five times an interpolation, which is exact at its ends.
    """
    if torch.compiler.is_compiling():
        return torch.where(chosen, a, b)
    return torch.lerp(b, a, chosen)


def _terms(
    x: Tensor,
    location: Tensor,
    log_total: Tensor | None,
    log_theta: Tensor,
    theta: Tensor,
    lgamma_theta: Tensor,
    digamma_theta: Tensor,
    gate: Tensor | None,
) -> Terms:
    """Return each cell's log-probability, and its derivatives by gene and by log total.

    Without ``log_total``, ``location`` is the log mean itself, and the last is None.
    """
    gammas = theta, lgamma_theta, digamma_theta
    if log_total is None:
        odds = location - log_theta
        e, _, slope = _sigmoid(odds)
        gap = odds.clamp(min=0) + (1 + e).log()
        log_p, d_mean, d_gate, d_theta = _values(x, odds, gap, slope, *gammas, gate)
        return log_p.sum(-1), d_mean, d_gate, d_theta, None
    # The softmax's exponentials are those of the mean: mean / theta needs none of its own.
    highest = location.amax(-1, keepdim=True)
    e = (location - highest).exp()
    n_e = e.sum(-1, keepdim=True)
    odds = location + (log_total - highest - n_e.log()) - log_theta
    ratio = (e * (log_total.exp() / n_e) / theta).clamp(max=1e30)
    one = 1 / (1 + ratio)
    log_p, d_mean, d_gate, d_theta = _values(x, odds, (1 + ratio).log(), ratio * one, *gammas, gate)
    d_total = d_mean.sum(-1, keepdim=True)
    return log_p.sum(-1), d_mean - e * (d_total / n_e), d_gate, d_theta, d_total


def _in_blocks(
    x: Tensor, location: Tensor, log_total: Tensor | None, *parameters: Tensor | None
) -> tuple[Tensor | None, ...]:
    """Do as :func:`_terms`, on a processor a few cells at a time."""
    size, blocks = max(1, BLOCK // x.shape[1]) if x.device.type == "cpu" else max(1, len(x)), []
    terms: Callable[..., Terms] = _terms
    for start in range(0, len(x), size):
        rows = slice(start, start + size)  # one row of theta is that of all cells
        inputs = (x, location, log_total, *parameters)
        blocks.append(terms(*(v if v is None or len(v) == 1 else v[rows] for v in inputs)))
    return tuple(None if part[0] is None else torch.cat(part) for part in zip(*blocks))


_summed = compilable(plain=_in_blocks)(_terms)


class CellLogProb(torch.autograd.Function):
    """Log-probability of each cell's counts: (n, genes) to (n,), differentiable once.

    ``location`` is the log mean, (n, genes), or, with a ``log_total`` (n, 1), what the softmax
    over genes is taken of; ``log_theta`` is (1, genes) or (n, genes), ``gate`` None or (n, genes).
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        location: Tensor,
        log_total: Tensor | None,
        log_theta: Tensor,
        gate: Tensor | None,
    ) -> Tensor:
        # Gamma functions of theta are one per gene here, and none per count.
        theta = log_theta.exp()
        gammas = torch.lgamma(theta), torch.digamma(theta)
        log_p, *gradients = _summed(x, location, log_total, log_theta, theta, *gammas, gate)
        ctx.save_for_backward(*gradients)
        ctx.shared_theta = len(log_theta) == 1
        return log_p

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: Tensor
    ) -> tuple[None, Tensor | None, Tensor | None, Tensor, Tensor | None]:
        d_location, d_gate, d_theta, d_total = ctx.saved_tensors
        column = grad.unsqueeze(-1)
        d_location, d_gate, d_total = (
            None if d is None else column * d for d in (d_location, d_gate, d_total)
        )
        d_theta = grad.unsqueeze(0) @ d_theta if ctx.shared_theta else column * d_theta
        return None, d_location, d_total, d_theta, d_gate
