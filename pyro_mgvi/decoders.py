"""Decoders: what turns latents into expression, each an object with one signature.

A decoder is called as ``decoder(values, offset_ng, covariates)``: ``values`` maps each latent's
name to (..., n, copies * dim), foreign copies zero; ``offset_ng`` weighs the groups' offsets. It
returns a list of additive parts, each a tuple of ``n_outputs`` tensors (..., n, genes): the
location, on the scale of the likelihood's link, and the drop-out logits if there are any. A decoder
with a prior on its own weights has ``log_prior()``, which the model adds to the ELBO once. A
decoder with ``takes_group`` gets each cell's group as ``group_n``, too, wherever the offset is that
of the cell's own group. One that can start a latent dimension at given loadings says so
(``can_plant``) and does so (``plant``), as :class:`JointDecoder` does.
"""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from pyro_mgvi.layers import concatenate, log_cauchy
from pyro_mgvi.own_product import add_products

GROUP_BY_GROUP = 8  # number of groups from which products of the own columns alone are faster

SPARSITY = 0.05  # scale of the prior on loadings, in log expression per unit of a latent
RESPONSE = 0.3  # of the median group offset: how far groups are expected to respond differently


class JointDecoder(nn.Module):
    """One network of all latents together (paper, equation 3), and what groups do to it.

    Where groups differ much, each shared state looks a little different in each of them. That
    difference is a function of z and the group. A decoder that can express it leaves to the
    private latents what they are for; otherwise they encode the shared state once more.

    Parameters
    ----------
    latents, start, n_outputs, groups
        Set by :class:`~pyro_mgvi.model.Model`.
    hidden
        Width of the hidden layer; 0 for none (see :class:`LogLinearDecoder`).
    linear
        Add a log-linear path beside the hidden layer.
    offset
        Let each group shift the location by an amount of its own, so that a mean shift needs
        no latent.
    response
        Let that shift depend on the shared latents: each group has a log-linear response to z
        of its own. Standard deviation of its normal prior, in log expression per unit of z;
        0 for none. By default 0.3 of the median gene's shift between groups: where most genes
        differ (protocols, species), shared states may look different, too; where few do, a
        group's program cannot pass as its response.
    sparsity
        Scale of a Cauchy prior on the weights that read the latents: few genes follow a program,
        and a free loading on each gene fits noise of the few cells that own a copy, with traces of
        everything. 0 for none.
    """

    takes_group = True

    def __init__(
        self,
        latents,
        start,
        n_outputs,
        groups,
        hidden: int = 128,
        linear: bool = True,
        offset: bool = True,
        response: float | None = None,
        sparsity: float = SPARSITY,
    ):
        super().__init__()
        self.names = tuple(latent.name for latent in latents)
        shared = [latent for latent in latents if latent.covers(groups)]
        self.shared = tuple(latent.name for latent in shared)
        n_shared = sum(latent.n_subsets * latent.dim for latent in shared)
        self.widths = tuple(latent.n_subsets * latent.dim for latent in latents)
        self.first_input = dict(zip(self.names, accumulate(self.widths, initial=0)))
        self.copy_width = {latent.name: latent.dim for latent in latents}
        n_inputs = sum(self.widths) + start.n_covariates
        self.trunk = nn.Linear(n_inputs, hidden) if hidden else None
        self.heads = nn.ModuleList(
            nn.Linear(hidden or n_inputs, start.n_genes) for _ in range(n_outputs)
        )
        self.linear = None  # as the other terms (inputs, genes), so that no step transposes it
        if linear and hidden:
            weight_gk = nn.Linear(n_inputs, start.n_genes, bias=False).weight.detach()
            self.linear = nn.Parameter(weight_gk.T.contiguous())
        self.offset = nn.Parameter(start.offset_bg.clone()) if offset else None
        self.response = None
        if response != 0 and n_shared:
            self.response = nn.Parameter(torch.zeros(len(groups) * n_shared, start.n_genes))
            scale = start.offset_bg.abs().median() * RESPONSE if response is None else response
            self.register_buffer("response_scale", torch.as_tensor(scale).clamp(min=1e-3))
        self.sparsity = sparsity
        self.n_latent = n_inputs - start.n_covariates
        self.register_buffer("own_gk", self.own_inputs(latents, groups), persistent=False)
        self.start_at(start)

    def own_inputs(self, latents, groups) -> Tensor | None:
        """Return which inputs of the location's terms are not zero in which group, boolean."""
        each = torch.eye(len(groups), dtype=torch.bool)
        terms = []
        if self.linear is not None:
            terms += [x.membership(groups).repeat_interleave(x.dim, 0).T for x in latents]
            n_covariates = len(self.linear) - self.n_latent
            terms.append(torch.ones(len(groups), n_covariates, dtype=torch.bool))
        if self.offset is not None:
            terms.append(each)
        if self.response is not None:
            terms.append(each.repeat_interleave(len(self.response) // len(groups), 1))
        if not terms:
            return None
        return torch.cat([*terms, torch.ones(len(groups), 1, dtype=torch.bool)], 1)  # the bias

    def start_at(self, start) -> None:
        """Set the biases to the data's log shares and gates, and the slopes near zero."""
        with torch.no_grad():
            for head, bias in zip(self.heads, (start.log_rate_g, start.gate_logits_g)):
                head.bias.copy_(bias)
            for gate in self.heads[1:]:
                gate.weight.mul_(0.1)
            if self.linear is not None:
                self.linear.copy_(torch.empty(self.linear.shape[::-1]).normal_(std=0.05).T)
                if self.sparsity:  # within the prior's peak
                    self.linear[: self.n_latent] *= 0.4

    @property
    def can_plant(self) -> bool:
        """Whether there is a log-linear path, so that a dimension can start at given loadings."""
        return self.trunk is None or self.linear is not None

    @torch.no_grad()
    def plant(self, name: str, copy: int, dim: int, loading_g: Tensor) -> None:
        """Set a latent dimension's log-linear loadings."""
        readout_kg = self.heads[0].weight.T if self.trunk is None else self.linear
        column = self.first_input[name] + copy * self.copy_width[name] + dim
        readout_kg[column] = loading_g.to(readout_kg)
        if self.trunk is not None:
            self.trunk.weight[:, column] *= 0.1  # what is known is log-linear

    def forward(self, values: dict[str, Tensor], offset_ng: Tensor, covariates=None, group_n=None):
        """Return one part: location and, if asked for, drop-out logits."""
        inputs = concatenate([values[name] for name in self.names], covariates)
        features = inputs if self.trunk is None else relu(self.trunk(inputs))
        gate = [head(features) for head in self.heads[1:]]
        terms = []
        if self.linear is not None:
            terms.append((inputs, self.linear))
        if self.offset is not None:
            terms.append((offset_ng, self.offset))
        if self.response is not None:
            z_nk = torch.cat([values[name] for name in self.shared], -1)
            per_group = (offset_ng.unsqueeze(-1) * z_nk.unsqueeze(-2)).flatten(-2)
            terms.append((per_group, self.response))  # of (n, groups * k)
        head = self.heads[0]
        if not terms:
            return [(head(features), *gate)]
        # As one product with the bias: every pass over cells x genes counts.
        terms.append((inputs.new_ones(*inputs.shape[:-1], 1), head.bias.unsqueeze(0)))
        by_group = len(self.own_gk) >= GROUP_BY_GROUP and inputs.device.type == "cpu"
        location = add_products(
            features @ head.weight.T, *zip(*terms), self.own_gk, group_n if by_group else None
        )
        return [(location, *gate)]

    def log_prior(self) -> Tensor | None:
        """Return the log density of weights with a prior, up to a constant; None without any."""
        log_density = None
        if self.response is not None:
            log_density = self.response.square().sum() * (-0.5 / self.response_scale**2)
        if self.sparsity:
            layers = self.heads if self.trunk is None else [self.trunk]
            weights = [layer.weight[:, : self.n_latent] for layer in layers]
            weights += [] if self.linear is None else [self.linear[: self.n_latent]]
            for weight in weights:  # what reads the latents
                cauchy = log_cauchy(weight, self.sparsity)
                log_density = cauchy if log_density is None else log_density + cauchy
        return log_density


class LogLinearDecoder(JointDecoder):
    """A linear map to the log mean, whose weights are the loadings of genes on latents.

    Parameters are those of :class:`JointDecoder`, without hidden layer, and without a group's own
    response to z: one loading per gene is what makes it readable.

    Examples
    --------
    >>> from pyro_mgvi import Start, private, shared
    >>> latents = [latent.over(("a", "b")) for latent in (shared(3), private(2))]
    >>> decoder = LogLinearDecoder(latents, Start.blank(50, 2), n_outputs=1, groups=("a", "b"))
    >>> {name: tuple(value.shape) for name, value in decoder.loadings().items()}
    {'z': (50, 3), 't': (50, 4)}
    """

    def __init__(self, latents, start, n_outputs, groups, offset=True, sparsity=SPARSITY):
        super().__init__(
            latents,
            start,
            n_outputs,
            groups,
            hidden=0,
            offset=offset,
            response=0.0,
            sparsity=sparsity,
        )

    def loadings(self) -> dict[str, Tensor]:
        """Return log fold change per unit of each latent: genes x (copies * dim)."""
        weight = self.heads[0].weight.detach()[:, : sum(self.widths)]
        return dict(zip(self.names, weight.split(self.widths, 1)))
