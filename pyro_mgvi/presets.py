"""Settings that belong together, as data: what differs from the defaults, and how to train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pyro_mgvi.networks import JointDecoder
from pyro_mgvi.training import TrainingPlan


@dataclass(frozen=True)
class Preset:
    """Settings of a model and of its training.

    Attributes
    ----------
    settings
        Keyword arguments of :meth:`MGVI.from_anndata <pyro_mgvi.MGVI.from_anndata>`.
    plan
        How to train: ``mgvi.fit(adata, plan=preset.plan)``. To change a part of it, use
        ``dataclasses.replace(preset.plan, max_epochs=3)``.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    plan: TrainingPlan = TrainingPlan()


#: The paper's model, objective and training (sections 2 and 3, appendix C): one hidden layer and
#: nothing beside it, no offsets or responses of groups, no prior on weights, equation 11 with
#: weights of 1, 500 epochs of Adam with its default step, nothing held out, no dimension closed
#: or restarted. What remains ours: initial values from the data, layer norm in the encoders,
#: steps that shrink.
#:
#: >>> from pyro_mgvi import MGVI, PAPER
#: >>> mgvi = MGVI.from_anndata(adata, "group", **PAPER.settings)  # doctest: +SKIP
#: >>> mgvi.fit(adata, plan=PAPER.plan)  # doctest: +SKIP
PAPER = Preset(
    settings={
        "decoder": partial(JointDecoder, linear=False, offset=False, response=0.0, sparsity=0.0),
        "own_weight": 1.0,
    },
    plan=TrainingPlan(
        max_epochs=500,
        learning_rate=1e-3,
        validation_fraction=0.0,
        patience=None,
        hurry=1.0,
        prune_below=0.0,
        search=None,
    ),
)
