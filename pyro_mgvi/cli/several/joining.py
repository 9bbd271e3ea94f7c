"""The one file that is fitted: the one that was named, or several joined on disk."""

from __future__ import annotations

import tempfile
import warnings
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import Any

from pyro_mgvi.cli.fit_options import say
from pyro_mgvi.cli.several.checks import check_parts
from pyro_mgvi.cli.several.parts import Part, opened
from pyro_mgvi.errors import DataError, SettingsError
from pyro_mgvi.support.optional import require

READ = 1 << 24  # values that are read at a time, to find what is damaged
LOADED = 100_000_000  # values, zeros too, that anndata may reorder at a time


@contextmanager
def one_file(arguments: Namespace) -> Iterator[Path]:
    """Give the file to fit; several are joined beside the output, in a folder that is then removed.

    Cells come in the order of the files. What all files have is kept: counts, layers, ``obsm`` and
    columns of ``obs``; of genes, what is the same in all of them.

    Parameters
    ----------
    arguments
        Of ``fit``.

    Raises
    ------
    DataError
        If one is damaged, or they do not fit together.
    """
    if len(arguments.inputs) == 1:
        yield arguments.inputs[0]
        return
    beside = None if arguments.out is None else arguments.out.resolve().parent
    with tempfile.TemporaryDirectory(prefix=".mgvi-", dir=beside) as folder:
        joined = Path(folder) / "joined.h5ad"
        with opened(arguments.inputs, arguments.layer) as parts:
            check_parts(parts, arguments)
            n_cells = sum(len(part.cells) for part in parts)
            say(f"joining {len(parts)} files: {n_cells:,} cells")
            _join(parts, joined, arguments.file_key, arguments.rename_cells)
        yield joined


def _join(parts: Sequence[Part], joined: Path, file_key: str | None, rename: bool) -> None:
    """Write all cells to one file.

    Raises
    ------
    DataError
        Naming the file that is damaged, or why they cannot be joined.
    SettingsError
        If there is no space left for the one that is written.
    """
    from anndata.experimental import concat_on_disk

    if any(_dense_in_all(parts)):
        require("dask.array", "join")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of anndata, on formats to come
            concat_on_disk(
                [part.group for part in parts],
                joined,
                merge="same",
                label=file_key,
                keys=[part.key for part in parts],
                index_unique="-" if rename else None,
                max_loaded_elems=LOADED,
            )
    except Exception as error:
        reason = " ".join(str(error).split())
        paths = ", ".join(str(part.path) for part in parts)
        if isinstance(error, OSError) and error.errno in (ENOSPC, EDQUOT):
            raise SettingsError(f"{paths} cannot be joined: {reason}") from error
        for part in parts:
            _check_readable(part)
        raise DataError(f"{paths} cannot be joined: {reason}") from error


def _dense_in_all(parts: Sequence[Part]) -> Iterator[str]:
    """Yield the dense arrays that all files have, which dask joins."""
    for where in ("layers", "obsm"):
        names = [set(part.group[where]) if where in part.group else set() for part in parts]
        for name in set.intersection(*names):
            if parts[0].group[where][name].attrs.get("encoding-type") == "array":
                yield f"{where}/{name}"
    if parts[0].matrices["X"][0] == "array":
        yield "X"


def _check_readable(part: Part) -> None:
    """Refuse a file whose counts cannot all be read.

    Raises
    ------
    DataError
        Naming it.
    """
    x: Any = part.group["X"]
    is_sparse = part.matrices["X"][0] != "array"
    arrays = [x[name] for name in ("data", "indices", "indptr")] if is_sparse else [x]
    try:
        for array in arrays:
            step = max(1, READ // max(1, array.size // max(1, len(array))))
            for start in range(0, len(array), step):
                array[start : start + step]
    except Exception as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"the counts of {part.path} cannot be read ({reason}): the file is damaged or "
            "truncated; restore it"
        ) from error
