"""The additive decoder of CPVAE: a mixture of a shared and a private simplex."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from pyro_mgvi.decoders import JointDecoder
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.layers import GroupedLinear, concatenate


class AdditiveDecoder(nn.Module):
    """Shared plus private simplexes: softmax(f_s(z)) + softmax(f_g(t)), gates added.

    CPVAE (Davison et al. 2019; paper, appendices A and B). One part for all latents that every
    group owns, and one for each other family, decoded by a network per copy from the copies that
    the cell owns. A cell that owns no copy of a family has its shared part only.

    Parameters
    ----------
    latents, start, n_outputs, groups
        Set by :class:`~pyro_mgvi.model.Model`.
    hidden
        Width of each network's hidden layer.

    Raises
    ------
    SettingsError
        If no latent is owned by all groups.

    Examples
    --------
    >>> from pyro_mgvi import Start, private, shared
    >>> latents = [latent.over(("a", "b")) for latent in (shared(3), private(2))]
    >>> decoder = AdditiveDecoder(latents, Start.blank(50, 2), n_outputs=1, groups=("a", "b"))
    >>> values = {"z": torch.zeros(7, 3), "t": torch.zeros(7, 4)}
    >>> [location.shape for (location,) in decoder(values, torch.eye(2)[[0] * 7])]
    [torch.Size([7, 50]), torch.Size([7, 50])]
    """

    def __init__(self, latents, start, n_outputs, groups, hidden=128):
        super().__init__()
        everyone = [latent for latent in latents if latent.covers(groups)]
        if not everyone:
            raise SettingsError("an additive decoder needs a latent that all groups own")
        self.shared = JointDecoder(
            everyone,
            start,
            n_outputs,
            groups,
            hidden,
            linear=False,
            offset=False,
            response=0.0,
            sparsity=0.0,
        )
        self.private = nn.ModuleDict(
            {
                latent.name: CopyDecoder(latent, start, n_outputs, groups, hidden)
                for latent in latents
                if latent not in everyone
            }
        )

    def forward(self, values: dict[str, Tensor], offset_ng: Tensor, covariates=None):
        """Return the shared part, then one part per family of private copies."""
        (shared,) = self.shared(values, offset_ng, covariates)
        parts = [shared]
        for name, decoder in self.private.items():
            location, *gate = decoder(values[name], offset_ng, covariates)
            owns = (offset_ng @ decoder.member_sg.T).sum(-1, keepdim=True) > 0
            parts.append((torch.where(owns, location, shared[0]), *gate))
        return parts


class CopyDecoder(nn.Module):
    """A network for each copy of one latent; foreign copies' networks are silent."""

    def __init__(self, latent, start, n_outputs, groups, hidden):
        super().__init__()
        member_sg = latent.membership(groups).to(start.offset_bg.dtype)
        self.register_buffer("member_sg", member_sg, persistent=False)
        n_inputs = latent.dim + start.n_covariates
        self.trunk = GroupedLinear(latent.n_subsets, n_inputs, hidden)
        self.heads = nn.ModuleList(
            nn.Linear(latent.n_subsets * (hidden + 1), start.n_genes, bias=False)
            for _ in range(n_outputs)
        )
        with torch.no_grad():  # the last columns of a head are the copies' biases
            mean_sg = member_sg @ start.offset_bg / member_sg.sum(1, keepdim=True)
            self.heads[0].weight[:, -latent.n_subsets :] = (start.log_rate_g + mean_sg).T
            for gate in self.heads[1:]:
                gate.weight.mul_(0.1)
                gate.weight[:, -latent.n_subsets :] = 0.0  # the shared gate has the level

    def forward(self, value: Tensor, offset_ng: Tensor, covariates=None):
        """Return location and gate from the copies that each cell owns."""
        n_subsets = len(self.member_sg)
        weight_ns = (offset_ng @ self.member_sg.T).to(value)
        h = concatenate([value.unflatten(-1, (n_subsets, -1))], _per_copy(covariates, n_subsets))
        h = relu(self.trunk(h.movedim(-2, -3))).movedim(-3, -2) * weight_ns.unsqueeze(-1)
        h = concatenate([h.flatten(-2)], weight_ns)
        return [head(h) for head in self.heads]


def _per_copy(covariates, n_subsets):
    if covariates is None or not covariates.shape[-1]:
        return None
    return covariates.unsqueeze(-2).expand(-1, n_subsets, -1)
