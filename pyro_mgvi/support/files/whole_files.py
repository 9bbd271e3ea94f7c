"""Files that are written whole or not at all, and read without running what they hold."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Give a path to write to; what is there at the end takes the place of ``path`` in one step.

    Whatever fails on the way, and however the process ends, ``path`` holds what it held before
    or all of the new. Links are followed: the file that they name is replaced.

    Parameters
    ----------
    path
        A file or a folder, in a folder that exists.

    Yields
    ------
    Where to write the new file or folder, on the same disk.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "answer.txt"
    ...     with written_whole(path) as part:
    ...         _ = part.write_text("42")
    ...         written = path.exists()
    ...     written, path.read_text()
    (False, '42')
    """
    target = Path(path).resolve()
    folder = Path(tempfile.mkdtemp(prefix=".mgvi-", dir=target.parent))
    part, old = folder / target.name, folder.with_name(folder.name + "-old")
    try:
        yield part
        _to_disk(*part.rglob("*"), part)
        if part.is_dir() and target.exists():  # a folder is not replaced in one step
            target.rename(old)
        os.replace(part, target)
        _to_disk(target.parent)
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def read_tensors(path: Path, device: torch.device | str = "cpu") -> Any:
    """Read what ``torch.save`` wrote, without running anything, and no more than the file holds.

    Raises
    ------
    ValueError
        If it is not of the kind that ``torch.save`` writes, or claims to be larger than it is.
    Exception
        Whatever torch says of a file that is damaged.
    """
    if not zipfile.is_zipfile(path):  # formats of old, which torch before 2.6 read with less care
        raise ValueError("it is no zip file")
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if archive.testzip() is not None:  # torch does not look at check sums
            raise ValueError("a part of it is not what was written")
    if any(Path(entry.filename).name == "constants.pkl" for entry in entries):
        raise ValueError("it holds a program")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise ValueError("it claims to hold more than it does")
    return torch.load(path, map_location=device, weights_only=True)


def _to_disk(*paths: Path) -> None:
    """Wait until the disk holds these files and listings: a power cut must not undo a renaming."""
    for path in paths:
        with suppress(OSError):  # some file systems cannot do so for a folder
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
