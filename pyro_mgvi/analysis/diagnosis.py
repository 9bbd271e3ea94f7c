"""Are the latents meaningful? Compares them with refits on shuffled group labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from pyro_mgvi.analysis.cross_fit import CrossFit, cross_fit, shuffled_fit, shuffled_groups
from pyro_mgvi.analysis.latent_values import latent_values
from pyro_mgvi.analysis.metrics import FOLDS, linear_cka, probe_and_chance
from pyro_mgvi.analysis.verdict import ACTIVE, verdict
from pyro_mgvi.core.copies import Copy
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.checks import some
from pyro_mgvi.data.names import known_labels
from pyro_mgvi.errors import DataError, DataWarning, SettingsError, warn
from pyro_mgvi.training import TrainingPlan
from pyro_mgvi.training.program import Program, check_model

Labels = str | Sequence[object] | np.ndarray | pd.Series | None


@dataclass(frozen=True)
class Diagnosis:
    """What :func:`diagnose` found; ``print`` it for the verdict.

    Attributes
    ----------
    dimensions
        Per latent copy and dimension, over the cells that own it: ``kl`` in nats per cell,
        ``variance`` of the posterior means and whether the unit is ``active``.
    copies
        Per latent copy that not all groups own: ``worth``, by how many nats per unseen cell it
        raises the bound on the likelihood, with its standard error; the same for the refit on
        ``shuffled`` groups; and ``agreement``, the linear CKA of two refits (all copies).
    probes
        Balanced accuracy of linear probes beside chance: can the latent tell the target?
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
    labels: Labels = None,
    refits: CrossFit | None = None,
    shuffled: CrossFit | None = None,
    batch: Labels = None,
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
        covariates are always probed for.
    plan
        How to train the refits; by default as the model was.
    max_epochs
        Instead of that of the plan.
    progress
        Show the refits' progress.

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
    label_n = _labels(adata, labels, data)
    nuisances = _nuisances(adata, batch, data)
    if refits is None:
        refits = cross_fit(mgvi, data, plan, max_epochs, progress)
    if shuffled is None:
        shuffled = shuffled_fit(mgvi, data, plan, max_epochs, progress)
    dimensions = _dimensions(mgvi, data)
    copies = pd.concat(
        [_worth(refits, data), _worth(shuffled, shuffled_groups(data, mgvi.seed))], axis=1
    )
    copies.columns = pd.Index(["worth", "worth_se", "shuffled", "shuffled_se"])
    copies["agreement"] = _agreement(refits, data)
    probes = _probes(mgvi, data, label_n, nuisances)
    sentences = tuple(verdict(mgvi, dimensions, copies, probes))
    return Diagnosis(dimensions, copies, probes, sentences)


def _owned(program: Program, data: GroupedCounts) -> dict[str, np.ndarray]:
    """Return which cells own each copy, by key."""
    families = program.families
    return {
        copy.key: families.membership(copy.latent)[copy.index].numpy()[data.group_n]
        for copy in families.copies
    }


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
                    found.append(value[copy.index][mine].double().cpu().numpy())
    rows = []
    for copy, both in parts.items():
        kl_nd, mean_nd = map(np.concatenate, both)
        kl_d, variance_d = kl_nd.mean(0), mean_nd.var(0)
        rows += [
            (copy.key, d, kl_d[d], variance_d[d], variance_d[d] > ACTIVE) for d in range(copy.dim)
        ]
    return pd.DataFrame(rows, columns=["latent", "dimension", "kl", "variance", "active"])


@torch.no_grad()
def _worth(refits: CrossFit, data: GroupedCounts) -> pd.DataFrame:
    """Return what each copy is worth to the unseen cells that own it: mean, standard error."""
    gains: dict[str, list[np.ndarray]] = {}
    for fold, mgvi in enumerate(refits.refits):
        unseen = data.subset(np.flatnonzero(refits.fold_n == fold))
        generator = torch.Generator().manual_seed(refits.seed)
        for _, posterior in mgvi.posteriors(unseen):
            draws = posterior.draw(generator)
            with_all = posterior.log_likelihood(draws)
            for copy in mgvi.families.copies:
                if mgvi.families[copy.latent] in mgvi.families.shared:
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


