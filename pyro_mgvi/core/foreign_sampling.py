"""Sampling of foreign cells: a step's cost stops growing with the number of groups.

A copy's encoder must see the cells that own the copy. What it says about the others only adds to
a penalty, a sum over cells, which a random few of them estimate without bias.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from pyro import poutine
from torch import Tensor


class ForeignSample(NamedTuple):
    """Which cells each copy of a latent encodes in one step, and what they stand for.

    Attributes
    ----------
    index_sk
        Positions of the k cells that each copy encodes: all that own it, and foreign ones.
    encoded_sn
        The same as a mask over all cells.
    weight_sn
        How many cells one encoded cell stands for: 1 where it owns the copy; where it does
        not, the number of foreign cells over that of encoded ones.
    """

    index_sk: Tensor
    encoded_sn: Tensor
    weight_sn: Tensor

    @classmethod
    def draw(cls, member_sn: Tensor, n_foreign: int) -> ForeignSample:
        """Draw at least ``n_foreign`` foreign cells for each copy, without replacement.

        All copies encode the same number of cells: those with fewer owners take more others.

        Examples
        --------
        >>> sample = ForeignSample.draw(torch.tensor([[True, False, False, False]]), 1)
        >>> sample.index_sk.shape, sample.weight_sn
        (torch.Size([1, 2]), tensor([[1., 3., 3., 3.]]))
        """
        n = member_sn.shape[1]
        n_owners = member_sn.sum(1, keepdim=True)
        k = min(n, int(n_owners.max()) + n_foreign)
        kind, device = torch.float32, member_sn.device
        order = torch.rand(member_sn.shape, dtype=kind, device=device) + member_sn  # owners first
        index_sk = order.topk(k, sorted=False).indices
        encoded_sn = torch.zeros_like(member_sn).scatter(1, index_sk, True)
        stands_for = (n - n_owners).to(kind) / (k - n_owners).clamp(min=1)
        return cls(index_sk, encoded_sn, stands_for.where(~member_sn, 1.0))

    @contextmanager
    def weighted(self) -> Iterator[None]:
        """Weigh the sites within: a cell by what it stands for, those not encoded not at all."""
        encoded, weight = (
            value if len(value) > 1 else value[0] for value in (self.encoded_sn, self.weight_sn)
        )
        # Pyro's annotation wants torch.BoolTensor, which no boolean tensor of today is.
        with poutine.scale(scale=weight), poutine.mask(mask=encoded):  # type: ignore[call-overload]
            yield

    def spread(self, value_skd: Tensor, elsewhere: float) -> Tensor:
        """Return values of the encoded cells as (S, n, d), and ``elsewhere`` for the others."""
        n, d = self.encoded_sn.shape[1], value_skd.shape[-1]
        whole = value_skd.new_full((len(value_skd), n, d), elsewhere)
        return whole.scatter(1, self.index_sk.unsqueeze(-1).expand(-1, -1, d), value_skd)

    def spread_moments(self, moments: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return location and scale of all cells: 0 and 1 for those that are not encoded."""
        location, scale = moments
        return self.spread(location, 0.0), self.spread(scale, 1.0)
