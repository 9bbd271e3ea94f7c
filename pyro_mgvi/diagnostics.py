"""May one read anything into these latents? Measures, a null to compare with, and plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from pyro_mgvi.calibration import CrossFit, cross_fit
from pyro_mgvi.contrast import log_library
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.errors import DataError
from pyro_mgvi.metrics import linear_cka, probe

ACTIVE = 0.01  # variance of posterior means over cells (Burda et al. 2016)
SURE = 3.0  # standard errors by which a latent must be worth more than the shuffled one
LEAK = 0.15  # balanced accuracy above chance that counts as a leak
AGREE = 0.5  # linear CKA below which two refits disagree


@dataclass(frozen=True)
class Report:
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


def diagnose(
    mgvi,
    adata,
    labels: str | Sequence | None = None,
    refits: CrossFit | None = None,
    shuffled: CrossFit | None = None,
    batch: str | Sequence | None = None,
    **plan,
) -> Report:
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
        Column of ``obs``, or one label per cell, of what should be shared (cell types).
    refits, shuffled
        Refits that are there already, from :func:`~pyro_mgvi.cross_fit` and
        :func:`shuffled_fit`; each takes about one training otherwise.
    batch
        Column of ``obs``, or one label per cell, that no latent should tell (donor, replicate),
        whether the model knows it or not. The model's own ``batch_key`` and categorical
        covariates are always probed for.
    **plan
        Training settings of the refits.

    Raises
    ------
    DataError
        If ``labels`` or ``batch`` is unknown or does not fit the cells, or a group cannot be
        split.

    Examples
    --------
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.simulate import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=120, n_shared_genes=60, n_program_genes=20)
    >>> mgvi = MGVI.from_anndata(adata, group_key="group")
    >>> mgvi.fit(adata, max_epochs=2, progress=False)
    >>> report = diagnose(mgvi, adata, labels="celltype", max_epochs=2)
    >>> list(report.copies.index)
    ['z', 't_group1', 't_group2']
    """
    data = mgvi.read(adata)
    labels = _labels(adata, labels, len(data))
    nuisances = _nuisances(adata, batch, data)
    refits = cross_fit(mgvi, data, **plan) if refits is None else refits
    shuffled = shuffled_fit(mgvi, data, **plan) if shuffled is None else shuffled
    dimensions = _dimensions(mgvi, data)
    copies = pd.concat([_worth(refits, data), _worth(shuffled, _shuffle(data, mgvi.seed))], axis=1)
    copies.columns = ["worth", "worth_se", "shuffled", "shuffled_se"]
    copies["agreement"] = _agreement(refits, data)
    probes = _probes(mgvi, data, labels, nuisances)
    return Report(dimensions, copies, probes, tuple(_verdict(mgvi, dimensions, copies, probes)))


def shuffled_fit(mgvi, adata, **plan) -> CrossFit:
    """Refit on halves of the cells with the groups shuffled, as the null of :func:`diagnose`."""
    return cross_fit(mgvi, _shuffle(mgvi.read(adata), mgvi.seed), **plan)


def _shuffle(data: GroupedCounts, seed: int) -> GroupedCounts:
    """Return the data with groups permuted within batches: group sizes stay as they are.

    Where a batch holds one group only, nothing moves within it; groups are then permuted freely.
    """
    rng, group_n = np.random.default_rng(seed), data.group_n.copy()
    blocks = [np.flatnonzero(data.batch_n == b) for b in range(len(data.schema.batches))]
    if any(len(set(group_n[block])) == 1 for block in blocks):
        blocks = [np.arange(len(data))]
    for block in blocks:
        group_n[block] = rng.permutation(group_n[block])
    return GroupedCounts(data.x, group_n, data.batch_n, data.covariate_nc, data.schema, data.cells)


def _copies(mgvi, data):
    """Yield each latent, the number of its copy, its key and which cells own it."""
    for latent in mgvi.model.latents:
        member_sg = latent.membership(mgvi.schema.groups).numpy()
        for copy, key in enumerate(latent.keys):
            yield latent, copy, key, member_sg[copy][data.group_n]


def _in_use(mgvi, latent, copy: int) -> torch.Tensor:
    """Return which dimensions of a copy are in use; the others cost nothing."""
    return getattr(mgvi.guide, f"in_use_{latent.name}")[copy]


