"""The summary of a fit."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np
import pandas as pd
from anndata import AnnData

from pyro_mgvi.analysis.fit_summary.convergence import Convergence
from pyro_mgvi.analysis.fit_summary.hints import crowded, hints, next_step
from pyro_mgvi.analysis.gene_effects.dimensions import first_genes
from pyro_mgvi.analysis.gene_effects.effects import dims_in_use, effects, owners
from pyro_mgvi.analysis.several.agreement import in_words
from pyro_mgvi.core.copies import Copy
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.checks import some
from pyro_mgvi.kernels.exclusive import exclusive
from pyro_mgvi.training.objective import last_training
from pyro_mgvi.training.plan import TrainingPlan
from pyro_mgvi.training.program import Program
from pyro_mgvi.training.search.pruning import dimension_divergence

CELLS = 3000  # that are looked at, about; as many of each group
LEAST = 50  # of a group, if it has them
DECODED = 300  # of each private latent
DIMS = 3  # of each private latent, those that say most
NAMED = 5  # genes in each direction
UNIT = "nats per cell: how much a latent says about a cell; 0 is nothing, and 1 nat is 1.44 bits"


@dataclass(frozen=True)
class FitSummary:
    """What :meth:`MGVI.fit <pyro_mgvi.MGVI.fit>` has done and found; ``print`` it.

    Attributes
    ----------
    groups
        Number of cells of each group.
    n_genes
        Number of genes.
    epochs
        How many were trained; 0 if training left no history.
    loss
        Which loss decided, in words, and that of the weights that are kept.
    stopped
        Why training ended.
    converged
        Whether the loss had stopped falling (:class:`Convergence`); None if that cannot be told.
    latents
        A row for each latent: who ``owns`` it, how many ``cells`` do, how many ``dimensions`` it
        has and how many are ``in_use``, what it says about a cell (``nats``, the divergence of
        posterior from prior) and, of latents of some groups or modalities, the first ``genes`` that
        rise and fall along the dimensions that say most, in words. Nats and genes are of a sample
        of the cells.
    agreement
        How well several trainings find each dimension again, see
        :func:`~pyro_mgvi.analysis.several.agreement.agreement`; empty after a single one.
    hints
        What makes the result doubtful.
    next_step
        What to do next.
    """

    groups: dict[str, int]
    n_genes: int
    epochs: int
    loss: str
    stopped: str
    converged: bool | None
    latents: pd.DataFrame
    agreement: pd.DataFrame
    hints: tuple[str, ...]
    next_step: str

    @property
    def heading(self) -> str:
        """Cells, genes and groups, in words."""
        groups = some([f"{name} {size:,}" for name, size in self.groups.items()], 12)
        return f"{sum(self.groups.values()):,} cells x {self.n_genes:,} genes; groups: {groups}"

    @property
    def training(self) -> str:
        """How long and how well it was trained, in words."""
        if not self.epochs:
            return self.stopped
        return f"{self.epochs} epochs, {self.loss}; {self.stopped}; {self._convergence}"

    @property
    def _convergence(self) -> str:
        if self.converged is None:
            return "too early to tell whether it converged"
        return "converged" if self.converged else "not converged: raise max_epochs"

    @property
    def _genes(self) -> list[str]:
        """The first genes of each latent that has some, in words."""
        pairs = zip(self.latents["latent"], self.latents["genes"])
        return [f"{latent}: {genes}" for latent, genes in pairs if genes]

    def __str__(self) -> str:
        lines = [self.heading, self.training, self._table().to_string(index=False), UNIT]
        lines += [f"genes of {genes}" for genes in self._genes]
        lines += [*in_words(self.agreement)]
        lines += [f"doubtful: {hint}" for hint in self.hints]
        return "\n".join([*lines, f"next: {self.next_step}"])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        table = self._table().to_html(index=False, border=0)
        last = [UNIT, *(f"Genes of {genes}" for genes in self._genes)]
        last += [*in_words(self.agreement)]
        last += [f"Doubtful: {hint}." for hint in self.hints]
        before, after = (
            "".join(f"<p>{escape(text)}</p>" for text in texts)
            for texts in ((self.heading, self.training), (*last, self.next_step))
        )
        return f"<div>{before}{table}{after}</div>"

    def _table(self) -> pd.DataFrame:
        """Return the latents as they are shown."""
        table = self.latents
        return pd.DataFrame(
            {
                "latent": table["latent"],
                "cells": [f"{n:,}" for n in table["cells"]],
                "in use": [f"{n} of {dim}" for n, dim in zip(table["in_use"], table["dimensions"])],
                "nats per cell": [f"{nats:.2f}" for nats in table["nats"]],
            }
        )


def summary(mgvi: Program, adata: AnnData | GroupedCounts) -> FitSummary:
    """Return what a fit has done and found, and what to do next; nothing is refitted.

    At most a few thousand cells are looked at, some of each group.

    Parameters
    ----------
    mgvi
        A trained :class:`~pyro_mgvi.MGVI`.
    adata
        The cells it was trained on, annotated data or :class:`~pyro_mgvi.GroupedCounts`.

    Raises
    ------
    DataError
        If the data are not of the model's genes and groups.

    Examples
    --------
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.datasets.simulate import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=120, n_shared_genes=60, n_program_genes=20)
    >>> mgvi = MGVI.from_anndata(adata, group_key="group")
    >>> found = mgvi.fit(adata, max_epochs=2, progress=False)
    >>> found.epochs, found.converged, found.latents["latent"].tolist()
    (2, None, ['z', 't_group1', 't_group2'])
    """
    data = mgvi.read_for_results(adata)
    sizes = np.bincount(data.group_n, minlength=len(mgvi.schema.groups))
    sampled = data.subset(_sample(data, len(sizes)))
    with exclusive():  # a divergence without a closed form takes draws
        latents = pd.DataFrame(_latents(mgvi, data, sampled))
    plan = (mgvi.plan or TrainingPlan()).resolved(mgvi.seed)
    most = plan.max_epochs or 0
    loss, stopped = "", "trained by a loop of your own, or not at all"
    found = Convergence(None, float("nan"))
    if len(mgvi.history):
        name = "validation" if "validation" in mgvi.history else "train"
        loss_e = mgvi.history[name].to_numpy(float)
        best = _best(mgvi.history, loss_e)
        loss, stopped = f"{name} loss {loss_e[best]:.2f} nats per cell", _stopped(mgvi, plan, best)
        found = Convergence.of(loss_e[last_training(mgvi.history)][plan.search_epoch or 0 :])
    used = [
        copy.key
        for copy in mgvi.families.copies
        if not mgvi.families.everyones(copy) and len(dims_in_use(mgvi, copy))
    ]
    return FitSummary(
        groups=dict(zip(mgvi.schema.groups, map(int, sizes))),
        n_genes=data.shape[1],
        epochs=len(mgvi.history),
        loss=loss,
        stopped=stopped,
        converged=None if mgvi.interrupted and found.converged else found.converged,
        latents=latents,
        agreement=mgvi.agreement,
        hints=(*hints(mgvi, data, sampled), *(crowded(mgvi) if found.converged else ())),
        next_step=next_step(found.converged, most, used, bool(len(mgvi.history))),
    )


def _best(history: pd.DataFrame, loss_e: np.ndarray) -> int:
    """Return the position of the epoch whose weights were kept; models of old formats lack it."""
    if "kept" not in history or not history["kept"].any():
        return int(loss_e.argmin())
    return int(np.flatnonzero(history["kept"])[-1])


def _stopped(mgvi: Program, plan: TrainingPlan, best: int) -> str:
    """Return why training ended, after the epoch at ``best`` was."""
    most = plan.max_epochs or 0
    if mgvi.interrupted:
        return "interrupted by Ctrl-C or by an error"
    since_best = len(mgvi.history) - 1 - best
    if plan.patience is not None and since_best >= plan.patience:
        return f"ended after {since_best} epochs without a better loss"
    if last_training(mgvi.history).sum() < most:
        return f"the schedule of {most} epochs hurried to its end"
    return "all epochs of the schedule are done"


def _sample(data: GroupedCounts, n_groups: int) -> np.ndarray:
    """Return the positions of some cells of each group, in order."""
    rng, most = np.random.default_rng(0), max(LEAST, CELLS // n_groups)
    chosen = []
    for code in range(n_groups):
        cells = np.flatnonzero(data.group_n == code)
        chosen.append(rng.permutation(cells)[:most])
    return np.sort(np.concatenate(chosen))


def _latents(mgvi: Program, data: GroupedCounts, sampled: GroupedCounts) -> list[dict[str, object]]:
    """Return a row for each copy."""
    nats = dimension_divergence(mgvi, sampled)
    rows = []
    for copy in mgvi.families.copies:
        own, nats_d = owners(mgvi, sampled, copy), nats[copy.latent][copy.index].numpy()
        rows.append(
            {
                "latent": copy.key,
                "owns": "all" if copy.shared else copy.owners.replace(" and ", " + "),
                "cells": len(owners(mgvi, data, copy)),
                "dimensions": copy.dim,
                "in_use": len(dims_in_use(mgvi, copy)),
                "nats": float(nats_d.sum()),
                "genes": ""
                if mgvi.families.common(copy)
                else _genes(mgvi, sampled.subset(own), copy, nats_d),
            }
        )
    return rows


def _genes(mgvi: Program, own: GroupedCounts, copy: Copy, nats_d: np.ndarray) -> str:
    """Return the first genes of the dimensions that say most, in words."""
    used = dims_in_use(mgvi, copy)
    if not len(own) or not len(used):
        return ""
    step = -(-len(own) // DECODED)
    first = used[np.argsort(-nats_d[used], kind="stable")][:DIMS]
    found = effects(mgvi, own.subset(np.arange(0, len(own), step)), copy, first)
    said = []
    for i in range(len(first)):
        up, down = first_genes(found, i, mgvi.schema.genes, NAMED)
        said.append(", ".join(up) + (f"; down {', '.join(down)}" if down else ""))
    if len(used) > DIMS:
        said.append(f"and {len(used) - DIMS} more dimensions")
    return " | ".join(said)
