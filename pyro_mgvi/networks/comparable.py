"""What groups do to genes that not all of them have: estimable entries of a decoder's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyro_mgvi.core.copies import Latents


class Comparable(nn.Module):
    """Weights of each group, where groups that have a gene can be compared.

    What a group does to a gene, beside all groups' level and response, can be told only if at
    least two groups have it. Other entries are fixed: a gene of one group is at the shared level
    (its offset is 0), and a group without the gene would do to it what those do on average that
    have it.

    Parameters
    ----------
    measured_bg
        Which group has which gene, boolean (groups, genes).

    Examples
    --------
    >>> comparable = Comparable(torch.tensor([[True, True], [True, False], [True, False]]))
    >>> comparable(torch.tensor([[1.0, 5.0], [2.0, 5.0], [6.0, 5.0]]))
    tensor([[1., 0.],
            [2., 0.],
            [6., 0.]])
    """

    entries_bg: Tensor

    def __init__(self, measured_bg: Tensor):
        super().__init__()
        entries_bg = measured_bg & (measured_bg.sum(0) > 1)
        self.register_buffer("entries_bg", entries_bg, persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        """Return weights (groups * k, genes), a block for each group, with all entries filled."""
        entries_b1g = self.entries_bg.unsqueeze(1)
        weight_bkg = weight.unflatten(0, (len(self.entries_bg), -1)) * entries_b1g
        mean_kg = weight_bkg.sum(0) / entries_b1g.sum(0).clamp(min=1)
        whole: Tensor = weight_bkg.where(entries_b1g, mean_kg).flatten(0, 1)
        return whole

    def known(self, value_bg: Tensor) -> Tensor:
        """Return the values of the entries that can be estimated, in one dimension."""
        return value_bg[self.entries_bg]

    def fixed_at_zero(self, offset_bg: Tensor) -> Tensor:
        """Return offsets with zeros in the entries that cannot be estimated."""
        return offset_bg * self.entries_bg.to(offset_bg)


def filled(comparable: Comparable | None, weight: Tensor) -> Tensor:
    """Return weights of groups as they are, or where all groups have not got all genes, filled."""
    return weight if comparable is None else comparable(weight)


def reached(latents: Latents, measured_bg: Tensor) -> Tensor:
    """Return which genes some owner of a copy has, by dimension side by side: (dims, genes).

    Examples
    --------
    >>> latents = Latents(["z:1", "t:2"], ("a", "b"))
    >>> reached(latents, torch.tensor([[True, True], [True, False]])).int().tolist()
    [[1, 1], [1, 1], [1, 1], [1, 0], [1, 0]]
    """
    rows = [
        (latents.membership(x.name).float() @ measured_bg.float() > 0).repeat_interleave(x.dim, 0)
        for x in latents
    ]
    return torch.cat(rows)
