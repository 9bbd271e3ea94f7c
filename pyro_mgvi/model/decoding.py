"""Which copies to decode with, and whose offsets: the one answer for expression and ranking."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_mgvi.core.copies import Latents
from pyro_mgvi.core.interfaces import Part
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.model.posterior import Posterior
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
    columns
        The columns to average over (:meth:`Design.averaging <pyro_mgvi.core.Design.averaging>`),
        where several make up the groups; all by default.
    samples
        Keep the effects of the cells' samples, if these have some in the model.
    """

    kept: frozenset[str]
    averaged: bool
    columns: tuple[str, ...] = ()
    samples: bool = True

    @classmethod
    def everything(cls, latents: Latents) -> Decoding:
        """Return the decoding with all latents, and each cell's own offset."""
        return cls(frozenset(copy.key for copy in latents.copies), averaged=False)

    @classmethod
    def keeping(cls, latents: Latents, names: str | Iterable[str] | None = None) -> Decoding:
        """Return the decoding with some latents; None stands for all, with each cell's own offset.

        Without a group-specific copy among those that are named, offsets are averaged ("shared
        only"). Of several columns, those are averaged over of which the model has latents and none
        is kept. Effects of samples are kept with all latents, and not with some.

        Raises
        ------
        SettingsError
            If a latent is unknown.

        Examples
        --------
        >>> Decoding.keeping(Latents(["z:2", "t:2"], ("a", "b")), "z").averaged
        True
        """
        if names is None:
            return cls.everything(latents)
        kept = latents.resolve(names)
        keys = frozenset(copy.key for copy in kept)
        if all(map(latents.everyones, kept)):
            return cls(keys, averaged=True, samples=False)
        columns = _left_out(latents, keys)
        return cls(keys, bool(columns), columns, samples=False)

    @classmethod
    def leaving_out(
        cls,
        latents: Latents,
        names: str | Iterable[str] | None = None,
        offset: str | None = None,
        columns: tuple[str, ...] = (),
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
        columns
            Of several that make up the groups, those in question: what is left out by default are
            the latents of their levels, and offsets are averaged over these columns alone.

        Raises
        ------
        SettingsError
            If a latent is unknown or not group-specific, or ``offset`` is neither.
        """
        specific = {copy.key for copy in latents.copies if not latents.everyones(copy)}
        if not specific:
            raise SettingsError(
                "the model has no group-specific latent that could be left out: train with one, "
                "such as latents=(shared(10), private(10))"
            )
        of_columns = {copy.key for copy in latents.copies if columns and copy.columns == columns}
        whole = of_columns if columns else specific
        out = whole if names is None else {copy.key for copy in latents.resolve(names)}
        if out - specific or not (out or columns):
            families = [x.name for x in latents if x.name not in latents.of_everyone]
            raise SettingsError(
                f"latents {sorted(out - specific)} cannot be left out: name group-specific "
                f"latents of the model, {families}, or copies of them, {sorted(specific)}"
            )
        if offset is None:
            offset = "averaged" if out >= whole else "own"
        offset = one_of("offset", offset, OFFSETS)
        kept = frozenset(copy.key for copy in latents.copies if copy.key not in out)
        return cls(kept, offset == "averaged", columns if offset == "averaged" else ())

    def parts(self, posterior: Posterior, values: dict[str, Tensor]) -> list[Part]:
        """Return the decoder's parts for values of all latents, (S, n, dim) each."""
        model, batch, chosen = posterior.model, posterior.batch, {}
        for name, value in values.items():
            copies = model.latents.copies_of(name)
            kept_s = torch.tensor([copy.key in self.kept for copy in copies], device=value.device)
            chosen[name] = value * kept_s[:, None, None]
        weights = None
        if self.averaged:
            averaging_bb = model.latents.design.averaging(self.columns)
            weights = averaging_bb.to(batch.group.device)[batch.group]
        effect_ng = posterior.effect_ng if self.samples else None
        return model.decode(chosen, batch.group, batch.covariates, weights, effect_ng)


def _left_out(latents: Latents, kept: frozenset[str]) -> tuple[str, ...]:
    """Return the columns, of several, of which there are latents, and none is kept."""
    keys = latents.design.keys
    if len(keys) == 1:
        return ()
    of_column = {key: [c.key for c in latents.copies if key in c.columns] for key in keys}
    return tuple(key for key, names in of_column.items() if names and kept.isdisjoint(names))
