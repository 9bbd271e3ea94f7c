"""Figures 2 to 4 in the paper's arrangement, and the tables, from the benchmark's tidy files."""

from __future__ import annotations

from string import ascii_lowercase

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from pyro_mgvi.analysis.metrics import log_shares
from pyro_mgvi.plots import PALETTE, scatter

DRAWN = 1500  # cells in figure 2
TABLES = {
    "The paper's scores (figure 3)": (
        "type silhouette",
        "type ARI",
        "group silhouette",
        "group ARI",
        "program silhouette",
        "program ARI",
    ),
    "Leaks: what a linear probe reads (balanced accuracy)": (
        "shared -> type",
        "shared -> group",
        "shared -> group (draws)",
        "shared -> program",
        "private -> program",
        "private -> type",
        "private -> type (draws)",
    ),
    "Reproducibility, and the null of shuffled groups": (
        "CKA of seeds, z",
        "CKA of seeds, t",
        "active private units",
        "null: active private units",
        "null: private -> type",
        "null: private -> program",
        "seconds",
        "CPU seconds",
    ),
}


def embed(x: np.ndarray) -> np.ndarray:
    """Return two t-SNE dimensions of a latent."""
    if np.ptp(x, axis=0).max() == 0:  # a latent that is out of use has no map
        return np.zeros((len(x), 2))
    perplexity = min(30, (len(x) - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="random", random_state=0).fit_transform(x)


def figure2(adata, latents: dict, title: str) -> Figure:
    """Draw the data by type, group and program, and the latents (paper, figure 2)."""
    rng = np.random.default_rng(0)
    cells = np.sort(rng.permutation(adata.n_obs)[:DRAWN])
    adata, latents = adata[cells], {name: x[cells] for name, x in latents.items()}
    x = log_shares(adata.X)
    data = embed(PCA(min(30, *x.shape), random_state=0).fit_transform(x))
    z = embed(latents["z"])
    private = [name for name in latents if name != "z"]
    figure = Figure(figsize=(4.2 * max(3, 2 + len(private)), 6.4), layout="constrained")
    top, bottom = figure.subfigures(2, 1)
    keys = ("celltype", "group", "program")
    panels = [(data, key, f"data by {key}") for key in keys]
    for letter, ax, panel in zip("abc", top.subplots(1, 3), panels):
        _panel(ax, letter, panel[0], adata.obs[panel[1]], panel[2])
    panels = [(z, adata.obs[key], f"shared by {key}") for key in keys[:2]]
    for name in private:
        own = np.isfinite(latents[name]).all(1)
        panels.append((embed(latents[name][own]), adata.obs["program"][own], f"{name} by program"))
    for letter, ax, panel in zip("defghij", bottom.subplots(1, len(panels)), panels):
        _panel(ax, letter, *panel)
    figure.suptitle(title)
    return figure


def _panel(ax, letter, xy, labels, title):
    scatter(ax, xy, labels, title)
    ax.set(xlabel="t-SNE 1", ylabel="t-SNE 2")
    ax.set_title(letter, loc="left", fontweight="bold")


def figure3(table: pd.DataFrame, title: str) -> Figure:
    """Draw silhouette and ARI of each method, mean and standard error (paper, figure 3)."""
    groups = sorted(
        {m.partition(", ")[2] for m in table.metric.unique() if m.startswith("program ARI")}
    )
    panels = [("type", "a", "shared, by type (high)"), ("group", "b", "shared, by group (low)")]
    panels += [
        ("program", letter, f"private of {g}, by program (high)")
        for letter, g in zip("cdefg", groups)
    ]
    suffix = ["", ""] + [f", {g}" for g in groups]
    known = [m for m in table.method.unique() if m not in ("ceiling", "chance")]
    widths = table[table.metric.isin([f"{p[0]} silhouette{end}" for p, end in zip(panels, suffix)])]
    widest = widths.value.abs().max() + 0.02
    limits = {"silhouette": (-0.3 * widest, widest), "ARI": (-0.05, 1.05)}
    rows = -(-len(panels) // 2)
    figure = Figure(figsize=(11, rows * (0.9 + 0.24 * len(known))), layout="constrained")
    axes = figure.subplots(rows, 4, sharey=True, squeeze=False).reshape(rows * 2, 2)
    for pair, (what, letter, name), end in zip(axes, panels, suffix):
        for ax, score in zip(pair, ("silhouette", "ARI")):
            metric = f"{what} {score}{end}"
            chosen = table[table.metric == metric]
            for row, method in enumerate(known):
                values = chosen.value[chosen.method == method]
                if len(values):
                    colour = PALETTE[0] if method.startswith("MGVI") else PALETTE[5]
                    ax.barh(row, values.mean(), xerr=_error(values), color=colour, height=0.7)
            for value in chosen.value[chosen.method == "ceiling"]:
                ax.axvline(value, color=PALETTE[4], linestyle="--", label="ceiling")
                ax.legend(frameon=False, fontsize=7, loc="lower right")
            ax.axvline(0, color="black", linewidth=0.6)
            ax.set(xlabel=score[0].upper() + score[1:], xlim=limits[score])
        pair[0].set_title(letter, loc="left", fontweight="bold")
        pair[1].set_title(name, loc="right", fontsize=9)
    axes[0, 0].set_yticks(range(len(known)), known)
    axes[0, 0].invert_yaxis()
    for ax in axes[len(panels) :].ravel():
        ax.set_axis_off()
    figure.suptitle(title)
    return figure


def figure4(table: pd.DataFrame, title: str) -> Figure:
    """Draw how many of the top n genes carry an effect of the group (paper, figure 4)."""
    methods, groups = table.method.unique(), sorted(table.group.unique())
    shape = (len(methods), len(groups))
    figure = Figure(figsize=(4 * shape[1], 0.5 + 3 * shape[0]), layout="constrained")
    axes = figure.subplots(*shape, sharex=True, sharey=True, squeeze=False)
    letters = iter(ascii_lowercase)
    rankings = table.ranking.unique()
    colours = dict(zip(rankings, PALETTE))
    for line, method in zip(axes, methods):
        for ax, group in zip(line, groups):
            here = table[(table.method == method) & (table.group == group)]
            for ranking, rows in here.groupby("ranking", sort=False):
                by_n = 100 * rows.groupby("n").fraction.agg(["mean", _error])
                ax.errorbar(by_n.index, by_n["mean"], by_n["_error"], color=colours[ranking])
            ceiling = 100 * here.groupby("n").ceiling.first()
            ax.plot(ceiling.index, ceiling, color="black", linestyle="--")
            ax.set_title(next(letters), loc="left", fontweight="bold")
            ax.set_title(f"{method}, {group}", fontsize=9)
            ax.set(xlabel="top n genes", ylim=(0, 105))
        line[0].set_ylabel("% with an effect of the group")
    handles = [Line2D([], [], color=colours[ranking], label=ranking) for ranking in rankings]
    handles.append(Line2D([], [], color="black", linestyle="--", label="ceiling"))
    axes[0, 0].legend(handles=handles, frameon=False, fontsize=8)  # of all panels: one may lack any
    figure.suptitle(title)
    return figure


def _error(values) -> float:
    """Return the standard error of the mean; 0 for a single value."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def markdown(table: pd.DataFrame) -> str:
    """Return tables of mean and standard error over seeds, ceiling and chance on top."""
    lines = []
    methods = sorted(table.method.unique(), key=lambda m: m not in ("ceiling", "chance"))
    metrics = list(dict.fromkeys(table.metric))
    for title, wanted in TABLES.items():
        columns = [
            m
            for base in wanted
            for m in metrics
            if m == base or m.startswith((f"{base}, ", f"{base}_"))
        ]
        if not columns:
            continue
        rows = {}
        for method in methods:
            chosen = table[table.method == method]
            rows[method] = [_cell(chosen.value[chosen.metric == metric]) for metric in columns]
        lines += _table(title, columns, rows)
    return "\n".join(lines)


def genes_markdown(table: pd.DataFrame, tops=(50, 100)) -> str:
    """Return a table of the fractions of figure 4 for each method that ranks genes."""
    rankings, groups = table.ranking.unique(), sorted(table.group.unique())
    columns = [(r, g, n) for n in tops for r in rankings for g in groups]
    titles = [f"{ranking}, {group}, top {n}" for ranking, group, n in columns]
    rows = {}
    for method, chosen in table.groupby("method", sort=False):
        keyed = chosen.set_index(["ranking", "group", "n"]).fraction
        rows[method] = [_cell(keyed[keyed.index == column]) for column in columns]
    title = "Genes: fraction of the top n with an effect of the group (figure 4)"
    return "\n".join(_table(title, titles, rows))


def _table(title: str, columns, rows: dict[str, list[str]]) -> list[str]:
    """Return the lines of a table of methods, without those that have no entry."""
    lines = [f"### {title}", "", "| method | " + " | ".join(columns) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    lines += [
        f"| {method} | " + " | ".join(cells) + " |"
        for method, cells in rows.items()
        if any(cell != "-" for cell in cells)
    ]
    return [*lines, ""]


def _cell(values) -> str:
    if not len(values):
        return "-"
    digits = 0 if values.mean() >= 20 else 3
    error = f" ± {_error(values):.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{error}"
