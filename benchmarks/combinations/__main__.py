"""Print the table of all combinations, and write it.

    python -m benchmarks.combinations --out benchmarks/notes/RESULTS_combinations.md

The same rows are a test (tests/test_combinations.py).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.combinations.factors import FACTORS, NO_MODEL, NOT_MEANT, configurations
from benchmarks.combinations.pairs import Configuration, all_pairs
from benchmarks.combinations.table import OPERATIONS, REFUSALS, Cell, row

Row = tuple[Configuration, list[Cell]]


def shown(cell: Cell) -> str:
    """Return a cell as one sign."""
    return "**wrong**" if cell.wrong else "refused" if cell.refused else "works"


def by_level(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a table of each factor's levels by operation: how many work, of how many."""
    yield f"| factor | level | {' | '.join(OPERATIONS)} |"
    yield "|---" * (2 + len(OPERATIONS)) + "|"
    for factor, levels in FACTORS.items():
        for level in levels:
            mine = [cells for chosen, cells in rows if chosen[factor] == level]
            counts = [Counter(map(shown, column)) for column in zip(*mine)]
            texts = []
            for count in counts:
                names = [f"{count[sign]} {sign}" for sign in ("works", "refused", "**wrong**")]
                texts.append(", ".join(name for name in names if not name.startswith("0 ")))
            yield f"| {factor} | {level} | {' | '.join(texts)} |"


def by_configuration(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a table of all configurations, with what is refused."""
    yield f"| | {' | '.join(FACTORS)} | refused |"
    yield "|---" * (2 + len(FACTORS)) + "|"
    for i, (chosen, cells) in enumerate(rows):
        refused = ", ".join(cell.operation for cell in cells if cell.refused) or "-"
        yield f"| {i + 1} | {' | '.join(chosen.values())} | {refused} |"


def report(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of the note."""
    cells = [cell for _, row_ in rows for cell in row_]
    count = Counter(map(shown, cells))
    n_pairs = len(set(all_pairs(FACTORS)) - NOT_MEANT)
    yield "# Combinations"
    yield ""
    yield "`python -m benchmarks.combinations --out benchmarks/notes/RESULTS_combinations.md`"
    yield ""
    yield (
        f"{len(rows)} trained configurations hold all {n_pairs} pairs of levels of {len(FACTORS)} "
        f"factors, but for {len(NO_MODEL)} of which there is no model, which is refused by name. "
        f"Under {len(OPERATIONS)} operations they make {len(cells)} "
        f"cells: **{count['works']} work, {count['refused']} are refused by name, "
        f'{count["**wrong**"]} are wrong**. What "works" means is the docstring of the operation '
        "in `benchmarks/combinations`, and that the caller's cells, random state and model are "
        "what they were."
    )
    yield ""
    yield "## Refused"
    yield ""
    yield "| operation | for | the error says | cells |"
    yield "|---|---|---|---|"
    for reason in REFUSALS:
        n = sum(
            bool(cell.refused) and cell.operation == reason.operation
            for chosen, row_ in rows
            for cell in row_
            if chosen[reason.factor] in reason.levels
        )
        levels = ", ".join(reason.levels)
        yield f"| {reason.operation} | {reason.factor} {levels} | {reason.says} | {n} |"
    for levels, says in NO_MODEL.items():
        named = " and ".join(f"{factor} {level}" for factor, level in sorted(levels))
        yield f"| building a model | {named} | {says} | - |"
    for title, lines in (
        ("Levels and operations", by_level(rows)),
        ("Configurations", by_configuration(rows)),
    ):
        yield from ("", f"## {title}", "", *lines)


def main() -> None:
    """Run all, and print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=int, nargs="*", help="numbers of configurations, from 1")
    parser.add_argument("--out", type=Path, help="note to write the table to")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    begin, rows, wrong = time.time(), [], 0
    for i, chosen in enumerate(configurations()):
        if arguments.only and i + 1 not in arguments.only:
            continue
        cells = list(row(chosen))
        rows.append((chosen, cells))
        for cell in cells:
            if cell.wrong:
                wrong += 1
                print(f"{i + 1}: {cell.operation}: {cell.wrong}", file=sys.stderr, flush=True)
    text = "\n".join(report(rows)) + "\n"
    print(text)
    print(f"{time.time() - begin:.0f} s", file=sys.stderr)
    if arguments.out is not None:
        arguments.out.write_text(text, encoding="utf-8")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
