"""A model of another schema, with the settings of one that is there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from pyro_mgvi.core.latents import Latent
from pyro_mgvi.data import Schema
from pyro_mgvi.training.program import Program

AnyProgram = TypeVar("AnyProgram", bound=Program)


def grown(program: AnyProgram, schema: Schema, latents: Iterable[Latent]) -> AnyProgram:
    """Return a model of the same settings, with neutral weights, where the program is.

    What is known of the program stays: what it was discovered by, and how well trainings agree on
    its dimensions. Neither says anything of a new group.

    Parameters
    ----------
    program
        The model that is there.
    schema, latents
        Those of the new one.
    """
    larger = type(program)(
        schema,
        schema.blank_values(),
        latents,
        observed_library=program.model.observed_library,
        own_weight=program.own_weight,
        foreign_sample=program.guide.foreign_sample,
        seed=program.seed,
        **program.components,
    )
    larger.given_weight = dict(program.given_weight)
    larger.agreement, larger.discovery = program.agreement, program.discovery
    return larger.to(str(program.device))
