"""What is missing in a report, and the commands that add it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from pyro_mgvi.report.blocks import Hint
from pyro_mgvi.report.result.result import Result

NEEDS_MODEL = "pyro-mgvi fit IN.{form} {} --out RESULT.{form} --model MODEL"
WITH_MODEL = "pyro-mgvi report RESULT.{form} --model MODEL --out report.html"


def _form(result: Result) -> str:
    """Return how files of the kind end."""
    return "h5ad" if result.modalities is None else "h5mu"


def with_model(result: Result, *options: str) -> str:
    """Return the command that makes the report with the model, and with further options."""
    return " ".join([WITH_MODEL.format(form=_form(result)), *options])


def without_model(result: Result, what: str) -> Hint:
    """Say that the model is missing, and what to run."""
    columns = result.group_columns
    return Hint(
        f"{what}: not here, because this report was made without the trained model. Run the fit "
        "again, with what else it was told, and let it save the model; then name it:",
        NEEDS_MODEL.format(_options(columns[1:] or columns, result.settings), form=_form(result))
        + "\n"
        + with_model(result),
    )


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
