"""What each command does with its arguments."""

from __future__ import annotations

import warnings
from argparse import Namespace
from typing import Any

from anndata import AnnData

from pyro_mgvi.analysis.cross_fit import cross_fit
from pyro_mgvi.analysis.ranking import labels_within
from pyro_mgvi.analysis.scverse.written import PREFIX, record, stale_latents
from pyro_mgvi.cli import INTERRUPTED
from pyro_mgvi.cli.files import feature_masks, query, read_cells
from pyro_mgvi.cli.fit_options import check_options, chosen_genes, say
from pyro_mgvi.cli.gene_sets import GeneSets
from pyro_mgvi.cli.legends import PROGRAMS, RANKING, about_q_values, called, print_legend
from pyro_mgvi.cli.modalities import holds_modalities, of_modalities, read_any
from pyro_mgvi.cli.outputs import (
    Output,
    check_cells,
    check_outputs,
    write_backed,
    write_cells,
    write_table,
    writing,
)
from pyro_mgvi.cli.several.joining import one_file
from pyro_mgvi.core.latents.text import parse
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.cells.selection import cells_of_group
from pyro_mgvi.data.modalities import labelled
from pyro_mgvi.data.names import named_groups
from pyro_mgvi.errors import SettingsError, TrainingInterrupted
from pyro_mgvi.mgvi import MGVI
from pyro_mgvi.support.files.endings import Kind
from pyro_mgvi.support.launched import launched
from pyro_mgvi.support.values import whole_number
from pyro_mgvi.training.program import LATENTS


def demo(arguments: Namespace) -> int:
    """Simulate, fit, score and draw."""
    from pyro_mgvi.cli import demo as run  # plotting is imported only where it is used

    folder = arguments.out
    whole_number("--seed", arguments.seed, least=0)
    whole_number("--epochs", arguments.epochs, least=1)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"--out {folder} is not and cannot become a folder: {error}") from error
    kinds = {
        "model": Kind.MODEL,
        "latents.h5ad": Kind.CELLS,
        "latents.png": Kind.PICTURE,
        "scores.csv": Kind.TABLE,
    }
    check_outputs([Output("--out", folder / name, kind) for name, kind in kinds.items()])
    adata, mgvi, table = run.run(arguments.seed, arguments.epochs)
    record(mgvi, adata, command="demo")
    mgvi.save(folder / "model")
    write_cells(adata, folder / "latents.h5ad")
    with writing(folder / "latents.png") as part:
        run.figure(adata).savefig(part, dpi=120)
    write_table(table, folder / "scores.csv", index=False)
    print(table.to_string(index=False, float_format="{:.3f}".format))
    print(f"\nwritten to {folder}: latents.h5ad, latents.png, scores.csv, model")
    return 0


def fit(arguments: Namespace) -> int:
    """Fit annotated data, and write the model and the latents."""
    outputs = [Output("--out", arguments.out, Kind.CELLS)] if arguments.out is not None else []
    if not (outputs or arguments.estimate):
        raise SettingsError("fit needs a file to write to: name it (--out), or ask for --estimate")
    if arguments.model is not None:
        outputs.append(Output("--model", arguments.model, Kind.MODEL))
    check_outputs(outputs, arguments.inputs, arguments.force)
    check_options(arguments, outputs)
    with one_file(arguments) as arguments.input:
        return _fit(arguments)


def _fit(arguments: Namespace) -> int:
    """Fit the cells of the one file that there is by now."""
    if holds_modalities(arguments.input):
        adata, data, mgvi = of_modalities(arguments)
    else:
        adata, data, mgvi = _of_cells(arguments)
    if arguments.estimate:
        chosen = {"max_epochs": arguments.epochs, "accelerator": arguments.accelerator}
        print(mgvi.estimate(data, **chosen, n_trainings=arguments.n_trainings))
        return 0
    return _trained(arguments, adata, data, mgvi)