@torch.no_grad()
def _posteriors(mgvi, data) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return mean and scale of each latent copy, cells x dim."""
    parts = {key: ([], []) for _, _, key, _ in _copies(mgvi, data)}
    for _, batch in mgvi._batches(data):
        posteriors = mgvi.guide.posteriors(batch.counts, batch.covariates)
        for latent in mgvi.model.latents:
            for which, value in enumerate(posteriors[latent.name]):
                stacked = value.reshape(latent.n_subsets, len(batch.group), latent.dim)
                for key, copy in zip(latent.keys, stacked):
                    parts[key][which].append(copy.numpy())
    return {key: tuple(map(np.concatenate, both)) for key, both in parts.items()}


def _dimensions(mgvi, data) -> pd.DataFrame:
    posteriors, rows = _posteriors(mgvi, data), []
    for latent, copy, key, own in _copies(mgvi, data):
        mean, scale = (x[own].astype(float) for x in posteriors[key])
        kl = (0.5 * (mean**2 + scale**2 - 1) - np.log(scale)).mean(0)
        kl = kl * _in_use(mgvi, latent, copy).numpy()
        variance = mean.var(0)
        rows += [(key, d, kl[d], variance[d], variance[d] > ACTIVE) for d in range(latent.dim)]
    return pd.DataFrame(rows, columns=["latent", "dimension", "kl", "variance", "active"])


@torch.no_grad()
def _worth(refits: CrossFit, data) -> pd.DataFrame:
    """Return what each copy is worth to the unseen cells that own it: mean, standard error."""
    gains: dict[str, list] = {}
    for fold, mgvi in enumerate(refits.refits):
        unseen = data.subset(np.flatnonzero(refits.fold_n == fold))
        generator = torch.Generator().manual_seed(refits.seed)
        copies = list(_copies(mgvi, unseen))
        for cells, batch in mgvi._batches(unseen):
            posteriors = mgvi.guide.posteriors(batch.counts, batch.covariates)
            size = log_library(mgvi.model, posteriors, batch.counts)
            draws = {
                x.name: torch.normal(*posteriors[x.name], generator=generator)
                for x in mgvi.model.latents
            }

            def log_p(values, batch=batch, size=size, model=mgvi.model):
                parts = model.decode(values, batch.group, batch.covariates)
                return model.likelihood(parts, size).log_prob(batch.counts)

            with_all = log_p(draws)
            for latent, copy, key, own in copies:
                if latent.covers(mgvi.schema.groups):
                    gains[key] = [np.full(1, np.nan)]
                    continue
                at = copy if latent.n_subsets > 1 else slice(None)
                values = {k: v.clone() for k, v in draws.items()}
                values[latent.name][at] = 0.0
                mean, scale = (x[at] for x in posteriors[latent.name])
                used = _in_use(mgvi, latent, copy)
                kl = ((0.5 * (mean**2 + scale**2 - 1) - scale.log()) * used).sum(-1)
                gain = (with_all - log_p(values) - kl).numpy()
                gains.setdefault(key, []).append(gain[own[cells]])
    joined = {key: np.concatenate(parts).astype(float) for key, parts in gains.items()}
    return pd.DataFrame({key: (x.mean(), x.std() / np.sqrt(len(x))) for key, x in joined.items()}).T


def _agreement(refits: CrossFit, data) -> dict[str, float]:
    """Return the linear CKA of each copy between the first two refits, on the owners' cells."""
    first, second = (refit.latents(data) for refit in refits.refits[:2])
    return pd.Series(
        {
            key: linear_cka(first[key][own], second[key][own])
            for _, _, key, own in _copies(refits.refits[0], data)
        }
    )


def _probes(mgvi, data, labels, nuisances) -> pd.DataFrame:
    means, rows = mgvi.latents(data), []
    group = np.asarray(mgvi.schema.groups)[data.group_n]
    for latent, _, key, own in _copies(mgvi, data):
        targets = [("group", group)] if latent.covers(mgvi.schema.groups) else []
        targets += [] if labels is None else [("label", labels)]
        targets += nuisances.items()
        for name, target in targets:
            levels, sizes = np.unique(target[own], return_counts=True)
            kept = own & np.isin(target, levels[sizes >= 3])  # a class needs a cell in each fold
            n_levels = (sizes >= 3).sum()
            if n_levels > 1:
                rows.append((key, name, probe(means[key][kept], target[kept]), 1 / n_levels))
    return pd.DataFrame(rows, columns=["latent", "target", "accuracy", "chance"])


def _verdict(mgvi, dimensions, copies, probes):
    for latent in mgvi.model.latents:
        for key, subset in zip(latent.keys, latent.subsets):
            row, active = copies.loc[key], dimensions.query("latent == @key")["active"].sum()
            about = f"{key} ({active} of {latent.dim} units active)"
            if not latent.covers(mgvi.schema.groups):
                owners = " and ".join(subset)
                error = np.hypot(row["worth_se"], row["shuffled_se"])
                figures = f"{row['worth']:.2f} nats per unseen cell, {row['shuffled']:.2f} shuffled"
                above = row["worth"] - row["shuffled"] > SURE * error
                if above and row["worth"] > SURE * row["worth_se"]:
                    yield f"{about}: holds variation that belongs to {owners} ({figures})."
                else:
                    yield (
                        f"{about}: the private latents of {owners} hold nothing for unseen cells "
                        f"that the shuffled refit does not also find ({figures}); do not "
                        "interpret them."
                    )
            if active and row["agreement"] < AGREE:
                yield f"{key}: two refits disagree (linear CKA {row['agreement']:.2f})."
    for row in probes.itertuples():
        wanted = row.target == "label" and row.latent in _shared_keys(mgvi)
        if not wanted and row.accuracy - row.chance > LEAK:
            known = row.target in ("group", "label", mgvi.schema.batch_key, *mgvi.schema.categories)
            advice = "" if known else "; register it as batch_key"
            yield (
                f"{row.latent}: leaks the {row.target} (linear probe {row.accuracy:.2f}, "
                f"chance {row.chance:.2f}){advice}."
            )


def _shared_keys(mgvi) -> set[str]:
    return {k for x in mgvi.model.latents if x.covers(mgvi.schema.groups) for k in x.keys}


def _labels(adata, labels, n: int, name: str = "labels") -> np.ndarray | None:
    if labels is None:
        return None
    if isinstance(labels, str):
        if labels not in getattr(adata, "obs", ()):
            raise DataError(f"{name} {labels!r} is not a column of adata.obs")
        labels = adata.obs[labels]
    labels = np.asarray(labels).astype(str)
    if labels.shape != (n,):
        raise DataError(f"{name} must hold one label for each of the {n} cells")
    return labels


def _nuisances(adata, batch, data) -> dict[str, np.ndarray]:
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
        found[name] = _labels(adata, batch, len(data), "batch")
    return found
