"""What the name of a file that is written says of what is in it."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

PACKED = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz"}  # endings of packed tables, as pandas calls it


class Kind(Enum):
    """What is written, and how its file may end, the usual endings first."""

    CELLS = (".h5ad", ".zarr", ".h5", ".h5mu")
    TABLE = (".csv", ".tsv", ".txt")
    PAGE = (".html", ".htm")
    PICTURE = (".png",)
    MODEL = ()


def unpacked(path: Path) -> Path:
    """Return the path of a table without the ending that says how it is packed.

    Examples
    --------
    >>> unpacked(Path("genes.tsv.gz")).name, unpacked(Path("genes.csv")).name
    ('genes.tsv', 'genes.csv')
    """
    return path.with_suffix("") if path.suffix.lower() in PACKED else path


def misnamed(path: Path, kind: Kind) -> str | None:
    """Return what is wrong with a name for something of a kind, or None.

    Files without an ending may be anything, and the folder of a model may have an ending of its
    own, but none of another kind.

    Examples
    --------
    >>> misnamed(Path("report.h5ad"), Kind.PAGE)
    'it is named like something else; use .html or .htm'
    >>> misnamed(Path("report.html"), Kind.PAGE) is None
    True
    """
    suffix = (unpacked(path) if kind is Kind.TABLE else path).suffix.lower()
    of_others = any(suffix in other.value for other in Kind if other is not kind)
    if suffix in ("", *kind.value) or (kind is Kind.MODEL and not of_others):
        return None
    wanted = " or ".join(kind.value[:2]) or "no suffix"
    packed = f", packed if it ends in {', '.join(PACKED)}" if kind is Kind.TABLE else ""
    return f"it is named like something else; use {wanted}{packed}"
