"""Decoders: what turns latents into expression, each an object with one signature.

A decoder is called as ``decoder(values, offset_ng, covariates)``: ``values`` maps each latent's
name to (..., n, copies * dim), foreign copies zero; ``offset_ng`` weighs the groups' offsets. It
returns a list of additive parts, each a tuple of ``n_outputs`` tensors (..., n, genes): the
location, on the scale of the likelihood's link, and the drop-out logits if there are any. A decoder
with a prior on its own weights has ``log_prior()``, which the model adds to the ELBO once.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from pyro_mgvi.layers import concatenate


class JointDecoder(nn.Module):
    """One network of all latents together (paper, equation 3).

    Parameters
    ----------
    latents, start, n_outputs, groups
        Set by :class:`~pyro_mgvi.model.Model`.
    hidden
        Width of the hidden layer; 0 for none (see :class:`LogLinearDecoder`).
    linear
        Add a log-linear path beside the hidden layer.
    offset
        Add a per-group offset to the location, so that a group's mean shift needs no latent.
    """

    def __init__(self, latents, start, n_outputs, groups, hidden=128, linear=True, offset=True):
        super().__init__()
        self.names = tuple(latent.name for latent in latents)
        n_inputs = sum(latent.n_subsets * latent.dim for latent in latents) + start.n_covariates
        self.trunk = nn.Linear(n_inputs, hidden) if hidden else None
        self.heads = nn.ModuleList(
            nn.Linear(hidden or n_inputs, start.n_genes) for _ in range(n_outputs)
        )
        self.linear = nn.Linear(n_inputs, start.n_genes, bias=False) if linear and hidden else None
        self.offset = nn.Parameter(start.offset_bg.clone()) if offset else None
        self.start_at(start)

    def start_at(self, start) -> None:
        """Set the biases to the data's log shares and gates, and the slopes near zero."""
        with torch.no_grad():
            for head, bias in zip(self.heads, (start.log_rate_g, start.gate_logits_g)):
                head.bias.copy_(bias)
            for gate in self.heads[1:]:
                gate.weight.mul_(0.1)
            if self.linear is not None:
                self.linear.weight.normal_(std=0.05)

    def forward(self, values: dict[str, Tensor], offset_ng: Tensor, covariates=None):
        """Return one part: location and, if asked for, drop-out logits."""
        inputs = concatenate([values[name] for name in self.names], covariates)
        features = inputs if self.trunk is None else relu(self.trunk(inputs))
        location, *gate = (head(features) for head in self.heads)
        if self.linear is not None:
            location = location + self.linear(inputs)
        if self.offset is not None:
            location = location + offset_ng @ self.offset
        return [(location, *gate)]


class LogLinearDecoder(JointDecoder):
    """A linear map to the log mean, whose weights are the loadings of genes on latents.

    Parameters are those of :class:`JointDecoder`, without hidden layer.

    Examples
    --------
    >>> from pyro_mgvi import Start, private, shared
    >>> latents = [latent.over(("a", "b")) for latent in (shared(3), private(2))]
    >>> decoder = LogLinearDecoder(latents, Start.blank(50, 2), n_outputs=1, groups=("a", "b"))
    >>> {name: tuple(value.shape) for name, value in decoder.loadings().items()}
    {'z': (50, 3), 't': (50, 4)}
    """

    def __init__(self, latents, start, n_outputs, groups, offset=True):
        super().__init__(latents, start, n_outputs, groups, hidden=0, offset=offset)
        self.widths = tuple(latent.n_subsets * latent.dim for latent in latents)

    def loadings(self) -> dict[str, Tensor]:
        """Return log fold change per unit of each latent: genes x (copies * dim)."""
        weight = self.heads[0].weight.detach()[:, : sum(self.widths)]
        return dict(zip(self.names, weight.split(self.widths, 1)))
