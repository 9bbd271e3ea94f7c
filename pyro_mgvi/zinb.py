"""The zero-inflated negative binomial distribution over all genes of a cell."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributions import constraints
from torch.distributions.utils import broadcast_all
from torch.nn.functional import softplus


class ZeroInflatedNegativeBinomial(dist.TorchDistribution):
    r"""Zero-inflated negative binomial over the genes of a cell (paper, equation 5).

    With probability ``sigmoid(gate_logits)`` a count is zero; otherwise it is negative binomial
    with mean :math:`\mu` and variance :math:`\mu + \mu^2 / \theta`.

    Parameters
    ----------
    log_mean
        Log of the mean count, shape (..., genes).
    log_theta
        Log of the inverse dispersion, broadcastable to ``log_mean``.
    gate_logits
        Log-odds of a count being zero by drop-out, broadcastable to ``log_mean``; None
        for a plain negative binomial.

    Notes
    -----
    The log-probability is summed over genes in one pass whose backward is written out: most
    counts are zero and need no gamma function. It cannot be differentiated twice.

    Examples
    --------
    >>> cells = ZeroInflatedNegativeBinomial(torch.zeros(2, 3), torch.zeros(3), torch.zeros(3))
    >>> cells.event_shape, cells.log_prob(torch.zeros(2, 3)).shape
    (torch.Size([3]), torch.Size([2]))
    """

    arg_constraints = {"log_mean": constraints.real_vector, "log_theta": constraints.real_vector}
    support = constraints.independent(constraints.nonnegative_integer, 1)

    def __init__(self, log_mean, log_theta, gate_logits=None, validate_args=None):
        self.log_mean, self.log_theta = log_mean, log_theta
        if gate_logits is not None:
            self.log_mean, gate_logits = broadcast_all(log_mean, gate_logits)
        self.gate_logits = gate_logits
        super().__init__(log_mean.shape[:-1], log_mean.shape[-1:], validate_args=False)
        self._validate_args = self._validate_args if validate_args is None else validate_args

    def expand(self, batch_shape, _instance=None):
        shape = torch.Size(batch_shape) + self.event_shape
        gate = None if self.gate_logits is None else self.gate_logits.expand(shape)
        return type(self)(self.log_mean.expand(shape), self.log_theta, gate)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability of each cell's counts, summed over genes, in nats."""
        if self._validate_args:
            self._validate_sample(value)
        log_mean = self.log_mean
        if value.dim() > log_mean.dim():
            log_mean = log_mean.expand(value.shape)
        return _LogLikelihood.apply(value, log_mean, self.log_theta, self.gate_logits).sum(-1)

    def gene_log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability per gene, shape (..., genes), in nats."""
        return _LogLikelihood.apply(value, self.log_mean, self.log_theta, self.gate_logits)

    def sample(self, sample_shape=()) -> Tensor:
        """Draw counts, as floats."""
        with torch.no_grad():
            shape = self._extended_shape(torch.Size(sample_shape))
            theta = self.log_theta.exp().expand(shape)
            rate = torch.distributions.Gamma(theta, theta).sample() * self.log_mean.exp()
            counts = torch.poisson(rate)
            if self.gate_logits is None:
                return counts
            return counts * (torch.rand_like(counts) >= torch.sigmoid(self.gate_logits))

    @property
    def mean(self) -> Tensor:
        """Mean count per gene, drop-out included."""
        mean = self.log_mean.exp()
        return mean if self.gate_logits is None else mean * torch.sigmoid(-self.gate_logits)

    @property
    def variance(self) -> Tensor:
        """Variance of the count per gene, drop-out included."""
        mean = self.log_mean.exp()
        square = mean**2 * (1 + torch.exp(-self.log_theta)) + mean
        if self.gate_logits is None:
            return square - mean**2
        return torch.sigmoid(-self.gate_logits) * square - self.mean**2


class _LogLikelihood(torch.autograd.Function):
    """Per-gene log-probability; gamma functions only where a count is not zero.

    With theta the inverse dispersion, m the log-mean, s = sigmoid(m - log theta) and
    gap = log(1 + exp(m) / theta):  log NB(0) = -theta gap  and
    log NB(x) = log NB(0) + x (m - log theta - gap)
                + lgamma(x + theta) - lgamma(theta) - lgamma(x + 1).
    """

    @staticmethod
    def forward(ctx, x, log_mean, log_theta, gate_logits):
        x = x.expand_as(log_mean)
        theta = log_theta.exp()
        odds = log_mean - log_theta
        gap = softplus(odds)
        log_zero = -theta * gap
        positive = x > 0
        x_pos, theta_pos = x[positive], theta.expand_as(x)[positive]
        log_p = torch.addcmul(log_zero, x, odds - gap)
        if gate_logits is not None:
            log_p = torch.where(positive, log_p, torch.logaddexp(gate_logits, log_zero))
            log_p -= softplus(gate_logits)
        gammas = torch.lgamma(x_pos + theta_pos) - torch.lgamma(theta_pos) - torch.lgamma(x_pos + 1)
        log_p[positive] += gammas
        ctx.save_for_backward(x, log_mean, log_theta, gate_logits)
        return log_p

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, log_mean, log_theta, gate_logits = ctx.saved_tensors
        theta = log_theta.exp()
        odds = log_mean - log_theta
        positive = x > 0
        slope, gap = torch.sigmoid(odds), softplus(odds)
        # d log NB / d log_mean, and d log NB / d log_theta without the digamma terms
        d_mean = x - (x + theta) * slope
        d_theta = -d_mean - theta * gap
        d_gate = None
        if gate_logits is not None:
            from_nb = torch.sigmoid(-theta * gap - gate_logits)  # a zero from the NB part
            weight = torch.where(positive, 1.0, from_nb)
            d_mean, d_theta = d_mean * weight, d_theta * weight
            d_gate = grad * (1.0 - weight - torch.sigmoid(gate_logits))
        x_pos, theta_pos = x[positive], theta.expand_as(x)[positive]
        d_theta[positive] += theta_pos * (
            torch.digamma(x_pos + theta_pos) - torch.digamma(theta_pos)
        )
        d_theta = (grad * d_theta).sum_to_size(log_theta.shape)
        return None, grad * d_mean, d_theta, d_gate
