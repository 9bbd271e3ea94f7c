"""What must not be left half done: a Ctrl-C waits until it is."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import suppress


def undisturbed(action: Callable[[], object]) -> bool:
    """Do something to its end, and return whether a Ctrl-C, or another signal, came meanwhile.

    Signals that Python handles are held back, and handlers of the caller's own are called
    afterwards. What raises KeyboardInterrupt in another way has the action begin anew.

    Examples
    --------
    >>> before, done = signal.signal(signal.SIGINT, signal.default_int_handler), []
    >>> undisturbed(lambda: (signal.raise_signal(signal.SIGINT), done.append("all")))
    True
    >>> done, signal.signal(signal.SIGINT, before) is signal.default_int_handler
    (['all'], True)
    """
    came: list[int] = []
    here = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    held = {number: handler for number, handler in handlers.items() if here and callable(handler)}
    for number in held:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        try:
            action()
        except KeyboardInterrupt:
            came.append(signal.SIGINT)
            action()
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
    for each in came:
        if held.get(signal.Signals(each)) not in (None, signal.default_int_handler):
            with suppress(KeyboardInterrupt):
                signal.raise_signal(each)
    return bool(came)
