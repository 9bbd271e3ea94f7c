"""The arguments of every command; nothing heavy is imported for them."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pyro_mgvi

if TYPE_CHECKING:
    Commands: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

DESCRIPTION = "Shared and group-specific variation in grouped single-cell counts."


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    whole = argparse.ArgumentParser(prog="pyro-mgvi", description=DESCRIPTION)
    whole.add_argument("--version", action="version", version=pyro_mgvi.__version__)
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    for add in (_add_demo, _add_fit, _add_rank, _add_programs, _add_report):
        add(commands)
    return whole


def _add_demo(commands: Commands) -> None:
    demo = commands.add_parser("demo", help="simulate groups with known truth, fit, score, draw")
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument("--epochs", type=int, default=40, help="at most (default 40)")
    demo.add_argument(
        "--out", type=path, default=Path("mgvi_demo"), help="folder for results (mgvi_demo)"
    )
    demo.set_defaults(run="demo")


def _add_fit(commands: Commands) -> None:
    fit = commands.add_parser("fit", help="fit grouped counts, write latents and the model")
    fit.add_argument(
        "inputs",
        type=path,
        nargs="*",
        metavar="IN",
        help="h5ad or h5mu file, or zarr folder; or several of the first and last, to be joined",
    )
    fit.add_argument(
        "--group-key",
        required=True,
        nargs="+",
        metavar="COLUMN",
        help="column of obs with the groups; or several, whose combinations are groups",
    )
    fit.add_argument(
        "--backed",
        action="store_true",
        help="leave the counts (X of an h5ad) in the file, for data larger than memory",
    )
    _add_several(fit)
    fit.add_argument("--layer", help="layer with the counts (default: X)")
    fit.add_argument("--use-raw", action="store_true", help="take the counts of adata.raw")
    fit.add_argument(
        "--round-counts", action="store_true", help="round counts that were corrected, as by SoupX"
    )
    fit.add_argument("--batch-key", help="column of obs with the batch (replicate, donor)")
    fit.add_argument(
        "--sample-key", help="column of obs with the donor or animal: q-values are for new ones"
    )
    fit.add_argument(
        "--no-sample-effects",
        dest="sample_effects",
        action="store_false",
        help="leave effects of the samples of --sample-key out of the model",
    )
    fit.add_argument(
        "--covariate-key", action="append", default=[], help="another covariate; may be repeated"
    )
    fit.add_argument(
        "--latents",
        nargs="+",
        metavar="SPEC",
        help="latents and dims: z:10 (shared) t:10 (per group; of several columns, per level of "
        "each) per:COLUMN:10 (per level of one) per:COLUMN+COLUMN:5 (interaction) pair:5 (per two "
        "groups) NAME=A+B:5 (of the groups A and B; in names, a backslash goes before + , : = and "
        "backslash); default z:10 t:10. Of several modalities: modality:prot:5 (of one), "
        "t:5@rna (what it reaches); default z:10 t:10 and modality:NAME:5 of each",
    )
    fit.add_argument(
        "--modality",
        nargs="+",
        metavar="NAME=LIKELIHOOD",
        help="modalities of an h5mu file, each with NB, ZINB, Poisson, Bernoulli or ProteinNB: "
        "rna=ZINB prot=NB; by default all, with NB",
    )
    fit.add_argument(
        "--discover",
        action="store_true",
        help="find which groups share which programs first, and give these groups a latent, "
        "instead of --latents",
    )
    fit.add_argument(
        "--feature-mask",
        nargs="+",
        metavar="GROUP=COLUMN",
        help="which genes each group has, a column of var for each: human=in_human mouse=in_mouse; "
        "or one name, of a table in varm or the start of keys <name>_<group> in uns",
    )
    fit.add_argument(
        "--genes",
        type=int,
        metavar="N",
        help="model the N genes that vary most within some group, beyond chance (default: all)",
    )
    fit.add_argument("--drop-empty", action="store_true", help="drop cells without counts")
    fit.add_argument(
        "--epochs", type=int, help="at most (default 60; fewer where the loss is flat)"
    )
    fit.add_argument("--seed", type=int, default=0)
    fit.add_argument(
        "--n-trainings",
        type=int,
        default=1,
        metavar="N",
        help="2 or more: start at what N trainings with other seeds agree on (N + 1 times as long)",
    )
    fit.add_argument(
        "--foreign",
        choices=("nan", "encode"),
        default="nan",
        help="private latents of other groups' cells: NaN, or what the encoder says",
    )
    _add_accelerator(fit)
    fit.add_argument(
        "--out",
        type=path,
        metavar="OUT",
        help="the input with the latents: an h5ad file, or a zarr folder if it ends in .zarr",
    )
    fit.add_argument(
        "--estimate",
        action="store_true",
        help="print the time and memory that this would take, and end: nothing is written",
    )
    fit.add_argument("--model", type=path, metavar="DIR", help="save the trained model, too")
    fit.add_argument(
        "--checkpoint",
        type=path,
        metavar="DIR",
        help="keep the state of training here after each epoch; delete it when all is done",
    )
    fit.add_argument(
        "--resume", action="store_true", help="go on from what --checkpoint holds, if anything"
    )
    fit.add_argument(
        "--force", action="store_true", help="let --out overwrite the input, or a file of others"
    )
    fit.add_argument("--quiet", action="store_true", help="no progress bar")
    fit.set_defaults(run="fit")


def _add_several(fit: argparse.ArgumentParser) -> None:
    fit.add_argument(
        "--file-key",
        metavar="COLUMN",
        help="of several files: column that is to say which one a cell is from; it may be a "
        "--group-key or --sample-key, too",
    )
    fit.add_argument(
        "--common-genes",
        action="store_true",
        help="of several files: leave out genes that are not in all of them",
    )
    fit.add_argument(
        "--rename-cells",
        action="store_true",
        help="of several files: add the name of the file to those of its cells",
    )


def _add_accelerator(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--accelerator",
        default="auto",
        help="where to compute: cpu, gpu, cuda:1 or auto, a GPU if there is one (default)",
    )


def _add_rank(commands: Commands) -> None:
    rank = commands.add_parser("rank-genes", help="rank genes by a group's own variation")
    rank.add_argument("model", type=path, metavar="MODEL", help="folder that fit --model wrote")
    rank.add_argument("input", type=path, metavar="IN", help="the cells it was trained on")
    rank.add_argument("--group", required=True, help="name of the group, or of a column's level")
    rank.add_argument(
        "--where",
        metavar="QUERY",
        help="cells to use, as for DataFrame.query on obs: \"cell_type == 'Enterocyte'\"; "
        "let it hold cells of other groups, too",
    )
    rank.add_argument(
        "--offset",
        choices=("averaged", "own"),
        default="averaged",
        help="averaged: count the group's mean shift, too (default); own: variation within it only",
    )
    rank.add_argument(
        "--by", metavar="COLUMN", help="column of obs, such as cell types: a ranking within each"
    )
    rank.add_argument(
        "--splits",
        type=int,
        metavar="N",
        help="ways to split the cells for q-values, which are averaged: what is called hangs less "
        "on one of them (default: 1, about one training each)",
    )
    rank.add_argument(
        "--no-q", action="store_true", help="no q-values: saves refits of about one training"
    )
    _add_gene_sets(rank)
    rank.add_argument("--out", type=path, required=True, metavar="GENES.csv")
    _add_accelerator(rank)
    rank.add_argument("--quiet", action="store_true", help="no progress bar")
    rank.set_defaults(run="rank_genes")


def _add_programs(commands: Commands) -> None:
    programs = commands.add_parser("programs", help="list the genes of each private dimension")
    programs.add_argument("model", type=path, metavar="MODEL", help="folder that fit --model wrote")
    programs.add_argument("input", type=path, metavar="IN", help="the cells it was trained on")
    programs.add_argument(
        "--latents",
        nargs="+",
        metavar="LATENT",
        help="such as t (of all groups), t_Ileum or z (default: all that some groups only own)",
    )
    programs.add_argument(
        "--no-q", action="store_true", help="no q-values: saves refits of about one training"
    )
    _add_gene_sets(programs)
    programs.add_argument("--out", type=path, required=True, metavar="PROGRAMS.csv")
    _add_accelerator(programs)
    programs.add_argument("--quiet", action="store_true", help="no progress bar")
    programs.set_defaults(run="programs")


def _add_gene_sets(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--gene-sets",
        type=path,
        metavar="SETS.gmt",
        help="tell which of these sets the genes belong to, in a second table beside --out, "
        "..._gene_sets.csv (needs the extra [enrich])",
    )


def _add_report(commands: Commands) -> None:
    report = commands.add_parser("report", help="one HTML file that shows a fit to a colleague")
    report.add_argument("input", type=path, metavar="RESULT", help="what fit --out wrote")
    report.add_argument(
        "--model",
        type=path,
        metavar="DIR",
        help="what the same fit --model wrote: adds genes and predictive checks",
    )
    report.add_argument(
        "--labels",
        nargs="+",
        metavar="COLUMN",
        help="columns of obs to colour by and to probe for, the most important first "
        "(default: up to 4 that hold few different texts)",
    )
    report.add_argument(
        "--diagnose",
        action="store_true",
        help="say whether latents are more than noise, and give genes q-values; "
        "takes about two trainings",
    )
    report.add_argument("--epochs", type=int, help="of the refits of --diagnose, at most")
    report.add_argument("--out", type=path, required=True, metavar="REPORT.html")
    _add_accelerator(report)
    report.add_argument("--quiet", action="store_true", help="no progress bar")
    report.set_defaults(run="report")


def path(text: str) -> Path:
    """Return a path that a file system can hold."""
    if not text:
        raise argparse.ArgumentTypeError("an empty text is no path")
    try:
        os.stat(text)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return Path(text)
    except (OSError, ValueError) as error:  # a name too long, or with a character of none
        raise argparse.ArgumentTypeError(f"{text[:60]!r} cannot be a path: {error}") from error
    return Path(text)
