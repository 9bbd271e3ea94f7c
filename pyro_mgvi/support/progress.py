"""Progress bars of passes that may take long."""

from __future__ import annotations

from typing import Any

from tqdm.auto import tqdm

DELAY = 2.0  # seconds: what is over sooner needs no bar


def progress_bar(total: int, what: str | None, unit: str) -> Any:
    """Return a progress bar with the time left, shown once two seconds have passed.

    Parameters
    ----------
    total
        How many units there are.
    what
        What the bar is called; None for a bar that is never shown.
    unit
        What is counted.

    Examples
    --------
    >>> with progress_bar(3, None, "cell") as bar:
    ...     bar.update(3)
    """
    hidden = what is None
    return tqdm(total=total, desc=what, unit=unit, disable=hidden, leave=False, delay=DELAY)
