r"""What samples (donors, animals) do to expression: random effects whose size is learnt.

Each sample s shifts the location of each gene g, which is log expression for counts, by

.. math:: u_{sg} \sim \mathrm{Normal}(0, \sigma_g), \quad
          \log \sigma_g \sim \mathrm{Normal}(m, 1)

with the scales :math:`\sigma_g` and their typical value m at their posterior's mode (empirical
Bayes), and a normal posterior for each effect. At the mode of the effects themselves the scales
would be zero; with a posterior they are as wide as the effects and what is not known of them.
"""

from __future__ import annotations

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.poutine.runtime import am_i_wrapped
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn

from pyro_mgvi.core.interfaces import Part

SITE, SCALE_PRIOR, PLATE = "sample_effect", "sample_scale_prior", "samples"
EFFECT_TERMS = SITE, SCALE_PRIOR  # terms of a loss that are no cell's
START = 0.1  # scale of the effects before training
POSTERIOR = 0.05  # and of their posterior
SPREAD = 1.0  # of the genes' log scales; it weighs as much as half a sample
GAIN = 5.0  # of weights: an optimiser's steps of them are too small to reach effects in time


class EffectPrior(nn.Module):
    """The model's part: how far samples differ in each gene.

    Parameters
    ----------
    n_samples, n_genes
        How many there are.

    Notes
    -----
    Weights are log scales divided by ``GAIN``; so are the weights of the posterior.
    """

    def __init__(self, n_samples: int, n_genes: int):
        super().__init__()
        self.n_samples = n_samples
        self.raw_scale_g = nn.Parameter(torch.full((n_genes,), START).log() / GAIN)
        self.raw_typical = nn.Parameter(torch.tensor(START).log() / GAIN)

    @property
    def log_scale_g(self) -> Tensor:
        """Log of the standard deviation of the effects on each gene."""
        return GAIN * self.raw_scale_g

    def distribution(self) -> dist.TorchDistribution:
        """Return the prior of all effects: batch shape (samples,), event shape (genes,)."""
        scale_g = self.log_scale_g.exp()
        shape = [self.n_samples, len(scale_g)]
        prior = dist.Normal(torch.zeros_like(scale_g), scale_g).expand(shape).to_event(1)
        every: dist.TorchDistribution = prior
        return every

    def log_prior(self) -> Tensor:
        """Return the log density of the scales, up to a constant, in nats."""
        gap_g = (self.log_scale_g - GAIN * self.raw_typical) / SPREAD
        return -0.5 * gap_g.square().sum()

    def drawn(self, sample_n: Tensor | None) -> Tensor | None:
        """Declare the sites, and return the effect of each cell's sample, (..., n, genes).

        None if nothing is known of the cells' samples.
        """
        if am_i_wrapped():
            pyro.factor(SCALE_PRIOR, self.log_prior())
        with pyro.plate(PLATE, self.n_samples, dim=-1):
            effect_sg: Tensor = pyro.sample(SITE, self.distribution())
        return None if sample_n is None else of_cells(effect_sg, sample_n)


class EffectPosterior(nn.Module):
    """The guide's part: location and scale of each effect.

    A shift that all samples of a group have in common is the group's. Adding it to the group's
    offset and taking it from the effects leaves the likelihood as it is, and the divergence is
    least where the effects' mean is zero. So locations are centred where samples are compared: over
    those of a group or, where some are in several groups, over all that these connect.

    Parameters
    ----------
    member_sb
        Which sample has cells of which group, boolean (samples, groups).
    n_genes
        How many there are.
    measured_bg
        Which group has which gene, boolean; None where all have all.

    Examples
    --------
    >>> nested = torch.tensor([[True, False], [True, False], [False, True]])
    >>> effects = EffectPosterior(nested, n_genes=1)
    >>> with torch.no_grad():
    ...     _ = effects.raw_location_sg.copy_(torch.tensor([[1.0], [3.0], [5.0]]) / GAIN)
    ...     effects.moments()[0].T
    tensor([[-1.,  1.,  0.]])
    """

    block_s: Tensor
    known_sg: Tensor | None

    def __init__(self, member_sb: Tensor, n_genes: int, measured_bg: Tensor | None = None):
        super().__init__()
        shape = len(member_sb), n_genes
        self.raw_location_sg = nn.Parameter(torch.zeros(shape))
        self.raw_scale_sg = nn.Parameter(torch.full(shape, POSTERIOR).log() / GAIN)
        known_sg = None if measured_bg is None else member_sb.float() @ measured_bg.float() > 0
        self.register_buffer("block_s", torch.from_numpy(compared(member_sb.numpy())))
        self.register_buffer("known_sg", known_sg)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return location and scale of each effect, (samples, genes): zero of a gene not there."""
        known_sg = torch.ones_like(self.raw_location_sg)
        if self.known_sg is not None:
            known_sg = self.known_sg.to(known_sg)
        location_sg = GAIN * self.raw_location_sg * known_sg
        free_s1 = (self.block_s >= 0).unsqueeze(1)  # others are of samples that came later
        of_block_s = self.block_s.clamp(min=0)
        zero_sg = torch.zeros_like(location_sg)
        total_kg = zero_sg.index_add(0, of_block_s, location_sg * free_s1)
        size_kg = zero_sg.index_add(0, of_block_s, known_sg * free_s1).clamp(min=1)
        mean_sg = (total_kg / size_kg)[of_block_s]
        return (location_sg - mean_sg * free_s1) * known_sg, (GAIN * self.raw_scale_sg).exp()

    def drawn(self) -> None:
        """Declare the site."""
        location_sg, scale_sg = self.moments()
        with pyro.plate(PLATE, len(location_sg), dim=-1):
            pyro.sample(SITE, dist.Normal(location_sg, scale_sg).to_event(1))


def compared(member_sb: np.ndarray) -> np.ndarray:
    """Return which samples are compared with each other: connected by groups, codes (samples,).

    Parameters
    ----------
    member_sb
        Which sample has cells of which group, boolean.

    Examples
    --------
    >>> nested = np.array([[True, False], [True, False], [False, True]])
    >>> compared(nested), compared(nested | np.array([True, False]))
    (array([0, 0, 1]), array([0, 0, 0]))
    """
    n_samples, n_groups = member_sb.shape
    sample, group = np.nonzero(member_sb)
    n = n_samples + n_groups
    links = coo_matrix((np.ones(len(sample)), (sample, n_samples + group)), shape=(n, n))
    _, block = connected_components(links, directed=False)
    _, block_s = np.unique(block[:n_samples], return_inverse=True)
    return block_s.astype(np.int64)


def of_cells(effect_sg: Tensor, sample_n: Tensor) -> Tensor:
    """Return the effect of each cell's sample, (..., n, genes): zero of one not known (-1).

    Examples
    --------
    >>> of_cells(torch.tensor([[1.0, 2.0]]), torch.tensor([0, -1]))
    tensor([[1., 2.],
            [0., 0.]])
    """
    effect_ng = effect_sg.index_select(-2, sample_n.clamp(min=0))
    return effect_ng * (sample_n >= 0).unsqueeze(-1)


def shifted(parts: list[Part], effect_ng: Tensor | None) -> list[Part]:
    """Return a decoder's parts with all locations shifted: additive parts grow by one factor."""
    if effect_ng is None:
        return parts
    return [(location + effect_ng, *others) for location, *others in parts]
