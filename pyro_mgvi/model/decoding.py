"""Which copies to decode with, and whose offsets: the one answer for expression and ranking."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_mgvi.core.copies import Latents
from pyro_mgvi.core.interfaces import Part
from pyro_mgvi.data.minibatch import Minibatch
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.model.generative import Model
from pyro_mgvi.support.values import one_of

OFFSETS = ("averaged", "own")


@dataclass(frozen=True)
class Decoding:
    """Some copies at their values, the others at zero.

    Attributes
    ----------
    kept
        Keys of the copies to decode with.
    averaged
        Average the groups' offsets and responses, so that nothing of a cell's group is left in
        them; otherwise those of its own group.
    """

    kept: frozenset[str]
    averaged: bool

    @classmethod
    def everything(cls, latents: Latents) -> Decoding:
        """Return the decoding with all latents, and each cell's own offset."""
        return cls(frozenset(copy.key for copy in latents.copies), averaged=False)

    @classmethod
    def keeping(cls, latents: Latents, names: str | Iterable[str] | None = None) -> Decoding:
        """Return the decoding with some latents; None stands for all.

        Without a group-specific copy among them, offsets are averaged ("shared only").

        Raises
        ------
        SettingsError
            If a latent is unknown.

        Examples
        --------
        >>> Decoding.keeping(Latents(["z:2", "t:2"], ("a", "b")), "z").averaged
        True
        """
        kept = latents.resolve(names)
        return cls(frozenset(copy.key for copy in kept), all(copy.shared for copy in kept))

    @classmethod
    def leaving_out(
        cls,
        latents: Latents,
        names: str | Iterable[str] | None = None,
        offset: str | None = None,
    ) -> Decoding:
        """Return the decoding without some group-specific latents: all of them by default.

        Parameters
        ----------
        latents
            Those of the model.
        names
            Families or copies to leave out.
        offset
            ``"averaged"`` or ``"own"``; by default ``"averaged"`` if all group-specific latents
            are left out, else ``"own"``: the mean shift belongs to none of them.

        Raises
        ------
        SettingsError
            If a latent is unknown or not group-specific, or ``offset`` is neither.
        """
        specific = {copy.key for copy in latents.copies if not copy.shared}
        if not specific:
            raise SettingsError(
                "the model has no group-specific latent that could be left out: train with one, "
                "such as latents=(shared(10), private(10))"
            )
        out = specific if names is None else {copy.key for copy in latents.resolve(names)}
        if not out or out - specific:
            families = [family.name for family in latents.specific]
            raise SettingsError(
                f"latents {sorted(out - specific)} cannot be left out: name group-specific "
                f"latents of the model, {families}, or copies of them, {sorted(specific)}"
            )
        if offset is None:
            offset = "averaged" if out == specific else "own"
        offset = one_of("offset", offset, OFFSETS)
        kept = frozenset(copy.key for copy in latents.copies if copy.key not in out)
        return cls(kept, offset == "averaged")

    def parts(self, model: Model, values: dict[str, Tensor], batch: Minibatch) -> list[Part]:
        """Return the decoder's parts for values of all latents, (S, n, dim) each."""
        chosen = {}
        for name, value in values.items():
            copies = model.latents.copies_of(name)
            kept_s = torch.tensor([copy.key in self.kept for copy in copies], device=value.device)
            chosen[name] = value * kept_s[:, None, None]
        weights = None
        if self.averaged:
            n_groups = len(model.latents.groups)
            weights = torch.full(
                (len(batch.group), n_groups), 1.0 / n_groups, device=batch.group.device
            )
        return model.decode(chosen, batch.group, batch.covariates, weights)
