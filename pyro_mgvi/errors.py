"""Errors and warnings of our own types: each names what is at fault and says what to do."""

import os
import sys
import warnings
from pathlib import Path

#: Files whose lines are not the user's: this package, and torch's decorators around its functions.
OURS = (str(Path(__file__).parent), f"torch{os.sep}utils{os.sep}_contextlib.py")


class MGVIError(ValueError):
    """Base class of all errors that pyro_mgvi raises on purpose."""


class DataError(MGVIError):
    """The data do not fit what was asked of them."""


class SettingsError(MGVIError):
    """A model or training setting is invalid."""


class TrainingError(MGVIError):
    """Training cannot go on, for example because the loss is not finite."""


class TrainingInterrupted(KeyboardInterrupt):
    """Training was interrupted (Ctrl-C); the message says what the model keeps.

    No :class:`MGVIError`: ``except ValueError`` must not swallow a Ctrl-C.
    """


class ModelFileError(MGVIError):
    """A saved model cannot be read, or does not fit the data."""


class ChainDiagnosticsWarning(UserWarning):
    """Draws from a guide are no Markov chain: r-hat and the like do not apply to them."""


class ComponentWarning(UserWarning):
    """A component lacks an ability, so that something is left out."""


class DataWarning(UserWarning):
    """The data can be used, but perhaps not as they were meant."""


class UntrainedWarning(UserWarning):
    """A model was asked for results before it was trained."""


def warn(message: str, category: type[Warning]) -> None:
    """Warn, at the line of the user's code that called into this package."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and any(part in frame.f_code.co_filename for part in OURS):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
