"""Errors of our own type: each names the key, cell or gene and says what to do."""


class MGVIError(ValueError):
    """Base class of all errors that pyro_mgvi raises on purpose."""


class DataError(MGVIError):
    """The data do not fit what was asked of them."""


class SettingsError(MGVIError):
    """A model or training setting is invalid."""


class TrainingError(MGVIError):
    """Training cannot go on, for example because the loss is not finite."""


class ModelFileError(MGVIError):
    """A saved model cannot be read, or does not fit the data."""


class ChainDiagnosticsWarning(UserWarning):
    """Draws from a guide are no Markov chain: r-hat and the like do not apply to them."""


class ComponentWarning(UserWarning):
    """A component lacks an ability, so that something is left out."""
