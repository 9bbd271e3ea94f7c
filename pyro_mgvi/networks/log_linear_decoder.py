"""A decoder whose weights are loadings of genes on latents."""

from __future__ import annotations

from torch import Tensor

from pyro_mgvi.core.copies import Latents
from pyro_mgvi.core.initial_values import InitialValues
from pyro_mgvi.core.interfaces import HasLoadings
from pyro_mgvi.networks.joint_decoder import SPARSITY, JointDecoder


class LogLinearDecoder(JointDecoder, HasLoadings):
    """A linear map to the log mean, whose weights are the loadings of genes on latents.

    Parameters are those of :class:`JointDecoder`, without hidden layer, and without a group's own
    response to z: one loading per gene is what makes it readable.

    Examples
    --------
    >>> from pyro_mgvi.core import InitialValues, Latents
    >>> latents = Latents(["z:3", "t:2"], ("a", "b"))
    >>> decoder = LogLinearDecoder(latents, InitialValues.blank(50, 2), n_outputs=1)
    >>> {name: tuple(value.shape) for name, value in decoder.loadings().items()}
    {'z': (1, 50, 3), 't': (2, 50, 2)}
    """

    def __init__(
        self,
        latents: Latents,
        initial: InitialValues,
        n_outputs: int,
        offset: bool = True,
        sparsity: float = SPARSITY,
    ):
        super().__init__(
            latents, initial, n_outputs, hidden=0, offset=offset, response=0.0, sparsity=sparsity
        )
        self.shapes = {latent.name: (latent.n_copies, latent.dim) for latent in latents}

    def loadings(self) -> dict[str, Tensor]:
        """Return log fold change per unit of each latent: (S, genes, dim)."""
        weight_gk = self.heads[0].weight.detach()[:, : self.n_latent]
        parts = weight_gk.split([n_copies * dim for n_copies, dim in self.shapes.values()], 1)
        return {
            name: part.unflatten(1, shape).movedim(1, 0)
            for (name, shape), part in zip(self.shapes.items(), parts)
        }
