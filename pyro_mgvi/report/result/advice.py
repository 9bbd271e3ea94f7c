"""What is missing in a report, and the commands that add it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from pyro_mgvi.report.blocks import Hint
from pyro_mgvi.report.result.result import Result

MODEL = "MODEL"
FIT = "pyro-mgvi fit"
NEEDS_MODEL = FIT + " IN.{form} {} --out RESULT.{form}"
WITH_MODEL = "pyro-mgvi report RESULT.{form} --model {} --out report.html"


def _form(result: Result) -> str:
    """Return how files of the kind end."""
    return "h5ad" if result.modalities is None else "h5mu"


def with_model(result: Result, *options: str) -> str:
    """Return the command that makes the report with the model, and with further options."""
    return " ".join([WITH_MODEL.format(_model(result), form=_form(result)), *options])


def without_model(result: Result, what: str) -> Hint:
    """Say that the model is missing, and what to run."""
    missing = f"{what}: not here, because this report was made without the trained model. "
    if _model(result) != MODEL:
        return Hint(f"{missing}Name what the fit has saved:", with_model(result))
    again, more = str(result.settings.get("command")), ""
    if not again.startswith(FIT):
        columns, more = result.group_columns, ", with what else it was told,"
        options = _options(columns[1:] or columns, result.settings)
        again = NEEDS_MODEL.format(options, form=_form(result))
    how = f"Run the fit again{more} and let it save the model; then name it:"
    return Hint(missing + how, f"{again} --model {MODEL}\n{with_model(result)}")


def _model(result: Result) -> str:
    """Return where the fit saved its model, if it was run at the shell and did."""
    try:
        words = shlex.split(str(result.settings.get("command")))
        return shlex.quote(words[words.index("--model") + 1])
    except (ValueError, IndexError):  # no command, or one without a model
        return MODEL


def _options(columns: Iterable[str], settings: Mapping[str, Any]) -> str:
    """Return the options of the command line that say what the fit read, and from where."""
    options = ["--group-key", *(shlex.quote(str(column)) for column in columns)]
    for key in ("layer", "batch_key", "sample_key"):
        if settings.get(key) is not None:
            options += [f"--{key.replace('_', '-')}", shlex.quote(str(settings[key]))]
    for key in settings.get("covariate_keys") or ():
        options += ["--covariate-key", shlex.quote(str(key))]
    options += [
        f"--{key.replace('_', '-')}"
        for key in ("use_raw", "round_counts", "drop_empty")
        if settings.get(key)
    ]
    return " ".join(options)
