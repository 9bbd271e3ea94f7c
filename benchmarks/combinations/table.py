"""The table: what every operation does with every configuration, and what it should do."""

from __future__ import annotations

import re
import tempfile
import traceback
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.combinations import result_operations, training_operations
from benchmarks.combinations.case import Case
from benchmarks.combinations.factors import DECODERS, ENCODERS
from benchmarks.combinations.pairs import Configuration
from pyro_mgvi import MGVIError

OPERATIONS: dict[str, Callable[[Case], None]] = {
    "fit": training_operations.fit,
    "latents": result_operations.latents,
    "expression": result_operations.expression,
    "rank_genes": result_operations.rank_genes,
    "differential_expression": result_operations.differential_expression,
    "diagnose": result_operations.diagnose,
    "held_out": result_operations.held_out_likelihood,
    "to_arviz": result_operations.arviz,
    "predictive_checks": result_operations.predictive,
    "loadings": result_operations.loadings,
    "gene_programs": result_operations.gene_programs,
    "prior draws": training_operations.prior_draws,
    "SVI": training_operations.own_loop,
    "save, load": training_operations.save_and_load,
    "resume": training_operations.resume,
    "add_group": training_operations.add_group,
    "other forms": training_operations.input_forms,
}


class Refusal(NamedTuple):
    """An operation that is refused for some levels of a factor, and what the error says."""

    operation: str
    factor: str
    levels: Collection[str]
    says: str


REFUSALS = (
    Refusal("rank_genes", "likelihood", ["Gaussian"], "train with a likelihood of counts"),
    Refusal("rank_genes", "latents", ["z"], "no group-specific latent"),
    Refusal("differential_expression", "likelihood", ["Gaussian"], "need a likelihood of counts"),
    Refusal("predictive_checks", "likelihood", ["Gaussian"], "use pyro_mgvi.criticism.to_arviz"),
    Refusal(
        "loadings",
        "decoder",
        [name for name in DECODERS if name != "LogLinearDecoder"],
        "train with decoder=LogLinearDecoder",
    ),
    Refusal(
        "gene_programs",
        "decoder",
        [name for name in DECODERS if name != "BasisDecoder"],
        "train with decoder=BasisDecoder",
    ),
    Refusal(
        "add_group",
        "encoder",
        [name for name in ENCODERS if name != "SeparateEncoders"],
        "train with SeparateEncoders and JointDecoder",
    ),
    Refusal(
        "add_group",
        "decoder",
        ["AdditiveDecoder", "BasisDecoder", "outside: from scratch"],
        "train with SeparateEncoders and JointDecoder",
    ),
)


class Cell(NamedTuple):
    """What an operation did with a configuration.

    Attributes
    ----------
    operation
        Its name.
    refused
        What the error of this package says; empty if the operation worked.
    wrong
        What is not as it should be; empty if all is.
    """

    operation: str
    refused: str
    wrong: str


def expected(chosen: Configuration, operation: str) -> list[Refusal]:
    """Return the reasons for which an operation should be refused."""
    return [
        refusal
        for refusal in REFUSALS
        if refusal.operation == operation and chosen[refusal.factor] in refusal.levels
    ]


def row(chosen: Configuration, folder: Path | None = None) -> Iterator[Cell]:
    """Yield what every operation does with a configuration.

    Parameters
    ----------
    chosen
        The configuration.
    folder
        For files; a temporary one by default.
    """
    with tempfile.TemporaryDirectory(dir=folder) as name:
        case = Case(chosen, Path(name))
        for operation, do in OPERATIONS.items():
            yield _cell(case, operation, do)


def _cell(case: Case, operation: str, do: Callable[[Case], None]) -> Cell:
    reasons = expected(case.chosen, operation)
    try:
        with case.undisturbed():
            do(case)
    except MGVIError as error:
        said = " ".join(str(error).split())
        if any(re.search(reason.says, said) for reason in reasons):
            return Cell(operation, said, "")
        return Cell(operation, said, f"refused: {said}")
    except Exception as error:  # whatever else it is, it is a fault
        text = " ".join(str(error).split())[:400]
        at = traceback.extract_tb(error.__traceback__)
        ours = next(frame for frame in reversed(at) if "combinations" in frame.filename)
        where = f"{Path(ours.filename).name}:{ours.lineno}: {ours.line}"
        return Cell(operation, "", f"{type(error).__name__}: {text} ({where})")
    return Cell(operation, "", "should have been refused" if reasons else "")
