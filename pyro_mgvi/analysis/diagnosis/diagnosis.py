"""Are the latents meaningful? Compares them with refits on shuffled group labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from pyro_mgvi.analysis.cross_fit import CrossFit, cross_fit, shuffled_fit, shuffled_groups
from pyro_mgvi.analysis.diagnosis.again import found_again
from pyro_mgvi.analysis.diagnosis.probes import (
    Given,
    nested_in_groups,
    nuisance_labels,
    owned_cells,
    probe_latents,
)
from pyro_mgvi.analysis.diagnosis.verdict import ACTIVE, verdict
from pyro_mgvi.analysis.latent_values import latent_values
from pyro_mgvi.analysis.metrics import linear_cka
from pyro_mgvi.core.copies import Copy
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.names import labels_of
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.training import TrainingPlan
from pyro_mgvi.training.program import Program, check_model


@dataclass(frozen=True)
class Diagnosis:
    """What :func:`diagnose` found; ``print`` it for the verdict.

    Attributes
    ----------
    dimensions
        Per latent copy and dimension (from 1, as in all tables), over the cells that own it:
        ``kl`` in nats per cell, ``variance`` of the posterior means and whether the unit is
        ``active``; ``found_again``, the share of this variance that the same latent of the refits
        predicts, and ``in_shared``, that which the refits' shared latents do
        (:func:`~pyro_mgvi.metrics.recovered`, means over the refits; NaN where a unit is not in
        use). A private unit that refits hold in their shared latents alone is no group's own.
    copies
        Per latent copy that not all groups own: ``worth``, by how many nats per unseen cell it
        raises the bound on the likelihood, with its standard error; the same for the refit on
        ``shuffled`` groups; and ``agreement``, the linear CKA of two refits (all copies).
    probes
        Balanced accuracy of linear probes beside chance: can the latent tell the target? The group
        is probed for within labels (within clusters of the latent where there are none): which
        kinds of cells a group has more of is no leak. ``kind`` is what a target is, whatever its
        name: the ``"group"``, the ``"label"``, or a ``"nuisance"``, which no latent should tell.
    verdict
        Sentences.
    """

    dimensions: pd.DataFrame
    copies: pd.DataFrame
    probes: pd.DataFrame
    verdict: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.verdict)

    def __repr__(self) -> str:
        return f"Diagnosis of {len(self.copies)} latents:\n{self}"


def diagnose(
    mgvi: Program,
    adata: AnnData | GroupedCounts,
    labels: Given = None,
    refits: CrossFit | None = None,
    shuffled: CrossFit | None = None,
    batch: Given = None,
    plan: TrainingPlan | None = None,
    max_epochs: int | None = None,
    progress: bool = True,
) -> Diagnosis:
    """Compare a model's latents with what they would be if the groups meant nothing.

    Private latents are active on data without any group-specific variation, too. So the model is
    refitted on halves of the cells, with the true groups and with groups shuffled among the cells,
    and a latent is judged by what it is *worth on unseen cells*: the rise of the evidence lower
    bound when it is used instead of being zero, one posterior draw per cell, the KL paid. Where a
    latent fits noise this is negative. To count, it must lie above zero and above the shuffled
    refit's, each by 3 standard errors over cells (the refits' own spread is not in them).

    Parameters
    ----------
    mgvi
        A trained :class:`~pyro_mgvi.MGVI`.
    adata
        The data it was trained on.
    labels
        Column of ``obs``, or one label per cell, of what should be shared (cell types). Cells
        without a label are left out of the probes.
    refits, shuffled
        Refits that are there already, from :func:`~pyro_mgvi.cross_fit` and
        :func:`shuffled_fit`; each takes about one training otherwise.
    batch
        Column of ``obs``, or one label per cell, that no latent should tell (donor, replicate),
        whether the model knows it or not. The model's own ``batch_key`` and categorical
        covariates are always probed for. A Series gives the target its name.
    plan
        How to train the refits; by default as the model was.
    max_epochs
        Instead of that of the plan.
    progress
        Show progress bars: of the refits, and of what takes seconds.

    Raises
    ------
    DataError
        If ``labels`` or ``batch`` is unknown or does not fit the cells, or a group cannot be
        split.
    SettingsError
        If refits are none.

    Warns
    -----
    DataWarning
        If labels leave nothing to probe for.

    Examples
    --------
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.datasets.simulate import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=120, n_shared_genes=60, n_program_genes=20)
    >>> mgvi = MGVI.from_anndata(adata, group_key="group")
    >>> _ = mgvi.fit(adata, max_epochs=2, progress=False)
    >>> report = diagnose(mgvi, adata, labels="celltype", max_epochs=2, progress=False)
    >>> list(report.copies.index)
    ['z', 't_group1', 't_group2']
    """
    check_model(mgvi)
    for name, given in {"refits": refits, "shuffled": shuffled}.items():
        if given is not None and not isinstance(given, CrossFit):
            raise SettingsError(f"{name} must come from cross_fit, not {given!r}")
    data = mgvi.read_for_results(adata)
    label_n = None if labels is None else labels_of(adata, labels, data)
    nuisances = nuisance_labels(adata, batch, data)
    null = shuffled_groups(data, mgvi.seed)
    for given, of in ((refits, data), (shuffled, null)):
        if given is not None:
            given.check(of, mgvi)
    if refits is None:
        refits = cross_fit(mgvi, data, plan, max_epochs, progress)
    if shuffled is None:
        shuffled = shuffled_fit(mgvi, data, plan, max_epochs, progress)
    latents = [latent_values(refit, data, progress=progress) for refit in refits.refits]
    dimensions = pd.concat([_dimensions(mgvi, data), found_again(mgvi, data, latents)], axis=1)
    both = _worth(refits, data, progress), _worth(shuffled, null, progress)
    copies = pd.concat(both, axis=1)
    copies.columns = pd.Index(["worth", "worth_se", "shuffled", "shuffled_se"])
    copies["agreement"] = _agreement(mgvi, data, latents)
    probes = probe_latents(mgvi, data, label_n, nuisances)
    nested = nested_in_groups(data, nuisances)
    sentences = tuple(verdict(mgvi, dimensions, copies, probes, nested))
    return Diagnosis(dimensions, copies, probes, sentences)


@torch.no_grad()
def _dimensions(program: Program, data: GroupedCounts) -> pd.DataFrame:
    """Return what each dimension says, over the cells that own it."""
    families, copies = program.families, program.families.copies
    parts: dict[Copy, tuple[list[np.ndarray], list[np.ndarray]]] = {c: ([], []) for c in copies}
    for _, posterior in program.posteriors(data):
        for latent in families:
            owned, kl = posterior.owned(latent.name), posterior.divergence(latent.name)
            mean = posterior.mean(latent.name)
            for copy in families.copies_of(latent.name):
                mine = owned[copy.index]
                for found, value in zip(parts[copy], (kl, mean)):
                    found.append(value[copy.index][mine].cpu().double().numpy())
    rows = []
    for copy, both in parts.items():
        kl_nd, mean_nd = map(np.concatenate, both)
        kl_d, variance_d = kl_nd.mean(0), mean_nd.var(0)
        rows += [
            (copy.key, d + 1, kl_d[d], variance_d[d], variance_d[d] > ACTIVE)
            for d in range(copy.dim)
        ]
    return pd.DataFrame(rows, columns=["latent", "dimension", "kl", "variance", "active"])


@torch.no_grad()
def _worth(refits: CrossFit, data: GroupedCounts, progress: bool = False) -> pd.DataFrame:
    """Return what each copy is worth to the unseen cells that own it: mean, standard error."""
    gains: dict[str, list[np.ndarray]] = {}
    for fold, mgvi in enumerate(refits.refits):
        unseen = data.subset(np.flatnonzero(refits.fold_n == fold))
        generator = torch.Generator().manual_seed(refits.seed)
        shown = "worth of latents" if progress else None
        for _, posterior in mgvi.posteriors(unseen, progress=shown):
            draws = posterior.draw(generator)
            with_all = posterior.log_likelihood(draws)
            for copy in mgvi.families.copies:
                if copy.latent in mgvi.families.of_everyone:
                    gains[copy.key] = [np.full(1, np.nan)]
                    continue
                values = {k: v.clone() for k, v in draws.items()}
                values[copy.latent][copy.index] = 0.0
                kl = posterior.divergence(copy.latent)[copy.index].sum(-1)
                gain_n = with_all - posterior.log_likelihood(values) - kl
                gain_n = gain_n[posterior.owned(copy.latent)[copy.index]]
                gains.setdefault(copy.key, []).append(gain_n.cpu().numpy())
    joined = {key: np.concatenate(parts).astype(float) for key, parts in gains.items()}
    return pd.DataFrame({key: (x.mean(), x.std() / np.sqrt(len(x))) for key, x in joined.items()}).T


def _agreement(
    program: Program, data: GroupedCounts, latents: Sequence[Mapping[str, np.ndarray]]
) -> pd.Series:
    """Return the linear CKA of each copy between the first two refits, on the owners' cells."""
    first, second = latents[:2]
    owned = owned_cells(program, data)
    return pd.Series(
        {key: linear_cka(first[key][own], second[key][own]) for key, own in owned.items()}
    )
