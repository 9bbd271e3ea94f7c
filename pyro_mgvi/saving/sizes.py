"""What a saved model claims to be, held against what its file of weights holds."""

from __future__ import annotations

from pathlib import Path

from pyro_mgvi.errors import ModelFileError
from pyro_mgvi.saving.components import is_built_in
from pyro_mgvi.saving.formats import Settings, Weights


def check_sizes(settings: Settings, weights: Weights, path: Path) -> None:
    """Refuse settings that ask for more than the weights have, before anything is allocated.

    Parameters
    ----------
    settings, weights
        Of the newest format.
    path
        The folder, for the message.

    Raises
    ------
    ModelFileError
        Naming what does not fit.
    """
    shapes = {
        f"{part}.{name}": tuple(weight.shape)
        for part, state in weights.items()
        for name, weight in state.items()
    }
    schema = settings["schema"]
    claimed: dict[str, tuple[int, ...]] = {
        f"model.active.dims_{latent['name']}": (len(latent["subsets"]), latent["dim"])
        for latent in settings["latents"]
    }
    claimed["guide.input_g"] = (len(schema["genes"]),)
    if schema.get("samples"):
        claimed["guide.samples.raw_location_sg"] = (len(schema["samples"]), len(schema["genes"]))
    n_modalities = len(schema.get("modalities", ()))
    of_each = (n_modalities,) if n_modalities > 1 else ()
    claimed["model.log_library_b2"] = (max(1, len(schema["batches"])), *of_each, 2)
    for name, shape in claimed.items():
        if shapes.get(name) != shape:
            raise ModelFileError(
                f"weights and settings of {path} do not fit: {name} is {shapes.get(name)}, and "
                f"the settings say {shape}"
            )
    largest = max(size for shape in shapes.values() for size in shape)
    for part in ("encoder", "decoder", "likelihood"):
        ours = is_built_in(settings[part])  # whose whole numbers are all widths of weights
        for name, value in settings[part]["settings"].items():
            if ours and isinstance(value, int) and value > largest:
                raise ModelFileError(
                    f"weights and settings of {path} do not fit: {name}={value} of the {part}, and "
                    f"no weight is wider than {largest}"
                )
