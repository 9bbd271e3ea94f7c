"""Hidden units of an encoder that start as a given score of some genes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, relu

from pyro_mgvi.core.interfaces import DimensionStart
from pyro_mgvi.kernels.sparse import to_dense

RIDGE = 1e-2  # of the regressions, relative to the mean variance
LOUD = 2.0  # standard deviation of a seeded unit, in units of the others'
RAW_SCALE = -0.93  # raw posterior scale, of 0.5


class SeedableNetwork(NamedTuple):
    """Views of one network's weights: first layer, norm, head; and each unit's importance."""

    first_gh: Tensor
    bias_h: Tensor
    gain_h: Tensor
    shift_h: Tensor
    head_hd: Tensor
    head_bias_d: Tensor
    importance_h: Tensor

    @torch.no_grad()
    def seed(self, location: int, scale: int, start: DimensionStart) -> None:
        """Give the score the two least important units, one for each sign, and read it from them.

        Parameters
        ----------
        location, scale
            Outputs of the head that are the dimension's location and raw scale.
        start
            Which score, of which cells.
        """
        x_ng, score_n, genes = to_dense(start.cells.x), start.score_n, start.genes
        slope_g, _ = ridge(x_ng[:, genes], score_n)
        score_n1 = x_ng[:, genes] @ slope_g
        loudness = LOUD * self._hidden(x_ng).std(1).mean() / score_n1.std().clamp(min=1e-6)
        units = self.importance_h.argsort()[:2]
        for unit, sign in zip(units, (1.0, -1.0)):
            self.first_gh[:, unit] = 0.0
            self.first_gh[genes, unit] = sign * loudness * slope_g
            self.bias_h[unit] = -sign * loudness * score_n1.mean()
            self.gain_h[unit], self.shift_h[unit] = 1.0, 0.0
        hidden = layer_norm(self._hidden(x_ng), self.bias_h.shape) * self.gain_h + self.shift_h
        weight, bias = ridge(relu(hidden)[:, units], score_n)
        for output, value in ((location, bias), (scale, RAW_SCALE)):
            self.head_hd[:, output] = 0.0
            self.head_bias_d[output] = value
        self.head_hd[units, location] = weight

    def _hidden(self, x_ng: Tensor) -> Tensor:
        return x_ng @ self.first_gh[: x_ng.shape[1]] + self.bias_h


def ridge(x_nk: Tensor, y_n: Tensor) -> tuple[Tensor, Tensor]:
    """Return slopes and intercept of a ridge regression with a penalty in units of the variance.

    Examples
    --------
    >>> x = torch.arange(100.0)[:, None]
    >>> slope, intercept = ridge(x, 2 * x[:, 0] + 1)
    >>> round(float(slope), 1)
    2.0
    """
    centre_k, centre = x_nk.mean(0), y_n.mean()
    x, y = (x_nk - centre_k).double(), (y_n - centre).double()
    gram = x.T @ x
    gram.diagonal().add_(RIDGE * gram.diagonal().mean() + 1e-9)
    slope_k = torch.linalg.solve(gram, x.T @ y).to(x_nk)
    return slope_k, centre - centre_k @ slope_k
