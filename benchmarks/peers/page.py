"""The page of tables: methods x sets for each score, what ours loses first."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

SHOWN = {  # score: whether more is better
    "harmonic mean": True,
    "label ARI": True,
    "mixing": True,
    "label probe": True,
    "scib": True,
    "program in t": True,
    "program in z": False,
    "label in t": False,
    "held-out genes": True,
    "held-out genes, of components": True,
    "CPU seconds": False,
}
OURS = "MGVI"


def write_page(rows: pd.DataFrame, path: Path) -> str:
    """Write the page and return it."""
    parts = ["# Ours beside peers\n", *losses(rows)]
    for metric, more in SHOWN.items():
        some = rows[rows["metric"] == metric]
        if len(some):
            parts += [f"\n## {metric[0].upper()}{metric[1:]}\n", table(some, more)]
    text = "\n".join(parts) + "\n"
    path.write_text(text)
    return text


def table(rows: pd.DataFrame, more: bool) -> str:
    """Return a table of means over seeds, with the range where there are several."""
    texts = cells(rows, more)
    lines = [
        "| method | " + " | ".join(texts.columns) + " |",
        "|---" * (len(texts.columns) + 1) + "|",
    ]
    lines += [
        "| " + " | ".join([method, *row]) + " |" for method, row in zip(texts.index, texts.values)
    ]
    return "\n".join(lines)


def cells(rows: pd.DataFrame, more: bool) -> pd.DataFrame:
    """Return the texts of a table, methods x sets, the best of each set in bold."""
    groups = rows.groupby(["method", "data"], sort=False)["value"]
    mean, spread = groups.mean().unstack(), (groups.max() - groups.min()).unstack()
    shown = mean.map(_shown)
    best = (mean.max() if more else mean.min()).map(_shown)
    texts = shown + spread.map(lambda s: f" ({s:.2f})" if s > 0.005 else "")
    return texts.where(shown.ne(best), "**" + texts + "**")


def _shown(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.2f}" if abs(value) < 10 else f"{value:.0f}"


def losses(rows: pd.DataFrame) -> list[str]:
    """Return a line for each set where another method has the better harmonic mean."""
    some = rows[rows["metric"] == "harmonic mean"]
    lines = []
    for data, part in some.groupby("data", sort=False):
        mean = part.groupby("method")["value"].mean()
        if OURS in mean and mean.idxmax() != OURS:
            ours, best = mean[OURS], mean.idxmax()
            lines.append(f"- {data}: {best} {mean.max():.2f}, ours {ours:.2f}")
    said = "Where another method has the better harmonic mean of label ARI and mixing:\n"
    return [said, *lines] if lines else []
