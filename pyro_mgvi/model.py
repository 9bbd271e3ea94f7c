"""The generative program: what the paper's section 2 says, as a Pyro model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import count

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor

from pyro_mgvi.decoders import JointDecoder
from pyro_mgvi.latents import Latent, over_groups
from pyro_mgvi.likelihoods import ZINB
from pyro_mgvi.sparse import to_dense
from pyro_mgvi.start import Start

_serial = count()  # two modules of one name share parameter-store entries: one would not train


class GroupedModule(PyroModule):
    """What model and guide have in common: latents, groups, plates and membership.

    Parameters
    ----------
    latents
        Latent families, such as ``(shared(10), private(10))``.
    groups
        Names of all groups, in the order of the group codes.
    name
        Root of the parameter names; unique in this process unless given.
    """

    def __init__(self, latents: Sequence[Latent], groups: Sequence[str], name: str | None = None):
        # A module made in this mode trains both ways: by SVI through the global parameter store,
        # and as a torch module of its own (module_local_params), which fit() uses.
        with pyro.settings.context(module_local_params=True):
            super().__init__(name or f"mgvi_{type(self).__name__.lower()}_{next(_serial)}")
        self.groups = tuple(groups)
        self.latents = over_groups(latents, self.groups)
        for latent in self.latents:
            member_sg = latent.membership(self.groups)
            self.register_buffer(f"member_{latent.name}", member_sg, persistent=False)
            in_use_sd = torch.ones(latent.n_subsets, latent.dim, dtype=torch.bool)
            self.register_buffer(f"in_use_{latent.name}", in_use_sd)

    def member(self, latent: Latent, group_n: Tensor) -> Tensor:
        """Return which cells own which copy: boolean, (S, n), or (n,) for a single copy."""
        member_sn = getattr(self, f"member_{latent.name}")[:, group_n]
        return member_sn if latent.n_subsets > 1 else member_sn[0]

    def in_use(self, latent: Latent) -> Tensor:
        """Return which dimensions are in use: boolean, (S, 1, d), or (d,) for a single copy.

        A dimension out of use is owned by no cell: its prior is a Dirac at zero for all.
        """
        in_use_sd = getattr(self, f"in_use_{latent.name}")
        return in_use_sd.unsqueeze(1) if latent.n_subsets > 1 else in_use_sd[0]

    @staticmethod
    def cells(n: int, n_cells: int, index_n: Tensor | None):
        """Return the ``cells`` plate; a minibatch (with ``index``) is scaled to ``n_cells``."""
        if index_n is None:
            return pyro.plate("cells", n, dim=-1)
        return pyro.plate("cells", n_cells, subsample=index_n, dim=-1)

    @staticmethod
    def copies(latent: Latent):
        """Return the plate over the copies of a family, empty for a single copy."""
        if latent.n_subsets == 1:
            return nullcontext()
        return pyro.plate(f"{latent.name}_copies", latent.n_subsets, dim=-2)


class Model(GroupedModule):
    """Generative model of grouped counts (paper, section 2).

    Sites: one per latent family (``z``, ``t``), ``library`` and ``counts``, and the factor
    ``decoder_prior`` if the decoder's weights have a prior; plates: ``cells`` (dim -1) and one
    per family of several copies (dim -2).

    Parameters
    ----------
    latents, groups, name
        See :class:`GroupedModule`.
    start
        Data-dependent starting values and priors.
    decoder
        Class (or ``functools.partial`` of one) that maps latents to expression.
    likelihood
        Class (or partial) of the observation model.
    observed_library
        Take the library size as observed instead of as a latent variable.
    """

    def __init__(
        self,
        latents: Sequence[Latent],
        groups: Sequence[str],
        start: Start,
        decoder=JointDecoder,
        likelihood=ZINB,
        observed_library: bool = False,
        name: str | None = None,
    ):
        super().__init__(latents, groups, name)
        self.n_cells = start.n_cells
        self.observed_library = observed_library
        self.register_buffer("log_library_b2", start.log_library_b2.clone())
        self.likelihood = likelihood(start)
        self.decoder = decoder(
            self.latents, start, n_outputs=self.likelihood.n_outputs, groups=self.groups
        )

    def forward(self, counts, group, batch=None, covariates=None, index=None):
        """Declare all sites for n cells and return the counts.

        Parameters
        ----------
        counts
            Observed counts, (n, genes), dense or sparse CSR; None to draw from the prior.
        group, batch
            Integer codes, (n,); ``batch`` is the batch of the library prior.
        covariates
            Covariate matrix (n, covariates), or None.
        index
            Positions of a minibatch's cells in the training set; scales the ELBO to it.
        """
        n = len(group)
        if counts is not None and counts.layout == torch.sparse_csr:
            counts = to_dense(counts)
        log_prior = getattr(self.decoder, "log_prior", lambda: None)()
        if log_prior is not None:  # weights are estimated at the mode of their posterior
            pyro.factor("decoder_prior", log_prior)
        with self.cells(n, self.n_cells, index):
            values = {}
            for latent in self.latents:
                with self.copies(latent):
                    values[latent.name] = pyro.sample(latent.name, self.prior(latent, group))
            log_library, likelihood = None, self.likelihood
            if getattr(likelihood, "counts_only", True):
                library = pyro.sample(
                    "library",
                    self.library_prior(batch, n),
                    obs=None if counts is None or not self.observed_library else counts.sum(-1),
                )
                log_library = library.log()
            parts = self.decode(values, group, covariates)
            return pyro.sample("counts", likelihood(parts, log_library), obs=counts)

    def prior(self, latent: Latent, group_n: Tensor):
        """Return the prior of all copies: standard normal for the cells that own them."""
        in_use = self.in_use(latent)
        own = dist.Normal(self.log_library_b2.new_zeros(in_use.shape), 1.0)
        if not in_use.all():
            own = dist.MaskedMixture(in_use, dist.Delta(torch.zeros_like(own.loc)), own)
        own = own.to_event(1)
        member = self.member(latent, group_n)
        if latent.covers(self.groups):
            return own.expand(member.shape)
        return latent.foreign(own, member)

    def library_prior(self, batch_n: Tensor | None, n: int):
        """Return the log-normal prior of the library size (paper, equation 4)."""
        stats = self.log_library_b2[batch_n if batch_n is not None else [0] * n]
        return dist.LogNormal(stats[..., 0], stats[..., 1])

    def decode(self, values: dict[str, Tensor], group_n: Tensor, covariates=None, offset_ng=None):
        """Return the decoder's outputs, foreign copies at exact zeros.

        ``offset_ng`` holds the weight of each group's offset for each cell; by default
        the cell's own group has all of it.
        """
        own, decoder = {}, self.decoder  # looked up once: each time, Pyro declares its parameters
        if offset_ng is None:
            offset_ng = torch.nn.functional.one_hot(group_n, len(self.groups))
            own = {"group_n": group_n} if getattr(decoder, "takes_group", False) else {}
        gated = {}
        for latent in self.latents:
            value = values[latent.name] * self.member(latent, group_n).unsqueeze(-1)
            if latent.n_subsets > 1:
                value = value.movedim(-3, -2).flatten(-2)  # (S, n, d) -> (n, S * d)
                value = value.unsqueeze(-3) if value.dim() > 2 else value  # particles: keep rank
            gated[latent.name] = value
        return decoder(gated, offset_ng.to(self.log_library_b2), covariates, **own)
