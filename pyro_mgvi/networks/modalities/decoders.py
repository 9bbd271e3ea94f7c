"""A decoder for each modality, of the latents that reach it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pyro_mgvi.core.copies import Copy, Latents
from pyro_mgvi.core.initial_values import InitialValues
from pyro_mgvi.core.interfaces import (
    Decoder,
    DecoderInput,
    DimensionStart,
    HasGroupOffsets,
    Part,
    StartsDimensions,
)
from pyro_mgvi.core.modalities import module_name
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.networks.joint_decoder import JointDecoder
from pyro_mgvi.networks.layers import DictOf


class ModalityDecoders(Decoder, StartsDimensions, HasGroupOffsets):
    """A decoder of its own for each modality, which reads the latents that reach it.

    A latent that does not reach a modality is no input of that one's decoder: what it does there
    is zero, exactly, and so is its gradient.

    Parameters
    ----------
    latents, initial, n_outputs
        Set by :class:`~pyro_mgvi.model.Model`.
    outputs
        How many outputs the likelihood of each modality wants, in their order; all ``n_outputs``
        by default.
    decoder
        Class (or ``functools.partial`` of one) of each.

    Raises
    ------
    SettingsError
        If the data have one modality, or no latent reaches one of several.
    """

    def __init__(
        self,
        latents: Latents,
        initial: InitialValues,
        n_outputs: int,
        outputs: Sequence[int] | None = None,
        decoder: Callable[..., Decoder] = JointDecoder,
    ):
        super().__init__()
        if initial.modalities is None:
            raise SettingsError("ModalityDecoders are for data with several modalities")
        self.modalities, self.n_outputs = initial.modalities, n_outputs
        names = self.modalities.names
        wanted = (n_outputs,) * len(names) if outputs is None else tuple(outputs)
        made, self.latents = {}, {}
        for name, each in zip(names, wanted):
            reaching = latents.reaching(name)
            if reaching is None:
                raise SettingsError(
                    f"no latent reaches modality {name!r}: add one, such as shared(10), or leave "
                    "the modality out"
                )
            self.latents[name] = reaching
            made[module_name(name)] = decoder(reaching, initial.of_modality(name), n_outputs=each)
        self.parts = DictOf(made)

    def forward(self, x: DecoderInput) -> list[Part]:
        """Return parts whose outputs are those of the modalities side by side.

        Where a modality's likelihood wants fewer outputs than another's, zeros stand for the rest.
        """
        each = [
            part(x._replace(values={latent.name: x.values[latent.name] for latent in latents}))
            for latents, part in zip(self.latents.values(), self.parts.values())
        ]
        return [tuple(map(_joined, _padded(of_part, self.n_outputs))) for of_part in zip(*each)]

    def log_prior(self) -> Tensor | None:
        """Return the log density of all weights that have a prior."""
        logs = [part.log_prior() for part in self.parts.values()]
        known = [log for log in logs if log is not None]
        return sum(known[1:], start=known[0]) if known else None

    def start_dimension(self, copy: Copy, dim: int, start: DimensionStart) -> None:
        """Let a dimension start at the loadings of each modality that it reaches."""
        for name, part in zip(self.latents, self.parts.values()):
            reaches = any(copy.latent == latent.name for latent in self.latents[name])
            if reaches and isinstance(part, StartsDimensions):
                loading_g = start.loading_g[self.modalities.columns[name]]
                part.start_dimension(copy, dim, start._replace(loading_g=loading_g))

    def group_offsets(self) -> Tensor | None:
        """Return the offsets of all features, or None if a decoder has none."""
        found = [
            part.group_offsets() if isinstance(part, HasGroupOffsets) else None
            for part in self.parts.values()
        ]
        known = [each for each in found if each is not None]
        return torch.cat(known, 1) if len(known) == len(found) else None

    def set_group_offsets(self, offset_bg: Tensor) -> None:
        """Replace the offsets of all features."""
        for part, offset in zip(self.parts.values(), self.modalities.split(offset_bg)):
            if not isinstance(part, HasGroupOffsets):
                raise SettingsError("the decoder was built without offsets: none can be replaced")
            part.set_group_offsets(offset)


def _padded(parts: tuple[Part, ...], n_outputs: int) -> list[list[Tensor]]:
    """Return each output of all modalities; zeros where one has fewer."""
    return [
        [part[i] if i < len(part) else torch.zeros_like(part[0]) for part in parts]
        for i in range(n_outputs)
    ]


def _joined(outputs: list[Tensor]) -> Tensor:
    return torch.cat(outputs, -1)