def _agreement(refits: CrossFit, data: GroupedCounts) -> pd.Series:
    """Return the linear CKA of each copy between the first two refits, on the owners' cells."""
    first, second = (latent_values(refit, data) for refit in refits.refits[:2])
    owned = _owned(refits.refits[0], data)
    return pd.Series(
        {key: linear_cka(first[key][own], second[key][own]) for key, own in owned.items()}
    )


def _probes(
    program: Program,
    data: GroupedCounts,
    label_n: np.ndarray | None,
    nuisances: dict[str, np.ndarray],
) -> pd.DataFrame:
    means, owned, rows = latent_values(program, data), _owned(program, data), []
    group = np.asarray(program.schema.groups)[data.group_n]
    for copy in program.families.copies:
        own = owned[copy.key]
        targets = [("group", group)] if copy.shared else []
        targets += [] if label_n is None else [("label", label_n)]
        targets += nuisances.items()
        for name, target in targets:
            found = probe_and_chance(means[copy.key][own], target[own])
            if found is not None:
                rows.append((copy.key, name, *found))
    probed = {name for _, name, *_ in rows}
    nothing = [name for name in ("label",) if label_n is not None and name not in probed]
    nothing += [name for name in nuisances if name not in probed]
    if nothing:
        warn(
            f"nothing to probe for: {some(nothing)} tells no two sets of {FOLDS} cells or more "
            "apart among the cells of any latent; missing and rarer labels are left out",
            DataWarning,
        )
    return pd.DataFrame(rows, columns=["latent", "target", "accuracy", "chance"])


def _labels(
    adata: AnnData | GroupedCounts, labels: Labels, data: GroupedCounts, name: str = "labels"
) -> np.ndarray | None:
    """Return one label per cell as text, None where it is missing."""
    if labels is None:
        return None
    names = None if isinstance(adata, GroupedCounts) else adata.obs_names
    if isinstance(labels, str):
        if isinstance(adata, GroupedCounts) or labels not in adata.obs:
            raise DataError(f"{name} {labels!r} is not a column of adata.obs")
        labels = adata.obs[labels]
    elif isinstance(labels, pd.Series) and names is not None:
        shared = names.isin(labels.index)
        in_order = any(labels.index.equals(cells) for cells in (names, names[data.cells]))
        if shared.all() and labels.index.is_unique:
            labels = labels.reindex(names)  # the same cells, perhaps in another order
        elif shared.any() and not in_order:
            raise DataError(
                f"{name} is a Series that knows only some of the cells by name; "
                f"missing: {some(names[~shared])}"
            )
    text_n, _ = known_labels(labels, name)
    if names is not None and len(text_n) == len(names) != len(data):
        text_n = text_n[data.cells]  # without those that the model leaves out
    if text_n.shape != (len(data),):
        raise DataError(f"{name} must hold one label for each of the {len(data)} cells")
    return text_n


def _nuisances(
    adata: AnnData | GroupedCounts, batch: Labels, data: GroupedCounts
) -> dict[str, np.ndarray]:
    """Return the labels of each cell that no latent should tell, by the name of their column."""
    schema, found, start = data.schema, {}, 0
    if schema.batch_key is not None:
        found[schema.batch_key] = np.asarray(schema.batches)[data.batch_n]
        start = len(schema.batches)
    for key, levels in schema.categories.items():  # one-hot columns, in this order
        stop = start + len(levels)
        found[key] = np.asarray(levels)[data.covariate_nc[:, start:stop].argmax(1)]
        start = stop
    if batch is not None:
        name = batch if isinstance(batch, str) else "batch"
        found[name] = _labels(adata, batch, data, "batch")
    return found
