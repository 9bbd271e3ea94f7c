"""The zero-inflated negative binomial distribution over all genes of a cell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.utils import broadcast_all

from pyro_mgvi.core.interfaces import HasGeneLogProb
from pyro_mgvi.kernels.zinb_terms import CellLogProb, gene_log_prob


class ZeroInflatedNegativeBinomial(dist.TorchDistribution, HasGeneLogProb):
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
    log_total
        Log of the cell's expected total, shape (...): the mean is then that times the softmax of
        the first argument over genes (equation 3), which costs nothing extra that way.

    Notes
    -----
    The log-probability is summed over genes in one pass that also gives the gradients
    (:mod:`pyro_mgvi.kernels.zinb_terms`). It cannot be differentiated twice.

    Examples
    --------
    >>> cells = ZeroInflatedNegativeBinomial(torch.zeros(2, 3), torch.zeros(3), torch.zeros(3))
    >>> cells.event_shape, cells.log_prob(torch.zeros(2, 3)).shape
    (torch.Size([3]), torch.Size([2]))
    """

    arg_constraints = {"log_mean": constraints.real_vector, "log_theta": constraints.real_vector}
    support = constraints.independent(constraints.nonnegative_integer, 1)

    location: Tensor
    gate_logits: Tensor | None

    def __init__(
        self,
        log_mean: Tensor,
        log_theta: Tensor,
        gate_logits: Tensor | None = None,
        validate_args: bool | None = None,
        log_total: Tensor | None = None,
    ):
        self.location, self.log_theta, self.log_total = log_mean, log_theta, log_total
        if gate_logits is not None:
            self.location, gate_logits = broadcast_all(log_mean, gate_logits)
        self.gate_logits = gate_logits
        shape = self.location.shape[:-1]
        if log_total is not None:
            shape = torch.Size(np.broadcast_shapes(shape, log_total.shape))
        super().__init__(shape, log_mean.shape[-1:], validate_args=False)
        self._validate_args = self._validate_args if validate_args is None else validate_args

    @property
    def log_mean(self) -> Tensor:
        """Log of the mean count before drop-out."""
        if self.log_total is None:
            return self.location
        return self.location.log_softmax(-1) + self.log_total.unsqueeze(-1)

    def expand(
        self, batch_shape: Sequence[int], _instance: object = None
    ) -> ZeroInflatedNegativeBinomial:
        shape = torch.Size(batch_shape) + self.event_shape
        gate = None if self.gate_logits is None else self.gate_logits.expand(shape)
        total = None if self.log_total is None else self.log_total.expand(batch_shape)
        return type(self)(self.location.expand(shape), self.log_theta, gate, log_total=total)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability of each cell's counts, summed over genes, in nats."""
        if self._validate_args:
            self._validate_sample(value)
        shape = np.broadcast_shapes(value.shape, self.batch_shape + self.event_shape)
        gate = None if self.gate_logits is None else _rows(self.gate_logits, shape)
        total = None
        if self.log_total is not None:
            total = _rows(self.log_total.unsqueeze(-1), (*shape[:-1], 1))
        own = self.log_theta.dim() > 1 and self.log_theta.shape[:-1].numel() > 1  # per cell
        log_theta = _rows(self.log_theta, shape if own else (1, shape[-1]))
        location = _rows(self.location, shape)
        log_p: Tensor = CellLogProb.apply(_rows(value, shape), location, total, log_theta, gate)
        return log_p.reshape(shape[:-1])

    def gene_log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability per gene, shape (..., genes), in nats."""
        return gene_log_prob(value, self.log_mean, self.log_theta, self.gate_logits)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
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


def _rows(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Broadcast to ``shape`` and flatten all but the genes: one row per cell (and particle)."""
    return value.expand(shape).reshape(-1, shape[-1])