def _of_cells(arguments: Namespace) -> tuple[AnnData, GroupedCounts, MGVI]:
    """Return the cells of an AnnData, their counts and a model for them."""
    given = arguments.latents
    latents = [parse(spec) for spec in given] if given else LATENTS
    if arguments.modality:
        raise SettingsError("--modality is for a file with several modalities, h5mu: leave it out")
    if arguments.out is not None and arguments.out.suffix.lower() == ".h5mu":
        raise SettingsError(
            f"--out {arguments.out}: one modality is written as h5ad or zarr; name it .h5ad"
        )
    adata = read_cells(arguments.input, arguments.backed, arguments.layer)
    keys = {
        "group_key": arguments.group_key[0]
        if len(arguments.group_key) == 1
        else tuple(arguments.group_key),
        "layer": arguments.layer,
        "batch_key": arguments.batch_key,
        "covariate_keys": arguments.covariate_key,
        "use_raw": arguments.use_raw,
        "round_counts": arguments.round_counts,
        "sample_key": arguments.sample_key,
        "sample_effects": arguments.sample_effects,
        "feature_masks": feature_masks(arguments.feature_mask),
    }
    keys["genes"] = chosen_genes(arguments, adata, keys)
    data = GroupedCounts.from_anndata(adata, **keys, drop_empty=arguments.drop_empty)
    if len(data) < adata.n_obs and arguments.backed:
        raise SettingsError(
            f"{adata.n_obs - len(data)} cell(s) have no counts, and --backed cannot leave cells "
            "out of the file that it writes: filter them out first"
        )
    if len(data) < adata.n_obs:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a part of them; they were read
            adata = adata[data.cells].copy()
    mgvi = MGVI.from_counts(data, seed=arguments.seed, latents=latents)
    if arguments.discover:
        where = {"accelerator": arguments.accelerator, "progress": not arguments.quiet}
        found = mgvi.discover(data, **where)
        print(found)
        mgvi = MGVI.from_counts(data, seed=arguments.seed, latents=found)
    return adata, data, mgvi


def _trained(arguments: Namespace, adata: Any, data: GroupedCounts, mgvi: MGVI) -> int:
    """Train, and write the model and the latents."""
    if launched().rank == 0 and not arguments.backed:
        check_cells(adata, arguments.out)
    try:
        found = mgvi.fit(
            data,
            max_epochs=arguments.epochs,
            accelerator=arguments.accelerator,
            checkpoint=arguments.checkpoint,
            resume=arguments.resume,
            n_trainings=arguments.n_trainings,
            progress=not arguments.quiet,
        )
    except TrainingInterrupted:
        if not mgvi.interrupted:  # no epoch was finished: there is nothing to write
            raise
        say(f"interrupted after {len(mgvi.history)} epochs; writing what there is")
        found = mgvi.summary(data)
    if launched().rank > 0:
        return INTERRUPTED if mgvi.interrupted else 0  # the first writes and reports
    if arguments.model is not None:
        mgvi.save(arguments.model)
        print(f"written to {arguments.model}: the model")
    how = {"foreign": arguments.foreign, "progress": not arguments.quiet}
    stale = stale_latents(mgvi, adata) if arguments.backed else []
    if stale:
        say(f"leaving out the latents of an earlier fit: {', '.join(stale)}")
    if not arguments.backed:
        mgvi.write_latents(adata, **how)
    record(mgvi, adata, foreign=arguments.foreign, command=arguments.command)
    if arguments.backed:
        write_backed(mgvi, adata, data, stale, arguments.input, arguments.out, **how)
    else:
        write_cells(adata, arguments.out)
    written = ", ".join(f"{PREFIX}{copy.key}" for copy in mgvi.families.copies)
    print(f"written to {arguments.out}: obsm {written}; uns mgvi")
    print(found)
    if not mgvi.interrupted:
        return 0
    further = "" if arguments.checkpoint is None else "; the same command with --resume goes on"
    say(
        f"interrupted after {len(mgvi.history)} epochs: what is written holds the best weights so "
        f'far, and says so (uns["mgvi"]["interrupted"]){further}'
    )
    return INTERRUPTED


