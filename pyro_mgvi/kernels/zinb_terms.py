"""The zero-inflated negative binomial log-probability of whole cells, with its gradients.

With theta the inverse dispersion, m the log mean, gap = log(1 + exp(m) / theta) and
lost = log(1 + theta / exp(m)):  log NB(0) = -theta gap  and
log NB(x) = log NB(0) - x lost + lgamma(x + theta) - lgamma(theta) - lgamma(x + 1).

One pass over the counts gives value and gradients, which share their logarithms and exponentials;
where means are a cell's total times the softmax of a location, that softmax is part of the pass.
All is elementary arithmetic, which a compiler turns into vector instructions. No term is much
larger than the count, and what multiplies one is formed before rounding, so that single precision
is enough for counts of millions, and for a theta as large: see :func:`_gammas`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

from pyro_mgvi.kernels.compiled import compilable

#: Log-probability of each cell; its derivatives by location, gate, log theta and log total.
Terms = tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor | None]
#: Of m - log theta: gap and lost, the sigmoid and one minus it.
Odds = tuple[Tensor, Tensor, Tensor, Tensor]

BLOCK = 80_000  # counts at a time without a compiler: intermediate values stay in the cache


def gene_log_prob(x_ng: Tensor, log_mean: Tensor, log_theta: Tensor, gate: Tensor | None) -> Tensor:
    """Return the log-probability of each count as the formula says, in nats."""
    theta = log_theta.exp()
    odds = log_mean - log_theta
    log_zero = -theta * softplus(odds)
    gammas, unshift, _ = _gammas(x_ng, theta, *_of_theta(theta))
    log_p = log_zero - x_ng * softplus(-odds) + (gammas + unshift.log())
    if gate is None:
        return torch.where(x_ng > 0, log_p, log_zero)
    return torch.where(x_ng > 0, log_p, torch.logaddexp(gate, log_zero)) - softplus(gate)


def _stirling(r: Tensor) -> Tensor:
    """Return lgamma(y) - (y - 1/2) log y + y - log(2 pi) / 2 at y = 1 / r of at least 4."""
    r2 = r * r
    return r * (1 / 12 - r2 * (1 / 360 - r2 * (1 / 1260 - r2 / 1680)))


def _below_log(y: Tensor, r: Tensor, low: Tensor, per_product: Tensor) -> Tensor:
    """Return digamma(y) - log(y + 4), given what :func:`_gammas` has of y."""
    r2 = r * r
    series = r * (0.5 + r * (1 / 12 - r2 * (1 / 120 - r2 * (1 / 252 - r2 / 240))))
    return -series - (2 * y + 3) * (2 * low + 2) * per_product


def _of_theta(theta: Tensor) -> tuple[Tensor, Tensor]:
    """Return what :func:`_gammas` needs of theta alone: it is the same for all cells."""
    r, low = 1 / (theta + 4), theta * (theta + 3)
    product = low * (low + 2)  # theta (theta + 1) (theta + 2) (theta + 3)
    constant = product.log() + 4.5 * r.log() - _stirling(r) + (5 - 0.5 * math.log(2 * math.pi))
    return constant, _below_log(theta, r, low, 1 / product)


def _gammas(
    x: Tensor, theta: Tensor, constant: Tensor, below_log: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Return lgamma(x + theta) - lgamma(theta) - lgamma(x + 1), and its derivative by theta.

    The first is without the logarithm of the second. Each gamma function is Stirling's series after
    a shift by 4 (relative error under 1e-9). Of the three, what would cancel is taken together:
    with a = x + theta + 4, b = x + 5 and c = theta + 4,

    .. math:: (a - 1/2) \log a - (c - 1/2) \log c - (b - 1/2) \log b
              = (b - 1/2) \log(a/b) + (a - b) \log(1 + x/c) - 9/2 \log c
    """
    y, b, excess = x + theta, x + 5, theta - 1  # a - b
    ra, rb = 1 / (y + 4), 1 / b
    by_c = torch.log1p(x * (1 / (theta + 4)))
    low, low_b = y * (y + 3), (x + 1) * (x + 4)
    high, high_b = low + 2, low_b + 2  # (y + 1) (y + 2), (x + 2) (x + 3)
    per_product = 1 / (low * high)
    gammas = (b - 0.5) * torch.log1p(excess * rb) + excess * by_c + constant
    gammas = gammas + _stirling(ra) - _stirling(rb)
    digamma = by_c + _below_log(y, ra, low, per_product) - below_log
    return gammas, low_b * high_b * per_product, digamma


def _values(
    x: Tensor,
    odds: Odds,
    theta: Tensor,
    constant: Tensor,
    below_log: Tensor,
    gate: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Return log-probability and its derivatives by log mean, gate and log theta, per count."""
    gap, lost, slope, rest = odds
    log_zero, chosen = -theta * gap, _positive(x)
    gammas, unshift, digamma = _gammas(x, theta, constant, below_log)
    log_p = log_zero - x * lost + gammas
    d_mean = x * rest - theta * slope
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


def _odds(odds: Tensor, slope: Tensor, rest: Tensor) -> Odds:
    """Return softplus of m - log theta and of its negative, beside the sigmoids of both."""
    less = torch.log1p(-torch.minimum(slope, rest))
    return odds.clamp(min=0) - less, -odds.clamp(max=0) - less, slope, rest


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
    constant: Tensor,
    below_log: Tensor,
    gate: Tensor | None,
) -> Terms:
    """Return each cell's log-probability, and its derivatives by gene and by log total.

    Without ``log_total``, ``location`` is the log mean itself, and the last is None.
    """
    gammas = theta, constant, below_log
    if log_total is None:
        odds = location - log_theta
        e, likely, slope = _sigmoid(odds)
        rest = _choose(_positive(odds), e * likely, likely)
        log_p, d_mean, d_gate, d_theta = _values(x, _odds(odds, slope, rest), *gammas, gate)
        return log_p.sum(-1), d_mean, d_gate, d_theta, None
    # The softmax's exponentials are those of the mean: mean / theta needs none of its own.
    highest = location.amax(-1, keepdim=True)
    e = (location - highest).exp()
    n_e = e.sum(-1, keepdim=True)
    odds = location + (log_total - highest - n_e.log()) - log_theta
    ratio = (e * (log_total.exp() / n_e) / theta).clamp(max=1e30)
    rest = 1 / (1 + ratio)
    log_p, d_mean, d_gate, d_theta = _values(x, _odds(odds, ratio * rest, rest), *gammas, gate)
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
        x, theta = x.to(location.dtype), log_theta.exp()  # of a model in double precision, too
        of_theta = theta, *_of_theta(theta)
        log_p, *gradients = _summed(x, location, log_total, log_theta, *of_theta, gate)
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
