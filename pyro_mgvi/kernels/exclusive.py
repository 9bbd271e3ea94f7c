"""What belongs to the whole process: torch's random generator and type, and Pyro's handlers."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from pyro import poutine

from pyro_mgvi.errors import SettingsError

_lock = threading.RLock()


def _renewed() -> None:
    """Let a forked child begin with a free lock: the thread that held it is not in the child."""
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_renewed)


@contextmanager
def exclusive() -> Iterator[None]:
    """Draw random numbers and run Pyro programs as if nobody else in the process did.

    Threads take turns. The caller's random state stays as it was, handlers of the caller do not see
    the sites within, and what is made is no inference tensor, also within
    ``torch.inference_mode()``: it could never be trained. Tensors are of single precision, as
    counts are, whatever the caller's default is: of another one, a seed draws other numbers.

    Examples
    --------
    >>> torch.manual_seed(0).initial_seed()
    0
    >>> with exclusive():
    ...     _ = torch.manual_seed(5)
    >>> torch.initial_seed()
    0
    """
    # Nobody has drawn on a GPU that was not used yet, and to ask would take hold of it.
    used = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    grad = torch.is_grad_enabled()
    with _lock, torch.random.fork_rng(devices=used), poutine.block():
        with torch.inference_mode(False), torch.set_grad_enabled(grad), _single_precision():
            yield


@contextmanager
def _single_precision() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def fast_small_numbers() -> Iterator[None]:
    """Take denormal numbers for zero, and give this and torch's validation back as they were.

    Weights of idle dimensions shrink towards zero, and denormal numbers are 20 times slower.

    Examples
    --------
    >>> with fast_small_numbers():
    ...     float(torch.tensor(1e-38) / 100)
    0.0
    """
    flushed = float(torch.tensor(1e-38, dtype=torch.float32) / 100) == 0.0
    validated = torch.distributions.Distribution._validate_args  # Pyro restores its own only
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed)
        torch.distributions.Distribution.set_default_validate_args(validated)


def check_full_precision(device: str) -> None:
    """Refuse to compute within ``torch.autocast``, on a kind of device.

    Raises
    ------
    SettingsError
        If it is on.
    """
    if torch.is_autocast_enabled(device):
        raise SettingsError(
            "torch.autocast is on, which rounds what sums over genes and cells need: leave it first"
        )
