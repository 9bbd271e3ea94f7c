"""Where to train, by name: found, or refused in one line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

from pyro_mgvi.errors import SettingsError
from pyro_mgvi.support.launched import ALONE, Launched

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def fabric(
    accelerator: str, here: torch.device | None = None, launched: Launched = ALONE
) -> Fabric:
    """Return Lightning's Fabric for one device, or for one of each process.

    Parameters
    ----------
    accelerator
        ``"cpu"``, ``"gpu"``, ``"cuda"`` or ``"mps"``, or with a number as torch writes it, such as
        ``"cuda:1"``. ``"auto"`` is where the model is, if that is not the CPU; else a GPU (NVIDIA's
        or AMD's), if there is one; else the CPU.
    here
        Where the model is; on the CPU by default.
    launched
        With several processes, each has a device of its own, and they average their gradients.

    Raises
    ------
    SettingsError
        If there is no such device here, or one is named for several processes.

    Examples
    --------
    >>> fabric("cpu").device
    device(type='cpu')
    """
    from lightning_fabric import Fabric  # takes a second to import
    from lightning_fabric.strategies import DDPStrategy

    named = re.fullmatch(r"(\w+)(?::(\d+))?", accelerator) if isinstance(accelerator, str) else None
    if named is None:
        raise SettingsError(
            f"accelerator {accelerator!r} cannot be used here: it is no name of a device; use "
            "'cpu' or 'auto'"
        )
    kind, number = named.groups()
    several = launched.n_ranks > 1
    if several and number is not None and kind != "cpu":
        raise SettingsError(
            f"accelerator {accelerator!r} cannot be used here: it is one device, and there are "
            f"{launched.n_ranks} processes; use {kind!r}, and each has its own"
        )
    if accelerator == "auto" and here is not None and here.type != "cpu":
        kind, number = here.type, None if here.index is None else str(here.index)
    elif accelerator == "auto":  # not Apple's, which lacks double precision
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    devices = 1 if number is None or kind == "cpu" else [int(number)]
    try:
        if not several:
            return Fabric(accelerator=kind, devices=devices)
        strategy = DDPStrategy(find_unused_parameters=True)  # some variants have such
        n_machines = launched.n_ranks // launched.n_here
        made = Fabric(
            accelerator=kind, devices=launched.n_here, num_nodes=n_machines, strategy=strategy
        )
        made.launch()
        return made
    except Exception as error:  # of many types, that of a missing torch_xla among them
        reason = " ".join(str(error).split()).rstrip(".!")
        if "is not available" in reason or reason.startswith("No supported gpu"):
            reason = "there is no such device"  # Lightning says so in 50 words
        raise SettingsError(
            f"accelerator {accelerator!r} cannot be used here: {reason}; use 'cpu' or 'auto'"
        ) from error
