"""A picture of which groups share which program."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from pyro_mgvi.analysis import Discovery
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.plots.colours import MISSING, SEQUENTIAL
from pyro_mgvi.plots.figures import check, finish, new_figure, short

LONGEST = 40  # letters of a row's genes
MARKS = {"varies": "•", "undecided": "?", "too few cells": "-"}


def discovery(
    found: Discovery,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw programs by groups: how far the cells of each group vary along each program.

    The colour is the variance as a share of that of the group that varies most, cut off at 0 and 1.
    A dot marks the groups that are called, a question mark those that are undecided, a dash those
    of too few cells. Programs of all groups are left out if there are others.

    Parameters
    ----------
    found
        What :func:`~pyro_mgvi.discover` returns.
    ax
        Axes to draw on; new ones by default.
    show
        By default a notebook shows the figure, and a script that uses pyplot at its
        ``pyplot.show()``. True shows it at once, False never.
    save
        File to write the figure to, whose ending says the format.

    Raises
    ------
    SettingsError
        If no program was found, or the figure cannot be shown or saved.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> columns = ["program", "group", "verdict", "share", "genes"]
    >>> rows = [[1, "a", "varies", 1.0, "IL1B"], [1, "b", "absent", 0.02, "IL1B"]]
    >>> found = Discovery(pd.DataFrame(rows, columns=columns), (), {}, np.array([0, 1]))
    >>> [text.get_text() for text in discovery(found).get_xticklabels()]
    ['a', 'b']
    """
    check(show, save)
    table = found.table
    if not len(table):
        raise SettingsError("no program was discovered: there is nothing to draw")
    specific = table.groupby("program")["verdict"].transform(lambda x: (x != "varies").any())
    table = table[specific] if specific.any() else table
    groups = list(dict.fromkeys(table["group"]))
    shape = {"index": "program", "columns": "group"}
    share_pb = table.pivot(**shape, values="share")[groups]
    verdict_pb = table.pivot(**shape, values="verdict")[groups]
    if ax is None:
        ax = new_figure(3.5 + 0.4 * len(groups), 1.5 + 0.3 * len(share_pb), show).subplots()
    ax.set_facecolor(MISSING)
    cut_pb = share_pb.to_numpy(float).clip(0, 1)
    image = ax.imshow(cut_pb, aspect="auto", cmap=SEQUENTIAL, vmin=0, vmax=1)
    for (p, b), verdict in np.ndenumerate(verdict_pb.to_numpy()):
        colour = "white" if cut_pb[p, b] < 0.6 else "black"  # on the darker colours, and on others
        ax.text(b, p, MARKS.get(verdict, ""), ha="center", va="center", color=colour)
    genes = table.groupby("program")["genes"].first()
    rows = [short(f"{number}: {genes[number]}", LONGEST) for number in share_pb.index]
    ax.set_yticks(range(len(rows)), rows, fontsize=8)
    ax.set_xticks(range(len(groups)), [short(group, LONGEST) for group in groups], rotation=90)
    bar = ax.figure.colorbar(image, cax=ax.inset_axes((1.02, 0, 0.02, 1)))
    bar.set_label("share of the largest variance", fontsize=8)
    finish([ax], show, save)
    return ax
