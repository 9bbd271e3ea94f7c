"""What a model and its guide have in common: latents, plates and who owns what."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple
from uuid import uuid4

import pyro
import torch
from pyro.nn import PyroModule
from torch import Tensor

from pyro_mgvi.core.copies import Latents
from pyro_mgvi.core.latents import Latent
from pyro_mgvi.core.modalities import Modalities
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.kernels.modalities import totals_of
from pyro_mgvi.kernels.sparse import kept_entries, totals
from pyro_mgvi.model.active_dims import ActiveDims


class Generated(NamedTuple):
    """What :meth:`Model.generate` declared, for a larger program to go on with.

    Attributes
    ----------
    cells
        The plate of the cells, which can be entered again.
    latents
        Values of each latent as their sites have them: (n, dim), or (S, n, dim).
    log_library
        (n,); None for transformed values.
    counts
        Observed or drawn, (n, genes).
    """

    cells: pyro.plate
    latents: dict[str, Tensor]
    log_library: Tensor | None
    counts: Tensor


class GroupedModule(PyroModule):
    """Base of :class:`Model` and :class:`Guide`.

    Parameters
    ----------
    latents
        Latent families, bound to the groups.
    active
        Which dimensions are active: the same object in model and guide. By default all are.
    name
        Root of the parameter names in Pyro's store; by default one that no other module has.
    measured_bg
        Which group has which gene, boolean; None where all have all.
    reference_g
        Genes whose counts make up a cell's library, boolean; None for all.
    modalities
        Of which the genes are, if of several.
    """

    measured_bg: Tensor | None
    reference_g: Tensor | None
    code_g: Tensor | None

    def __init__(
        self,
        latents: Latents,
        active: ActiveDims | None = None,
        name: str | None = None,
        measured_bg: Tensor | None = None,
        reference_g: Tensor | None = None,
        modalities: Modalities | None = None,
    ):
        # A module made in this mode trains both ways: by SVI through the global parameter store,
        # and as a torch module of its own (module_local_params), which fit() uses.
        with pyro.settings.context(module_local_params=True):
            super().__init__(name or self._unique_name())
        self.latents = latents
        self.active = ActiveDims(latents) if active is None else active
        for latent in latents:
            member_sg = latents.membership(latent.name)
            self.register_buffer(f"member_{latent.name}", member_sg, persistent=False)
        self.register_buffer("measured_bg", measured_bg, persistent=False)
        self.register_buffer("reference_g", None if reference_g is None else reference_g.clone())
        self.modalities = modalities
        code_g = None if modalities is None else modalities.code_g
        self.register_buffer("code_g", code_g, persistent=False)

    def _unique_name(self) -> str:
        # Two modules of one name share parameter-store entries: one of them would not train.
        return f"mgvi_{type(self).__name__.lower()}_{uuid4().hex[:12]}"

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._pyro_name = self._unique_name()  # a copy is a module of its own

    def member(self, latent: Latent, group_n: Tensor) -> Tensor:
        """Return which cells own which copy: boolean, (S, n).

        Raises
        ------
        SettingsError
            If the groups are no codes.
        """
        if group_n.is_floating_point():
            raise SettingsError(
                "group holds fractions: give each cell's group as a whole number; that a cell owns "
                'a copy in part is said at the guide\'s site, infer={"owned": ...}'
            )
        return self.get_buffer(f"member_{latent.name}")[:, group_n]

    def measured(self, group_n: Tensor | None) -> Tensor | None:
        """Return which cell has which gene, boolean (n, genes); None where all have all.

        Raises
        ------
        SettingsError
            If that depends on the group, which is not given.
        """
        if self.measured_bg is None:
            return None
        if group_n is None:
            raise SettingsError("groups have not got the same genes: give the cells' group, too")
        return self.measured_bg[group_n]

    def only_measured(self, counts: Tensor, group_n: Tensor | None) -> Tensor:
        """Return values with zeros where a cell has not got the gene, whatever is there."""
        if self.measured_bg is None:
            return counts
        if counts.layout == torch.sparse_csr and group_n is not None:
            return kept_entries(counts, self.measured_bg, group_n)
        measured_ng = self.measured(group_n)
        assert measured_ng is not None  # there are masks
        return counts.where(measured_ng, 0.0)

    def totals(self, counts: Tensor) -> Tensor:
        """Return each cell's total, (n,): over the genes that make up its library.

        Absent ones have no count. At least one where it is of some genes: a cell may have none. Of
        several modalities, that of each, (n, modalities).
        """
        if self.modalities is not None and self.code_g is not None:
            return totals_of(counts, self.code_g, len(self.modalities))
        if self.reference_g is None:
            return totals(counts)
        return totals(counts, self.reference_g).clamp(min=1.0)

    def cells(self, n: int, index_n: Tensor | None, n_cells: float | None) -> pyro.plate:
        """Return the ``cells`` plate; a minibatch (with ``index``) is scaled to ``n_cells``.

        Raises
        ------
        SettingsError
            If the minibatch does not say of how many cells it is.
        """
        if index_n is None:
            return pyro.plate("cells", n, dim=-1)
        if n_cells is None:
            raise SettingsError(
                "a minibatch with index needs n_cells, the number of cells that it stands for: "
                "pass all of it, model(*minibatch)"
            )
        # Pyro scales by it, whatever number it is.
        return pyro.plate("cells", n_cells, subsample=index_n, dim=-1)  # type: ignore[arg-type]

    @staticmethod
    def copies(latent: Latent) -> AbstractContextManager[object]:
        """Return the plate over the copies of a family, empty for a single copy."""
        if latent.n_copies == 1:
            return nullcontext()
        return pyro.plate(f"{latent.name}_copies", latent.n_copies, dim=-2)

    @staticmethod
    def at_site(latent: Latent, value_s: Tensor) -> Tensor:
        """Return a value (S, ...) as its site has it: a single copy has no plate."""
        return value_s if latent.n_copies > 1 else value_s[0]

    @staticmethod
    def from_site(latent: Latent, value: Tensor) -> Tensor:
        """Return a site's value as (..., S, n, d); what plates are outside of ours comes first.

        The value of a single copy may have its place already, as others have, or may not.
        """
        placed = value.dim() > 3 and value.shape[-3] == 1
        return value if latent.n_copies > 1 or placed else value.unsqueeze(-3)
