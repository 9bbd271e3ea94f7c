"""The additive decoder of CPVAE: a mixture of a shared and a private simplex."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from pyro_mgvi.core.copies import Latents
from pyro_mgvi.core.initial_values import InitialValues
from pyro_mgvi.core.interfaces import Decoder, DecoderInput, Part
from pyro_mgvi.core.latents import Latent
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.kernels.simplex import concatenate
from pyro_mgvi.networks.joint_decoder import JointDecoder
from pyro_mgvi.networks.layers import DictOf, GroupedLinear, ListOf


class AdditiveDecoder(Decoder):
    """Shared plus private simplexes: softmax(f_s(z)) + softmax(f_g(t)), gates added.

    CPVAE (Davison et al. 2019; paper, appendices A and B). One part for all latents that every
    group owns, and one for each other family, decoded by a network per copy from the copies that
    the cell owns. A cell that owns no copy of a family has its shared part only.

    Parameters
    ----------
    latents, initial, n_outputs
        Set by :class:`~pyro_mgvi.model.Model`.
    hidden
        Width of each network's hidden layer.

    Raises
    ------
    SettingsError
        If no latent is owned by all groups.

    Examples
    --------
    >>> from pyro_mgvi.core import InitialValues, Latents
    >>> latents = Latents(["z:3", "t:2"], ("a", "b"))
    >>> decoder = AdditiveDecoder(latents, InitialValues.blank(50, 2), n_outputs=1)
    >>> values = {"z": torch.zeros(1, 7, 3), "t": torch.zeros(2, 7, 2)}
    >>> cells = DecoderInput(values, group_weights=torch.eye(2)[[0] * 7])
    >>> [location.shape for (location,) in decoder(cells)]
    [torch.Size([7, 50]), torch.Size([7, 50])]
    """

    def __init__(self, latents: Latents, initial: InitialValues, n_outputs: int, hidden: int = 128):
        super().__init__()
        if not latents.shared:
            raise SettingsError("an additive decoder needs a latent that all groups own")
        self.shared = JointDecoder(
            Latents(latents.shared, latents.design, latents.having),
            initial,
            n_outputs,
            hidden,
            linear=False,
            offset=False,
            response=0.0,
            sparsity=0.0,
        )
        self.private = DictOf(
            {
                latent.name: CopyDecoder(latent, latents.groups, initial, n_outputs, hidden)
                for latent in latents.specific
            }
        )

    def forward(self, x: DecoderInput) -> list[Part]:
        """Return the shared part, then one part per family of private copies."""
        shared_values = {name: x.values[name] for name in self.shared.shared}
        (shared,) = self.shared(x._replace(values=shared_values))
        parts = [shared]
        for name, decoder in self.private.items():
            location, *gate = decoder(x, x.joined([name]))
            owns = (x.group_weights @ decoder.member_sg.T).sum(-1, keepdim=True) > 0
            parts.append((torch.where(owns, location, shared[0]), *gate))
        return parts


class CopyDecoder(nn.Module):
    """A network for each copy of one latent; foreign copies' networks are silent."""

    member_sg: Tensor

    def __init__(
        self,
        latent: Latent,
        groups: tuple[str, ...],
        initial: InitialValues,
        n_outputs: int,
        hidden: int,
    ):
        super().__init__()
        n_copies, member_sg = latent.n_copies, latent.membership(groups).float()
        self.register_buffer("member_sg", member_sg, persistent=False)
        self.trunk = GroupedLinear(n_copies, latent.dim + initial.n_covariates, hidden)
        self.heads = ListOf(
            nn.Linear(n_copies * (hidden + 1), initial.n_genes, bias=False)
            for _ in range(n_outputs)
        )
        with torch.no_grad():  # the last columns of a head are the copies' biases
            mean_sg = member_sg @ initial.offset_bg / member_sg.sum(1, keepdim=True)
            self.heads[0].weight[:, -n_copies:] = (initial.log_rate_g + mean_sg).T
            for gate in self.heads[1:]:
                gate.weight.mul_(0.1)
                gate.weight[:, -n_copies:] = 0.0  # the shared gate has the level

    def forward(self, x: DecoderInput, value: Tensor) -> list[Tensor]:
        """Return location and gate from the copies that each cell owns."""
        n_copies = len(self.member_sg)
        weight_ns = (x.group_weights @ self.member_sg.T).to(value)
        # Each bias is a whole profile: a cell with several copies has their mean, not their sum.
        bias_ns = weight_ns / weight_ns.sum(-1, keepdim=True).clamp(min=1.0)
        covariates = _per_copy(x.covariates, n_copies)
        h = concatenate([value.unflatten(-1, (n_copies, -1))], covariates)
        h = relu(self.trunk(h.movedim(-2, -3))).movedim(-3, -2) * weight_ns.unsqueeze(-1)
        h = concatenate([h.flatten(-2)], bias_ns)
        return [head(h) for head in self.heads]


def _per_copy(covariates: Tensor | None, n_copies: int) -> Tensor | None:
    if covariates is None or not covariates.shape[-1]:
        return None
    return covariates.unsqueeze(-2).expand(-1, n_copies, -1)
