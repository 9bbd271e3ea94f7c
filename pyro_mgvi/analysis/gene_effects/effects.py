"""How a gene's expression changes along a dimension, with any decoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pyro_mgvi.analysis.expression import expected
from pyro_mgvi.core.copies import Copy
from pyro_mgvi.core.interfaces import DataKind
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.model import Posterior
from pyro_mgvi.model.decoding import Decoding
from pyro_mgvi.training.program import Program
from pyro_mgvi.training.search.modality_reach import reached_features

DEPTH = 1e4  # expression is reported in counts per so many
TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Effects:
    """What dimensions in use of one copy do, over cells that own it.

    Attributes
    ----------
    copy
        The copy.
    dims
        Positions of its dimensions, (d,).
    mean_nd
        Posterior means of the cells, (n, d).
    sd_d
        Standard deviation of the cells' posteriors taken together, (d,).
    effect_dg
        Change of the log2 of a gene's expected expression when the dimension moves by ``sd_d``,
        mean over the cells, (d, genes). With a likelihood of transformed data: change of the
        expected value.
    mean_g
        Expected counts per 10,000, or values, of the cells where they are, (genes,).
    information_dg
        What a gene tells of a place along the dimension, per squared standard deviation,
        (d, genes): Fisher's information of a Poisson count at 10,000 counts a cell, the mean times
        the squared change of its logarithm. A rare gene tells little, however large its fold
        change. For transformed data, the squared change of the value.
    measured_g
        Which genes some of the cells have, and the copy reaches, boolean; the others' numbers mean
        nothing.
    """

    copy: Copy
    dims: np.ndarray
    mean_nd: np.ndarray
    sd_d: np.ndarray
    effect_dg: np.ndarray
    mean_g: np.ndarray
    information_dg: np.ndarray
    measured_g: np.ndarray

    @property
    def orientation_d(self) -> np.ndarray:
        """1 or -1, by which a dimension is multiplied for its most telling gene to rise."""
        strongest = self.information_dg.argmax(1)
        return np.where(self.effect_dg[np.arange(len(self.dims)), strongest] < 0, -1, 1)


def owners(program: Program, data: GroupedCounts, copy: Copy) -> np.ndarray:
    """Return the positions of the cells that own a copy."""
    member_g = program.families.membership(copy.latent)[copy.index].numpy()
    return np.flatnonzero(member_g[data.group_n])


def dims_in_use(program: Program, copy: Copy) -> np.ndarray:
    """Return the positions of the dimensions of a copy that are not closed."""
    return np.flatnonzero(program.model.active.of(copy).cpu().numpy())


@torch.no_grad()
def effects(
    program: Program,
    data: GroupedCounts,
    copy: Copy,
    dims: np.ndarray | None = None,
    progress: bool = False,
) -> Effects:
    r"""Return what dimensions of a copy do to the genes: each in use, or those that are named.

    For dimension k with standard deviation :math:`s_k`, gene g and the cells n,

    .. math:: \frac{1}{N} \sum_n \log_2 \rho_g(z_n + \tfrac{s_k}{2} e_k)
              - \log_2 \rho_g(z_n - \tfrac{s_k}{2} e_k)

    with the expected expression :math:`\rho`, all other latents at the cell's own posterior
    means, and :math:`s_k^2` the variance of the posterior means plus the mean posterior variance.
    For a log-linear decoder this is the loading times :math:`s_k / \log 2`, up to a constant per
    dimension, which a softmax ignores.

    Parameters
    ----------
    program
        A trained program.
    data
        Cells that own the copy, all of them.
    copy
        The copy.
    dims
        Positions of dimensions in use.
    progress
        Show a progress bar, if it takes seconds.
    """
    dims = dims_in_use(program, copy) if dims is None else dims
    mean_nd, sd_d = _spread(program, data, copy, dims)
    n_genes = data.shape[1]
    effect_dg, mean_g = np.zeros((len(dims), n_genes)), np.zeros(n_genes)
    cells_g = np.full(n_genes, len(data))  # that have the gene
    if program.schema.measured_bg is not None:
        cells_g = program.schema.measured_bg[data.group_n].sum(0)
    everything = Decoding.everything(program.families)
    counts = program.data_kind is DataKind.COUNTS
    shown = f"effects of {copy.key}" if progress else None
    for _, posterior in program.posteriors(data, progress=shown):
        share_ng = expected(program, everything, posterior, posterior.means())
        measured_ng = program.model.measured(posterior.batch.group)
        if measured_ng is not None:
            share_ng = share_ng.where(measured_ng, 0.0)
        mean_g += share_ng.sum(0).cpu().double().numpy()
        for i, (dim, sd) in enumerate(zip(dims, sd_d)):
            sides = (_moved(program, posterior, copy, dim, step * sd) for step in (0.5, -0.5))
            up_ng, down_ng = (expected(program, everything, posterior, side) for side in sides)
            if counts:  # a share may be too small for its precision
                up_ng, down_ng = (share.clamp(min=TINY).log2() for share in (up_ng, down_ng))
            change_ng = up_ng - down_ng
            if measured_ng is not None:
                change_ng = change_ng.where(measured_ng, 0.0)
            effect_dg[i] += change_ng.sum(0).cpu().double().numpy()
    each_g = np.maximum(cells_g, 1)
    effect_dg, mean_g = effect_dg / each_g, mean_g / each_g
    information_dg = effect_dg**2
    if counts:
        mean_g = DEPTH * mean_g
        information_dg = mean_g * (np.log(2) * effect_dg) ** 2
    has_g = cells_g > 0
    if program.model.modalities is not None:
        has_g &= reached_features(program, copy).numpy()
    return Effects(copy, dims, mean_nd, sd_d, effect_dg, mean_g, information_dg, has_g)


def _moved(
    program: Program, posterior: Posterior, copy: Copy, dim: int, step: float
) -> dict[str, torch.Tensor]:
    """Return the posterior means with one dimension of a copy moved."""
    values = posterior.means()
    moved = values[copy.latent].clone()
    moved[copy.index, :, dim] += step
    return values | {copy.latent: moved}


def _spread(
    program: Program, data: GroupedCounts, copy: Copy, dims: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the posterior means of some dimensions, (n, d), and the spread of the posteriors."""
    mean_nd, variance_d = np.empty((len(data), len(dims))), np.zeros(len(dims))
    for cells, posterior in program.posteriors(data, keep_sparse=True):
        loc, scale = (part[copy.index].double() for part in posterior.moments[copy.latent])
        mean_nd[cells] = loc[:, dims].cpu().numpy()
        variance_d += (scale[:, dims] ** 2).sum(0).cpu().numpy()
    return mean_nd, np.sqrt(mean_nd.var(0) + variance_d / len(data))
