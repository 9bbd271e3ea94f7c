"""One call, and whether its answer is right: equal to the canonical one, or refused by name."""

import random
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fuzz.bench import Bench
from fuzz.compare import difference, fingerprint
from pyro_mgvi import MGVIError, errors


@dataclass(frozen=True)
class Case:
    """A call that nobody should make, or in a form that few use.

    Attributes
    ----------
    kind, name
        Of the table that is printed, and within it.
    given
        Returns what the caller has; a call that is refused leaves it as it is.
    call
        Is called with the bench and what was given.
    equals
        Returns the right answer; without one the call has to be refused.
    names
        What the error has to name, as a pattern; without one the call has to be answered.
    writes
        Whether the answer is written to what was given.
    """

    kind: str
    name: str
    given: Callable[[Bench], object]
    call: Callable[[Bench, object], object]
    equals: Callable[[Bench], object] | None = None
    names: str | None = None
    writes: bool = False


class Fault(AssertionError):
    """What is wrong with an answer."""


class NotMade(Exception):
    """What should be given cannot be made: another package refuses it before ours sees it."""


def judge(case: Case, bench: Bench) -> str:
    """Return "equal" or "refused".

    Raises
    ------
    Fault
        If the answer is another, the error one of others or without the name, something is
        written though the call was refused, or the caller's objects are not what they were.
    NotMade
        If there is nothing to give.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages that make what is given
        try:
            given = case.given(bench)
        except Exception as error:
            raise NotMade(f"{type(error).__name__}: {error}") from error
    before = state(bench, given)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            got, error = case.call(bench, given), None
        except MGVIError as refusal:
            got, error = None, refusal
        except Exception as foreign:
            raise Fault(f"foreign {type(foreign).__name__}: {foreign}") from foreign
    for each in caught:
        if bench.shared.strict and each.category.__module__ != errors.__name__:
            raise Fault(f"foreign {each.category.__name__}: {each.message}")
    after = state(bench, given)
    kept = {"random state", "model"} if error is None else before.keys()
    kept |= set() if case.writes and error is None else {"given"}
    changed = [name for name in before if name in kept and before[name] != after[name]]
    if changed:
        raise Fault(f"changed: {', '.join(changed)} ({error or 'answered'})")
    if error is not None:
        if case.names is None:
            raise Fault(f"refused: {error}")
        if not re.search(case.names, str(error), re.DOTALL) or "\n" in str(error):
            raise Fault(f"the error does not name {case.names!r} in one line: {error}")
        return "refused"
    if case.equals is None:
        raise Fault(f"answered in silence: {got!r}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = case.equals(bench)
    found = difference(got, wanted)
    if found:
        raise Fault(f"wrong in silence: {found}")
    return "equal"


def state(bench: Bench, given: object) -> dict[str, object]:
    """Return all that a refused call must leave as it is."""
    return {
        "given": fingerprint(given),
        "files": listing(bench.folder),
        "model": [fingerprint(model) for model in bench.models],
        "random state": (
            torch.get_rng_state().numpy().tobytes(),
            np.random.get_state()[1].tobytes(),  # noqa: NPY002
            random.getstate(),
        ),
    }


def listing(folder: Path) -> dict[str, bytes | None]:
    """Return the content of every file below a folder, None for a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
