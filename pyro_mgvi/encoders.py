"""Encoders: what turns counts into posteriors, each an object with one signature.

An encoder is called as ``encoder(x, covariates)``, x the scaled log counts (n, genes). It returns
a dictionary of (location, scale): for each latent (S, n, dim), or (n, dim) when it has a single
copy, and for ``library`` (n,): the correction to the observed log library size. An encoder with
``takes_sparse`` also takes a :class:`~pyro_mgvi.sparse.SparseInput` as x. One with a number as its
``foreign_sample`` is given a third argument in training, which says for each latent of some groups
only which cells to encode (:class:`~pyro_mgvi.foreign.ForeignSample`). One that can start a
dimension's posterior at a given score has ``plant`` (see :meth:`SeparateEncoders.plant`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, relu, softplus

from pyro_mgvi.errors import SettingsError
from pyro_mgvi.layers import GroupedLinear, InputLayer, dropout
from pyro_mgvi.planted_units import Network


class SeparateEncoders(nn.Module):
    """One network for each latent copy and one for the library (paper, equation 6).

    Computed as one first-layer product over all of them, then grouped heads. Layer norm within
    each network: no batch statistics, so a single cell, an evaluation or several particles
    need no special care.

    Parameters
    ----------
    latents, start
        Set by :class:`~pyro_mgvi.guide.Guide`.
    hidden
        Width of each network's hidden layer.
    dropout
        Drop-out rate of the hidden layers in training.
    foreign_sample
        In training, each network of a latent that is not everyone's encodes, beside the cells
        that own its copy, at least so many random others of the minibatch, which stand for
        the rest (:mod:`pyro_mgvi.foreign`). The loss keeps its expectation, and a step's cost
        grows less with the number of groups. All networks encode as many cells as the one with
        the most owners, so it saves little where one group has most cells. None for all cells.

    Raises
    ------
    SettingsError
        If ``foreign_sample`` is below 1: nothing would then hold foreign copies at zero.
    """

    takes_sparse = True

    def __init__(
        self,
        latents,
        start,
        hidden: int = 128,
        dropout: float = 0.1,
        foreign_sample: int | None = None,
    ):
        super().__init__()
        self.foreign_sample = _sample_size(foreign_sample)
        self.shapes = {latent.name: (latent.n_subsets, latent.dim) for latent in latents}
        self.hidden, self.dropout = hidden, dropout
        self.n_networks = 1 + sum(n_subsets for n_subsets, _ in self.shapes.values())
        self.first = InputLayer(self.n_networks, start.n_genes + start.n_covariates, hidden)
        self.gain = nn.Parameter(torch.ones(self.n_networks, 1, hidden))
        self.shift = nn.Parameter(torch.zeros(self.n_networks, 1, hidden))
        self.heads = nn.ModuleDict(
            {name: GroupedLinear(s, hidden, 2 * dim) for name, (s, dim) in self.shapes.items()}
        )
        self.library = library_head(hidden)

    def forward(self, x_ng: Tensor, covariates: Tensor | None = None, samples=None) -> dict:
        """Return location and scale of each posterior, placeholders for cells not in a sample."""
        sizes = [n_subsets for n_subsets, _ in self.shapes.values()] + [1]
        if not samples:
            h = self.first(x_ng, covariates)  # (networks, n, hidden)
            *hidden, h_library = self.activate(h, self.gain, self.shift).split(sizes)
        else:
            cells = [samples[name].index_sk if name in samples else None for name in self.shapes]
            blocks = self.first.blocks(x_ng, covariates, sizes, [*cells, None])
            blocks = zip(blocks, self.gain.split(sizes), self.shift.split(sizes))
            *hidden, h_library = (self.activate(*block) for block in blocks)
        posteriors = {}
        for name, h in zip(self.shapes, hidden):
            posterior = location_and_scale(self.heads[name](h))
            if samples and name in samples:
                posterior = tuple(map(samples[name].spread, posterior, (0.0, 1.0)))
            posteriors[name] = posterior if len(h) > 1 else tuple(v[0] for v in posterior)
        loc, scale = location_and_scale(self.library(h_library[0]))
        posteriors["library"] = loc[..., 0], scale[..., 0]
        return posteriors

    def plant(self, name: str, copy: int, dim: int, x_ng: Tensor, score_n: Tensor, genes) -> None:
        """Let a dimension's location start at a linear score of some genes.

        Parameters
        ----------
        name, copy, dim
            Which dimension.
        x_ng, score_n
            Inputs and scores of some cells.
        genes
            Positions of the genes that the score is of.
        """
        names = list(self.shapes)
        before = names[: names.index(name)]
        network = sum(self.shapes[other][0] for other in before) + copy
        head, width = self.heads[name], self.shapes[name][1]
        Network(
            self.first.weight[network], self.first.bias[network, 0],
            self.gain[network, 0], self.shift[network, 0],
            head.weight[copy], head.bias[copy, 0], head.weight[copy].norm(dim=1),
        ).plant(dim, width + dim, x_ng, score_n, genes)  # fmt: skip

    def activate(self, h: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
        """Return what the first layer's output becomes: normalised, rectified, dropped out."""
        h = relu(layer_norm(h, (self.hidden,)) * gain + shift)
        return dropout(h, self.dropout, self.training)


