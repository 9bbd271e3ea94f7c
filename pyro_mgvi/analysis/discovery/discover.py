"""From counts to programs, each with the groups whose cells vary along it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from pyro_mgvi.analysis.discovery.candidates import Candidate, candidates
from pyro_mgvi.analysis.discovery.discovery import (
    ABSENT,
    COLUMNS,
    FEW,
    UNDECIDED,
    VARIES,
    Discovery,
    Groups,
    latents_of,
    verdicts,
)
from pyro_mgvi.analysis.discovery.evidence import selective_rates
from pyro_mgvi.analysis.efficient_scores import discovery_rates
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.cells.marks import marks
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.support.values import number
from pyro_mgvi.training import TrainingPlan, train
from pyro_mgvi.training.plan import SearchSettings, chosen_plan
from pyro_mgvi.training.program import Program, check_model
from pyro_mgvi.training.search.directions import best_seen
from pyro_mgvi.training.search.residuals import Direction, Residuals, residuals_of_groups

RATE = 0.05
SURER = 5  # times smaller is the rate at which groups are said to differ: a latent hangs on it
EARLIER = 2  # times, than the search of a fit: types are learnt by then, and little else
GENES = 8  # named in the table


def discover(
    mgvi: Program,
    adata: AnnData | GroupedCounts,
    *,
    rate: float = RATE,
    plan: TrainingPlan | None = None,
    accelerator: str = "auto",
    progress: bool = True,
) -> Discovery:
    r"""Find programs, and in which groups each of them is, with an error rate.

    A new model with the shared latents alone is trained half as long as until the search of a fit
    (five epochs): types are learnt by then, and programs that most groups share are not yet; these
    would not show in the residuals. Half of the cells of each group then say which pairs of genes
    covary beyond it, and so which directions there are (:mod:`pyro_mgvi.training.search`); the
    *other* half says along which of these the cells of each group vary, and how far
    (:func:`~pyro_mgvi.analysis.discovery.evidence.variance_along`). A group has a program if that
    variance is above zero, and above a quarter (``SearchSettings.dead``) of that of the group that
    varies most; programs, and groups within programs, are called at one false discovery rate
    (:func:`~pyro_mgvi.analysis.discovery.evidence.selective_rates`). It has not got a program if
    the variance is below half of the largest, by the same rate; otherwise that is undecided. A
    program is of some groups only if the groups differ (Cochran's Q, a fifth of the rate over
    programs) and one of them has not got it; any other is left to the shared latent.

    Parameters
    ----------
    mgvi
        A model of the groups, trained or not, whose settings and shared latents to use; it stays
        as it is.
    adata
        Annotated data (or :class:`~pyro_mgvi.GroupedCounts`).
    rate
        False discovery rate.
    plan
        How to train; by default as the model was.
    accelerator
        Where to train, as for :meth:`MGVI.fit <pyro_mgvi.MGVI.fit>`.
    progress
        Show a progress bar.

    Returns
    -------
    The ``table`` has a row for each program and group: ``program``, from 1, those of some groups
    first; ``group``; ``verdict``, one of ``"varies"``, ``"absent"``, ``"undecided"`` and
    ``"too few cells"``; ``share``, the group's variance as a share of the largest; ``z_score`` and
    ``q_value`` of its variation; ``cells`` on which it was tested; ``latent``, the key of the copy
    that is made for it, or that of the shared latent; ``n_genes`` that follow it; ``genes``, those
    that tell most of it. ``latents`` are for a model: a group of which a program is undecided
    counts as an owner if its share says so. Cells are taken as independent, given the shared
    latents: q-values speak of these samples, not of new donors.

    Raises
    ------
    SettingsError
        If the model has no shared latent, or the rate is not between 0 and 1.

    Examples
    --------
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.datasets import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=600, n_shared_genes=60, n_program_genes=60)
    >>> found = discover(MGVI.from_anndata(adata, "group"), adata, progress=False)
    >>> sorted({owners for owners, _ in found.programs.values()})
    [('group1',), ('group1', 'group2'), ('group2',)]
    """
    check_model(mgvi)
    rate = number("rate", rate, least=0.0)
    if not 0 < rate < 1:
        raise SettingsError(f"rate must be between 0 and 1, not {rate}")
    if not mgvi.families.shared:
        raise SettingsError("to discover who shares what, the model needs a shared latent")
    data = mgvi.read(adata, missing_genes=0)
    plan = chosen_plan(plan, None, mgvi.plan).resolved(mgvi.seed)
    settings = plan.search or SearchSettings()
    first = mgvi.fresh(data, mgvi.seed, mgvi.families.shared)
    epochs = min(max(1, settings.epoch // EARLIER), plan.max_epochs or settings.epoch)
    train(first, data, replace(plan, max_epochs=epochs), accelerator, progress)
    residuals = residuals_of_groups(first, data, settings, mgvi.seed)
    if not residuals:
        nothing = pd.DataFrame(columns=list(COLUMNS))
        return Discovery(nothing, first.families.families, {}, marks(data))
    searched_g = best_seen(residuals, settings).nonzero()[:, 0]
    groups = [_of_genes(group, searched_g) for group in residuals.values()]
    found = candidates(groups, settings, mgvi.seed)
    return _discovery(first, data, found, residuals, searched_g, rate, settings)


def _of_genes(group: Residuals, genes: torch.Tensor) -> Residuals:
    measured_g = None if group.measured_g is None else group.measured_g[genes]
    return group._replace(
        r_ng=group.r_ng[:, genes], slope_g=group.slope_g[genes], measured_g=measured_g
    )


def _discovery(
    program: Program,
    data: GroupedCounts,
    found: Sequence[Candidate],
    residuals: dict[int, Residuals],
    searched_g: torch.Tensor,
    rate: float,
    settings: SearchSettings,
) -> Discovery:
    """Return the programs among the candidates, with their groups."""
    from scipy.stats import norm  # takes half a second to import

    z_pb = np.array([each.unseen.z_varies(settings.dead) for each in found])
    absent_pb = np.array([each.unseen.z_absent() for each in found])
    q_pb = selective_rates(norm.sf(z_pb))
    q_absent_pb = np.array([discovery_rates(p_b) for p_b in norm.sf(absent_pb)])
    q_alike_p = discovery_rates(np.array([each.unseen.p_alike for each in found]))
    names, codes = program.families.groups, np.array(list(residuals))
    kept: list[tuple[int, np.ndarray, Groups]] = []
    for p, each in enumerate(found):
        verdict_b = verdicts(q_pb[p], q_absent_pb[p], rate)
        if not (verdict_b == VARIES).any():
            continue
        differ = q_alike_p[p] < rate / SURER and (verdict_b == ABSENT).any()
        if not differ:
            verdict_b = np.where(verdict_b == ABSENT, UNDECIDED, verdict_b)
        may_b = (verdict_b == UNDECIDED) & (each.unseen.share_b > 1 / settings.dead)
        owner_b = (verdict_b == VARIES) | may_b if differ else np.ones(len(codes), bool)
        owners = names if owner_b.all() else tuple(names[code] for code in codes[owner_b])
        kept.append((p, verdict_b, owners))
    kept.sort(key=lambda each: (len(each[2]) == len(names), -np.nanmax(z_pb[each[0]])))
    latents = latents_of(program.families.families, [owners for *_, owners in kept], names)
    keys = {
        subset: key
        for latent in latents[len(program.families.families) :]
        for subset, key in zip(latent.owners, latent.keys)
    }
    shared_key = program.families.copies[0].key
    rows: list[dict[str, object]] = []
    programs: dict[int, tuple[Groups, Direction]] = {}
    for i, (p, verdict_b, owners) in enumerate(kept, start=1):
        each = found[p]
        loading_g = torch.zeros(data.shape[1], dtype=torch.float32)
        loading_g[searched_g] = each.loading_g
        own = [b for b, code in enumerate(codes) if names[code] in owners]
        programs[i] = owners, _direction(loading_g, each, residuals, own, data)
        slope_g = torch.stack([group.slope_g for group in residuals.values()]).mean(0)
        telling_g = (loading_g * slope_g).abs().argsort(descending=True, stable=True)
        n_genes = int((loading_g != 0).sum())
        told = [str(program.schema.genes[g]) for g in telling_g[: min(GENES, n_genes)]]
        common = {
            "program": i,
            "latent": keys.get(owners, shared_key),
            "n_genes": n_genes,
            "genes": ", ".join(told),
        }
        tested = dict(zip(codes, range(len(codes))))
        for code, name in enumerate(names):
            row: dict[str, object] = common | {"group": name, "verdict": FEW, "cells": 0}
            if code in tested:
                b = tested[code]
                row |= {
                    "verdict": str(verdict_b[b]),
                    "share": each.unseen.share_b[b],
                    "z_score": z_pb[p, b],
                    "q_value": q_pb[p, b],
                    "cells": len(residuals[code].cells) // 2,
                }
            rows.append(row)
    return Discovery(pd.DataFrame(rows, columns=list(COLUMNS)), latents, programs, marks(data))


def _direction(
    loading_g: torch.Tensor,
    each: Candidate,
    residuals: dict[int, Residuals],
    own: list[int],
    data: GroupedCounts,
) -> Direction:
    """Return a program's direction, with the scores of the cells of its owners."""
    groups = list(residuals.values())
    score_n = torch.cat([each.scores[b] / each.scores[b].std().clamp(min=1e-6) for b in own])
    cells = np.concatenate([groups[b].cells for b in own])
    return Direction(loading_g, score_n, data.cells[cells])
