"""Gene sets from a dictionary or from a GMT file, checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pyro_mgvi.data.checks import apart, some
from pyro_mgvi.errors import DataError
from pyro_mgvi.support.values import path_of


def read_gene_sets(
    gene_sets: Mapping[str, Iterable[str]] | str | Path,
) -> dict[str, tuple[str, ...]]:
    """Return gene sets by name, each gene once.

    Parameters
    ----------
    gene_sets
        Genes by the name of the set, or a GMT file: one set a line, with its name, a description
        and its genes, separated by tabs. MSigDB, Enrichr and WikiPathways offer such files.

    Raises
    ------
    DataError
        If the file cannot be read or is no GMT file, a name is there twice, a set is no list of
        names, or there is none.

    Examples
    --------
    >>> read_gene_sets({"interferon": ["ISG15", "IFIT1", "ISG15"]})
    {'interferon': ('ISG15', 'IFIT1')}
    """
    if isinstance(gene_sets, Mapping):
        names = apart(gene_sets, "gene sets")
        sets = {name: _genes(name, genes) for name, genes in zip(names, gene_sets.values())}
    else:
        sets = _read_gmt(path_of("gene_sets", gene_sets))
    if not sets:
        raise DataError("there is no gene set: give genes by the name of the set, or a GMT file")
    return sets


def _genes(name: str, genes: Iterable[str]) -> tuple[str, ...]:
    """Return the genes of a set, each once, in their order."""
    if isinstance(genes, (str, bytes)) or not isinstance(genes, Iterable):
        raise DataError(f"the gene set {name} must be a list of gene names, not {genes!r:.60}")
    listed = list(genes)
    wrong = [gene for gene in listed if not isinstance(gene, str)]
    if wrong:
        raise DataError(f"the gene set {name} holds what is no name of a gene: {some(wrong)}")
    return tuple(dict.fromkeys(gene.strip() for gene in listed if gene.strip()))


def _read_gmt(path: Path) -> dict[str, tuple[str, ...]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # others may be in a description
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"gene sets cannot be read from {path}: {error}") from error
    sets: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, *rest = line.split("\t")
        if not name or len(rest) < 2:
            raise DataError(
                f"line {number} of {path} is no gene set: a line of a GMT file holds a name, a "
                "description and genes, separated by tabs"
            )
        if name in sets:
            raise DataError(f"{path} holds two gene sets named {name}")
        sets[name] = _genes(name, rest[1:])
    return sets