class SharedTrunk(nn.Module):
    """One hidden layer for all copies, with a head for each (the paper's discussion).

    Parameters are those of :class:`SeparateEncoders`; a step's cost grows little with groups, and
    least with a ``foreign_sample``, which here saves work of the heads.
    """

    takes_sparse = True

    def __init__(
        self,
        latents,
        start,
        hidden: int = 256,
        dropout: float = 0.1,
        foreign_sample: int | None = None,
    ):
        super().__init__()
        self.foreign_sample = _sample_size(foreign_sample)
        self.shapes = {latent.name: (latent.n_subsets, latent.dim) for latent in latents}
        self.dropout = dropout
        self.first = InputLayer(1, start.n_genes + start.n_covariates, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(hidden, 2 * s * dim) for name, (s, dim) in self.shapes.items()}
        )
        self.library = library_head(hidden)

    def plant(self, name: str, copy: int, dim: int, x_ng: Tensor, score_n: Tensor, genes) -> None:
        """Let a dimension's location start at a score; see :meth:`SeparateEncoders.plant`."""
        head, width = self.heads[name], self.shapes[name][1]
        heads = (*self.heads.values(), self.library)
        importance_h = sum(each.weight.square().sum(0) for each in heads)
        loc = 2 * copy * width + dim
        Network(
            self.first.weight[0], self.first.bias[0, 0],
            self.norm.weight, self.norm.bias,
            head.weight.T, head.bias, importance_h,
        ).plant(loc, loc + width, x_ng, score_n, genes)  # fmt: skip

    def forward(self, x_ng: Tensor, covariates: Tensor | None = None, samples=None) -> dict:
        """Return location and scale of each posterior, placeholders for cells not in a sample."""
        h = relu(self.norm(self.first(x_ng, covariates)[0]))
        h = dropout(h, self.dropout, self.training)
        posteriors = {}
        for name, (n_subsets, dim) in self.shapes.items():
            head, sample = self.heads[name], (samples or {}).get(name)
            if sample is None:
                raw = head(h).unflatten(-1, (n_subsets, 2 * dim)).transpose(0, 1)
                posterior = location_and_scale(raw)
            else:
                bias, weight = (w.unflatten(0, (n_subsets, -1)) for w in (head.bias, head.weight))
                raw = torch.baddbmm(bias.unsqueeze(1), h[sample.index_sk], weight.mT)
                posterior = tuple(map(sample.spread, location_and_scale(raw), (0.0, 1.0)))
            posteriors[name] = posterior if n_subsets > 1 else tuple(v[0] for v in posterior)
        loc, scale = location_and_scale(self.library(h))
        posteriors["library"] = loc[..., 0], scale[..., 0]
        return posteriors


def _sample_size(foreign_sample: int | None) -> int | None:
    """Return the number of foreign cells that each copy encodes, if it is one."""
    if foreign_sample is not None and foreign_sample < 1:
        raise SettingsError(f"foreign_sample must be at least 1, not {foreign_sample}")
    return foreign_sample


def library_head(n_in: int) -> nn.Linear:
    """Return a head that starts at "the library is what was observed, give or take 10 %"."""
    head = nn.Linear(n_in, 2)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor([0.0, -2.8]))
    return head


def location_and_scale(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Split the last dimension into a location and a positive scale."""
    loc, scale = raw.chunk(2, -1)
    return loc, softplus(scale + 0.5) + 1e-4