def rank_genes(arguments: Namespace) -> int:
    """Rank the genes of a group, and write the table."""
    sets = GeneSets.of(arguments.gene_sets, arguments.out)
    check_outputs(
        [Output("--out", arguments.out, Kind.TABLE), *sets.outputs],
        [arguments.input, arguments.model, *sets.inputs],
    )
    if arguments.no_q and arguments.splits is not None:
        raise SettingsError("--splits is of the q-values that --no-q leaves out: leave one out")
    n_splits = (
        1 if arguments.splits is None else whole_number("--splits", arguments.splits, least=1)
    )
    mgvi = MGVI.load(arguments.model).to(arguments.accelerator)
    sets.check(mgvi)
    adata = read_any(arguments.input, mgvi.schema.layer)
    data = mgvi.read(adata)
    cells = None if arguments.where is None else query(labelled(adata), arguments.where)
    # refused before the refits
    _, own = cells_of_group(adata, data, named_groups(mgvi.families, arguments.group), cells)
    if arguments.by is not None:
        labels_within(adata, arguments.by, data, own, "--by")
    progress = not arguments.quiet
    splits = range(0 if arguments.no_q else n_splits)
    table = mgvi.rank_genes(
        adata,
        arguments.group,
        cells,
        offset=arguments.offset,
        calibration=[cross_fit(mgvi, data, progress=progress, split=i) for i in splits] or False,
        progress=progress,
        by=arguments.by,
    )
    write_table(table, arguments.out)
    print(table.head(10).reset_index().to_string(index=False, float_format="{:.3g}".format))
    print_legend({name: RANKING[name] for name in table if name in RANKING})
    print("no q-values, as asked" if arguments.no_q else about_q_values(mgvi, table))
    for note in ("absent_genes", "genes_of_one_group", "genes_without_q"):
        if note in table.attrs:
            print(table.attrs[note])
    print(f"written to {arguments.out}")
    sets.write(table)
    return 0


def programs(arguments: Namespace) -> int:
    """List the genes of each dimension, and write the table."""
    sets = GeneSets.of(arguments.gene_sets, arguments.out)
    check_outputs(
        [Output("--out", arguments.out, Kind.TABLE), *sets.outputs],
        [arguments.input, arguments.model, *sets.inputs],
    )
    mgvi = MGVI.load(arguments.model).to(arguments.accelerator)
    mgvi.families.resolve(arguments.latents)  # refused before anything is read
    sets.check(mgvi)
    table = mgvi.programs(
        read_any(arguments.input, mgvi.schema.layer),
        arguments.latents,
        calibration=not arguments.no_q,
        progress=not arguments.quiet,
    )
    write_table(table, arguments.out, index=False)
    if not len(table):
        print("no dimension of these latents is in use: nothing varies along them")
    for (latent, dimension), genes in table.groupby(["latent", "dimension"], sort=False):
        print(f"{latent}, dimension {dimension}{called(genes)}")
        shown = genes.head(10)[["gene", "effect", "mean", "z_score", "q_value"]]
        print(shown.to_string(index=False, float_format="{:.3g}".format))
    if len(table):
        print_legend(PROGRAMS)
    if table["q_value"].notna().any():
        print(f"q-values speak of {table.attrs['q_value_of']}")
    print(f"written to {arguments.out}")
    sets.write(table)
    return 0


def report(arguments: Namespace) -> int:
    """Write the report of a fit."""
    from pyro_mgvi.report import write_report

    inputs = [path for path in (arguments.input, arguments.model) if path is not None]
    check_outputs([Output("--out", arguments.out, Kind.PAGE)], inputs)
    mgvi = None if arguments.model is None else MGVI.load(arguments.model).to(arguments.accelerator)
    write_report(
        arguments.out,
        read_any(arguments.input, None if mgvi is None else mgvi.schema.layer),
        mgvi,
        labels=arguments.labels,
        diagnosed=arguments.diagnose,
        title=arguments.input.stem,
        max_epochs=arguments.epochs,
        progress=not arguments.quiet,
    )
    print(f"written to {arguments.out}")
    return 0


COMMANDS = {
    "demo": demo,
    "fit": fit,
    "rank_genes": rank_genes,
    "programs": programs,
    "report": report,
}
