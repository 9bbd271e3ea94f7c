"""What groups do to genes that not all of them have: estimable entries of a decoder's weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pyro_mgvi.core.copies import Latents
from pyro_mgvi.core.design import as_terms, told_by


class Comparable(nn.Module):
    """Weights of each group, where groups that have a gene can be compared.

    What a group does to a gene, beside all groups' level and response, can be told only if at
    least two groups have it. Other entries are fixed: a gene of one group is at the shared level
    (its offset is 0), and a group without the gene would do to it what those do on average that
    have it.

    Where several columns make up the groups, the same holds for the levels of each column: what a
    species does to a gene of its own cannot be told, and what a treatment does to it can.

    Parameters
    ----------
    measured_bg
        Which group has which gene, boolean (groups, genes).
    term_blocks
        Which group has which term, boolean (groups, terms), for each column
        (:attr:`Latents.term_blocks <pyro_mgvi.Latents.term_blocks>`); by default each group has
        its own.

    Examples
    --------
    >>> comparable = Comparable(torch.tensor([[True, True], [True, False], [True, False]]))
    >>> comparable(torch.tensor([[1.0, 5.0], [2.0, 5.0], [6.0, 5.0]]))
    tensor([[1., 0.],
            [2., 0.],
            [6., 0.]])
    """

    entries_tg: Tensor
    averaged_tg: Tensor
    known_bg: Tensor

    def __init__(self, measured_bg: Tensor, term_blocks: Sequence[Tensor] = ()):
        super().__init__()
        blocks = term_blocks or (torch.eye(len(measured_bg), dtype=torch.bool),)
        self.sizes = [block_bt.shape[1] for block_bt in blocks]
        terms_bt = torch.cat([*blocks], 1)
        entries_tg = told_by(terms_bt, measured_bg)
        nobody_tg = terms_bt.double().T @ measured_bg.double() == 0
        self.register_buffer("known_bg", measured_bg, persistent=False)
        self.register_buffer("entries_tg", entries_tg, persistent=False)
        self.register_buffer("averaged_tg", nobody_tg, persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        """Return weights (terms * k, genes), k rows for each term, with all entries filled."""
        parts = []
        weight_tkg = weight.unflatten(0, (len(self.entries_tg), -1))
        fixed = (
            each.unsqueeze(1).split(self.sizes) for each in (self.entries_tg, self.averaged_tg)
        )
        for block_tkg, entries_t1g, averaged_t1g in zip(weight_tkg.split(self.sizes), *fixed):
            told_tkg = block_tkg * entries_t1g
            mean_kg = told_tkg.sum(0) / entries_t1g.sum(0).clamp(min=1)
            parts.append(told_tkg.where(~averaged_t1g, mean_kg))
        whole: Tensor = torch.cat(parts).flatten(0, 1)
        return whole

    def known(self, value_tg: Tensor) -> Tensor:
        """Return the values of the entries that can be estimated, in one dimension."""
        return value_tg[self.entries_tg]

    def terms(self, offset_bg: Tensor, terms_bt: Tensor, weight_b: Tensor | None = None) -> Tensor:
        """Return what adds up to the groups' offsets, (terms, genes); zeros where nothing tells."""
        parts = self.known_bg, self.entries_tg
        term_tg = as_terms(offset_bg, terms_bt, weight_b, *parts)
        return term_tg * self.entries_tg.to(term_tg)


def offset_terms(
    comparable: Comparable | None,
    offset_bg: Tensor,
    terms_bt: Tensor,
    weight_b: Tensor | None = None,
) -> Tensor:
    """Return the terms that come closest to offsets of groups, which may have not all genes."""
    if comparable is None:
        return as_terms(offset_bg, terms_bt, weight_b)
    return comparable.terms(offset_bg, terms_bt, weight_b)


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
