"""A sample of the weights of some modules: enough to tell whether anybody has trained them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pyro_mgvi.errors import SettingsError, UntrainedWarning, warn
from pyro_mgvi.kernels.exclusive import check_full_precision
from pyro_mgvi.model.generative import Model
from pyro_mgvi.model.guide import Guide

SAMPLED = 512  # entries of each parameter


def sampled(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Return some entries of every parameter, spread over it, by name.

    In double precision and on the CPU: they stay the same when a model changes its device or its
    precision, is copied or is stored.

    Examples
    --------
    >>> sampled({"layer": nn.Linear(1000, 2)})["layer.weight"].shape
    torch.Size([500])
    """
    found = {}
    for part, module in modules.items():
        for name, weight in module.named_parameters():
            flat = weight.detach().flatten()
            step = max(1, -(-len(flat) // SAMPLED))
            found[f"{part}.{name}"] = flat[::step].cpu().double().clone()
    return found


def differ(
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    rtol: float = 0.0,
    atol: float = 0.0,
) -> bool:
    """Return whether any sampled entry, or the parameters themselves, are others.

    By default to the last bit; ``rtol`` and ``atol`` are those of :func:`torch.allclose`.
    """
    if first.keys() != second.keys():
        return True
    return any(
        value.shape != second[name].shape or not torch.allclose(value, second[name], rtol, atol)
        for name, value in first.items()
    )


class Trainable:
    """A model and its guide, and whether anybody has trained them."""

    model: Model
    guide: Guide
    _untrained: dict[str, Tensor] | None

    def sampled_weights(self) -> dict[str, Tensor]:
        """Return a sample of the weights that model and guide have now."""
        return sampled({"model": self.model, "guide": self.guide})

    def mark(self, trained: bool) -> None:
        """Say that the weights of this moment are trained ones, or that nobody has trained them."""
        self._untrained = None if trained else self.sampled_weights()

    @property
    def trained(self) -> bool:
        """Whether weights have changed since the model was built, by whatever loop."""
        return self._untrained is None or differ(self._untrained, self.sampled_weights())

    def check_usable(self) -> None:
        """Refuse weights with which nothing can be computed, and a context that rounds.

        Raises
        ------
        SettingsError
            If weights are of low or of several precisions, or are nowhere (``"meta"``); within
            ``torch.autocast``.
        """
        weights = [*self.model.parameters(), *self.guide.parameters()]
        kinds = sorted({str(weight.dtype) for weight in weights})
        if len(kinds) > 1 or kinds[0] not in ("torch.float32", "torch.float64"):
            raise SettingsError(
                f"the weights of model and guide are of {' and '.join(kinds)}: make both float32, "
                "mgvi.model.float() and mgvi.guide.float()"
            )
        if any(weight.is_meta for weight in weights):
            raise SettingsError("weights are on the device 'meta', which holds no numbers")
        check_full_precision(weights[0].device.type)

    def warn_untrained(self) -> None:
        """Warn if results are asked of a model that nobody has trained.

        Warns
        -----
        UntrainedWarning
            If its weights are those that it was built with.
        """
        if not self.trained:
            warn(
                "the model is not trained: what it says is of its initial weights, not of the "
                "data; call fit first",
                UntrainedWarning,
            )
