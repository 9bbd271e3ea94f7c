"""Standard output and error that outlast their reader."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Lasting(io.FileIO):
    """An open file, of which what cannot be written is dropped."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write, or pretend to: the reader has gone (``| head``), or the disk is full."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


@contextmanager
def lasting_output() -> Iterator[None]:
    """Let no ``print`` and no progress bar fail, for what they tell is less than what they are of.

    Characters that the terminal has not got are written as escapes.
    """
    with ExitStack() as stack:
        for stream, redirect in ((sys.stdout, redirect_stdout), (sys.stderr, redirect_stderr)):
            if (lasting := _lasting(stream)) is not None:
                stack.enter_context(redirect(lasting))
                stack.callback(lasting.flush)
        yield


def _lasting(stream: TextIO | None) -> TextIO | None:
    """Return a stream to the same file; None where there is no file, as in a notebook."""
    if not isinstance(stream, io.TextIOWrapper):
        return None
    try:
        raw = _Lasting(stream.fileno(), "w", closefd=False)
    except OSError:  # in memory
        return None
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering or stream.write_through,
    )
