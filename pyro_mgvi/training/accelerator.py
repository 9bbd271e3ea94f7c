"""Where to train, by name: found, or refused in one line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

from pyro_mgvi.errors import SettingsError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def fabric(accelerator: str, here: torch.device | None = None) -> Fabric:
    """Return Lightning's Fabric for one device.

    Parameters
    ----------
    accelerator
        ``"cpu"``, ``"gpu"``, ``"cuda"`` or ``"mps"``, or with a number as torch writes it, such as
        ``"cuda:1"``. ``"auto"`` is where the model is, if that is not the CPU; else a GPU (NVIDIA's
        or AMD's), if there is one; else the CPU.
    here
        Where the model is; on the CPU by default.

    Raises
    ------
    SettingsError
        If there is no such device here.

    Examples
    --------
    >>> fabric("cpu").device
    device(type='cpu')
    """
    from lightning_fabric import Fabric  # takes a second to import

    named = re.fullmatch(r"(\w+)(?::(\d+))?", accelerator) if isinstance(accelerator, str) else None
    if named is None:
        raise SettingsError(
            f"accelerator {accelerator!r} cannot be used here: it is no name of a device; use "
            "'cpu' or 'auto'"
        )
    kind, number = named.groups()
    if accelerator == "auto" and here is not None and here.type != "cpu":
        kind, number = here.type, None if here.index is None else str(here.index)
    elif accelerator == "auto":  # not Apple's, which lacks double precision
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    devices = 1 if number is None or kind == "cpu" else [int(number)]
    try:
        return Fabric(accelerator=kind, devices=devices)
    except Exception as error:  # of many types, that of a missing torch_xla among them
        reason = " ".join(str(error).split()).rstrip(".!")
        if "is not available" in reason or reason.startswith("No supported gpu"):
            reason = "there is no such device"  # Lightning says so in 50 words
        raise SettingsError(
            f"accelerator {accelerator!r} cannot be used here: {reason}; use 'cpu' or 'auto'"
        ) from error
