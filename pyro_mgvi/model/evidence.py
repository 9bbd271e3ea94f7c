"""Which genes tell a latent of some groups: those that other groups have, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from pyro_mgvi.core.copies import Latents
from pyro_mgvi.core.interfaces import Part

Decode = Callable[[dict[str, Tensor]], list[Part]]


class Evidence(nn.Module):
    """Hands the likelihood of a gene to the latents that it tells: a cut in the gradient.

    What varies in a gene that only the owners of a latent have may be their own or shared: nothing
    tells whether others' cells would follow. So it is taken as shared, as the search for programs
    does. Such genes follow the latent, as their loadings are learnt like any other's, but they do
    not move it. Without that, types are learnt once more by private latents, from the many genes
    that only one species has (a cut posterior: Plummer 2015, Statistics and Computing 25).

    Parameters
    ----------
    latents
        Latent families, bound to the groups.
    measured_bg
        Which group has which gene, boolean.

    Examples
    --------
    >>> latents = Latents(["z:1", "t:1"], ("human", "mouse"))
    >>> evidence = Evidence(latents, torch.tensor([[True, True, False], [True, False, True]]))
    >>> evidence.genes_kg, evidence.cut_kc  # of z, t_human and t_mouse
    (tensor([[False,  True,  True]]), tensor([[False,  True,  True]]))
    """

    cut_kc: Tensor
    genes_kg: Tensor

    def __init__(self, latents: Latents, measured_bg: Tensor):
        super().__init__()
        self.sizes = {latent.name: latent.n_copies for latent in latents}
        member_cg = torch.cat([latents.membership(name) for name in self.sizes])
        has = measured_bg.double()
        others_cg = (~member_cg).double() @ has > 0  # some other group has the gene
        owners_cg = member_cg.double() @ has > 0
        told_cg = others_cg | member_cg.all(1, keepdim=True)
        state_cg = torch.where(owners_cg, told_cg.int(), -1)  # -1: no owner's cells have it
        classes: list[tuple[Tensor, list[int]]] = []
        patterns, which_g = torch.unique(state_cg, dim=1, return_inverse=True)
        for i, state_c in enumerate(patterns.T):
            for k, (known_c, members) in enumerate(classes):
                both_c = (known_c >= 0) & (state_c >= 0)
                if (known_c == state_c)[both_c].all():
                    classes[k] = torch.maximum(known_c, state_c), [*members, i]
                    break
            else:
                classes.append((state_c, [i]))
        cut = [(known_c == 0, torch.isin(which_g, torch.tensor(m))) for known_c, m in classes]
        cut = [pair for pair in cut if pair[0].any()]
        none = torch.zeros(0, 0, dtype=torch.bool)
        self.register_buffer("cut_kc", torch.stack([c for c, _ in cut]) if cut else none, False)
        self.register_buffer("genes_kg", torch.stack([g for _, g in cut]) if cut else none, False)

    def decoded(self, decode: Decode, values: Mapping[str, Tensor]) -> list[Part]:
        """Return what the decoder makes of the latents' values, cut where genes do not tell them.

        Parameters
        ----------
        decode
            From values of each latent, (..., S, n, dim), to the decoder's parts.
        values
            Of each latent.
        """
        parts = decode(dict(values))
        for cut_c, genes_g in zip(self.cut_kc, self.genes_kg):
            of_latent = dict(zip(self.sizes, cut_c.split([*self.sizes.values()])))
            held = {
                name: value.detach().where(of_latent[name][:, None, None], value)
                for name, value in values.items()
            }
            parts = [
                tuple(new.where(genes_g, old) for old, new in zip(*pair))
                for pair in zip(parts, decode(held))
            ]
        return parts
