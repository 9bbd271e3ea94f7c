"""Options of a fit that go together, or do not: refused before any work is done."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

import pandas as pd
from anndata import AnnData

from pyro_mgvi.cli.outputs import Output, is_zarr_name
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.genes.choice import chosen_of
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.support.values import whole_number
from pyro_mgvi.training.checkpoint import states, usable_folder


def check_options(arguments: Namespace, outputs: list[Output]) -> None:
    """Refuse options that do not go together, before anything is read."""
    _checkpoint(arguments, outputs)
    _backed(arguments)
    _discover(arguments)
    _several(arguments)
    _genes(arguments)


def _backed(arguments: Namespace) -> None:
    """Refuse outputs that a file larger than memory cannot be written to."""
    out = arguments.out
    if arguments.backed and out is not None:
        if is_zarr_name(out):
            raise SettingsError(f"--backed writes h5ad, and --out {out} is zarr: name an h5ad file")
        if out.exists() and any(out.samefile(path) for path in arguments.inputs if path.exists()):
            raise SettingsError("--backed reads the input until the end: choose another --out")


def _checkpoint(arguments: Namespace, outputs: list[Output]) -> None:
    """Refuse a folder that cannot be used for a checkpoint, and say what it holds."""
    folder = arguments.checkpoint
    if folder is None:
        if arguments.resume:
            raise SettingsError(
                "--resume goes on from a checkpoint: name its folder (--checkpoint)"
            )
        return
    for output in outputs:
        inside = (folder.resolve(), *folder.resolve().parents)
        if output.path.resolve() in inside:
            raise SettingsError(
                f"--checkpoint {folder} is in what {output.option} writes: choose another folder"
            )
    usable_folder(folder, arguments.resume)
    if arguments.resume:
        found = states(folder)
        held = f"{max(found)} epochs of a training" if found else "nothing yet"
        if begun := len([*folder.glob("training_*")]):
            last = f", and {max(found)} epochs of the last" if found else ""
            held = f"{begun} trainings, begun or done{last}"
        say(f"--checkpoint {folder} holds {held}")


def _discover(arguments: Namespace) -> None:
    """Refuse latents beside those that are discovered."""
    if arguments.discover and (arguments.latents is not None or arguments.estimate):
        raise SettingsError("--discover finds the latents: leave out --latents and --estimate")


def _several(arguments: Namespace) -> None:
    """Refuse options of several files where there is one, and others where there are several."""
    several = {
        "--file-key": arguments.file_key is not None,
        "--common-genes": arguments.common_genes,
        "--rename-cells": arguments.rename_cells,
    }
    given = [option for option, is_given in several.items() if is_given]
    if len(arguments.inputs) == 1 and given:
        raise SettingsError(f"{given[0]} is for several files, and there is one: leave it out")
    if len(arguments.inputs) > 1 and arguments.use_raw:
        raise SettingsError(
            "--use-raw is for one file: of several, write the counts to X or to a layer of each"
        )


def _genes(arguments: Namespace) -> None:
    """Refuse what is no number of genes."""
    if arguments.genes is not None:
        whole_number("--genes", arguments.genes, least=2)


def chosen_genes(arguments: Namespace, adata: AnnData, read: Mapping[str, Any]) -> pd.Series | None:
    """Return which genes to model, and say how many are left out; None for all.

    ``read`` is how the cells are read.
    """
    if arguments.genes is None:
        return None
    data = GroupedCounts.from_anndata(adata, **read, drop_empty=True)
    chosen = chosen_of(data, arguments.genes, "--genes")
    say(
        f"modelling {chosen.sum():,} of {len(chosen):,} genes, those that vary most within some "
        f"group; {(~chosen).sum():,} are left out"
    )
    return chosen


def say(message: str) -> None:
    """Print a line about what is done."""
    print(f"pyro-mgvi: {message}", file=sys.stderr)
