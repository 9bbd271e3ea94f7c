"""Which dimensions of each copy are active; the others are exact zeros."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pyro_mgvi.core.copies import Copy, Latents


class ActiveDims(nn.Module):
    """One boolean mask per latent, (S, dim), shared by a model and its guide.

    A dimension that is not active is owned by no cell: its prior is a Dirac at zero for all.

    Parameters
    ----------
    latents
        Whose dimensions.

    Examples
    --------
    >>> active = ActiveDims(Latents(["z:2", "t:3"], ("a", "b")))
    >>> active.close({"t": torch.tensor([[True, False, False], [False, False, False]])})
    >>> active["t"].sum(1)
    tensor([2, 3])
    """

    def __init__(self, latents: Latents):
        super().__init__()
        for latent in latents:
            mask_sd = torch.ones(latent.n_copies, latent.dim, dtype=torch.bool)
            self.register_buffer(f"dims_{latent.name}", mask_sd)
        self._seen: dict[str, tuple[Tensor, int, bool]] = {}

    def extra_repr(self) -> str:
        """Say how many dimensions of each latent are active, over its copies."""
        masks = {name.removeprefix("dims_"): mask for name, mask in self.named_buffers()}
        return ", ".join(f"{name}: {int(m.sum())} of {m.numel()}" for name, m in masks.items())

    def __getitem__(self, name: str) -> Tensor:
        """Return which dimensions of each copy of a latent are active, (S, dim)."""
        return self.get_buffer(f"dims_{name}")

    def all_active(self, name: str) -> bool:
        """Return whether all dimensions of a latent are active.

        Each step asks, and a GPU is not to be waited for: it is looked at after a change only.
        """
        mask_sd, version = self[name], self[name]._version
        seen = self._seen.get(name)
        if seen is None or seen[0] is not mask_sd or seen[1] != version:
            seen = self._seen[name] = mask_sd, version, bool(mask_sd.all())
        return seen[2]

    def of(self, copy: Copy) -> Tensor:
        """Return which dimensions of one copy are active, (dim,)."""
        return self[copy.latent][copy.index]

    def open(self, copy: Copy, dim: int) -> None:
        """Make one dimension active."""
        self.of(copy)[dim] = True

    def close(self, dims: Mapping[str, Tensor]) -> None:
        """Make dimensions inactive: masks (S, dim) for some latents."""
        for name, closed_sd in dims.items():
            self[name].logical_and_(~closed_sd.to(self[name].device))
