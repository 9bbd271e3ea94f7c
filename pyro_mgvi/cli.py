"""The command line: ``pyro-mgvi demo``, ``fit``, ``rank-genes`` and ``report``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyro_mgvi
from pyro_mgvi.errors import DataError, MGVIError, SettingsError
from pyro_mgvi.latents import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code (2 for bad input, with one line on stderr)."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except MGVIError as error:
        print(f"pyro-mgvi: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("pyro-mgvi: interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pyro-mgvi", description=pyro_mgvi.__doc__)
    parser.add_argument("--version", action="version", version=pyro_mgvi.__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="simulate groups with known truth, fit, score, draw")
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument("--epochs", type=int, default=40, help="at most (default 40)")
    demo.add_argument(
        "--out", type=Path, default=Path("mgvi_demo"), help="folder for results (mgvi_demo)"
    )
    demo.set_defaults(run=_demo)

    fit = commands.add_parser("fit", help="fit an h5ad of grouped counts, write its latents")
    fit.add_argument("input", type=Path, metavar="IN.h5ad")
    fit.add_argument("--group-key", required=True, help="column of obs with the groups")
    fit.add_argument("--layer", help="layer with the counts (default: X)")
    fit.add_argument("--batch-key", help="column of obs with the batch (replicate, donor)")
    fit.add_argument(
        "--covariate-key", action="append", default=[], help="another covariate; may be repeated"
    )
    fit.add_argument(
        "--latents",
        nargs="+",
        metavar="SPEC",
        default=["z:10", "t:10"],
        help="latents and dims: z:10 (shared) t:10 (per group) pair:5 (per two groups) "
        "NAME=A+B:5 (of the groups A and B); default z:10 t:10",
    )
    fit.add_argument("--drop-empty", action="store_true", help="drop cells without counts")
    fit.add_argument(
        "--epochs", type=int, help="at most (default: 60 for few cells, 20 for 2,800 or more)"
    )
    fit.add_argument("--seed", type=int, default=0)
    fit.add_argument(
        "--foreign",
        choices=("nan", "encode"),
        default="nan",
        help="private latents of other groups' cells: NaN, or what the encoder says",
    )
    fit.add_argument("--accelerator", default="cpu", help="cpu, gpu or auto (default cpu)")
    fit.add_argument("--out", type=Path, required=True, metavar="OUT.h5ad")
    fit.add_argument("--model", type=Path, metavar="DIR", help="save the trained model, too")
    fit.add_argument("--quiet", action="store_true", help="no progress bar")
    fit.set_defaults(run=_fit)

    rank = commands.add_parser("rank-genes", help="rank genes by a group's own variation")
    rank.add_argument("model", type=Path, metavar="MODEL", help="folder that fit --model wrote")
    rank.add_argument("input", type=Path, metavar="IN.h5ad", help="the cells it was trained on")
    rank.add_argument("--group", required=True, help="name of the group")
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
        "--no-q", action="store_true", help="no q-values: saves refits of about one training"
    )
    rank.add_argument("--out", type=Path, required=True, metavar="GENES.csv")
    rank.set_defaults(run=_rank_genes)

    report = commands.add_parser("report", help="one HTML file that shows a fit to a colleague")
    report.add_argument("input", type=Path, metavar="RESULT.h5ad", help="what fit --out wrote")
    report.add_argument(
        "--model",
        type=Path,
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
    report.add_argument("--out", type=Path, required=True, metavar="REPORT.html")
    report.add_argument("--quiet", action="store_true", help="no progress bar")
    report.set_defaults(run=_report)
    return parser


def _demo(arguments) -> None:
    from pyro_mgvi import demo  # plotting is imported only where it is used

    writable(arguments.out / "latents.h5ad", make_folder=True)
    adata, mgvi, table = demo.run(arguments.seed, arguments.epochs)
    settings = {"command": "demo", "group_key": "group", "latents": ["z:10", "t:10"]}
    record(adata, mgvi, settings | {"seed": arguments.seed})
    write_h5ad(adata, arguments.out / "latents.h5ad")
    mgvi.save(arguments.out / "model")
    demo.figure(adata).savefig(arguments.out / "latents.png", dpi=120)
    table.to_csv(arguments.out / "scores.csv", index=False)
    print(table.to_string(index=False, float_format="{:.3f}".format))
    print(f"\nwritten to {arguments.out}: latents.h5ad, latents.png, scores.csv, model")


def _fit(arguments) -> None:
    from pyro_mgvi.mgvi import MGVI

    latents = [parse(spec) for spec in arguments.latents]
    writable(arguments.out)
    if arguments.model is not None:
        writable(arguments.model)
        if arguments.model.exists() and not (arguments.model / "settings.json").is_file():
            raise SettingsError(f"--model {arguments.model} exists and is not a saved model")
    adata = read_h5ad(arguments.input)
    keys = {
        "group_key": arguments.group_key,
        "layer": arguments.layer,
        "batch_key": arguments.batch_key,
        "covariate_keys": arguments.covariate_key,
    }
    data = pyro_mgvi.GroupedCounts.from_anndata(adata, **keys, drop_empty=arguments.drop_empty)
    if len(data) < adata.n_obs:
        adata = adata[data.cells].copy()
    mgvi = MGVI.from_counts(data, seed=arguments.seed, latents=latents)
    mgvi.fit(
        data,
        max_epochs=arguments.epochs,
        accelerator=arguments.accelerator,
        progress=not arguments.quiet,
    )
    for key, value in mgvi.latents(data, arguments.foreign).items():
        adata.obsm[f"X_mgvi_{key}"] = value
    keys["latents"] = arguments.latents
    record(adata, mgvi, keys | {"foreign": arguments.foreign, "seed": arguments.seed})
    write_h5ad(adata, arguments.out)
    if arguments.model is not None:
        mgvi.save(arguments.model)
    best = mgvi.history["validation"].min()
    written = ", ".join(key for key in adata.obsm if key.startswith("X_mgvi_"))
    print(
        f"{len(data)} cells, {len(mgvi.history)} epochs, validation loss {best:.2f} nats per cell"
    )
    print(f"written to {arguments.out}: obsm {written}; uns mgvi")


def _rank_genes(arguments) -> None:
    from pyro_mgvi.genes import select
    from pyro_mgvi.mgvi import MGVI

    writable(arguments.out)
    mgvi = MGVI.load(arguments.model)
    adata = read_h5ad(arguments.input)
    data = mgvi.read(adata)
    cells = None if arguments.where is None else query(adata, arguments.where)
    select(data, arguments.group, cells)  # found before the refits
    table = mgvi.rank_genes(
        data,
        arguments.group,
        cells,
        offset=arguments.offset,
        calibration=not arguments.no_q,
    )
    with tempfile.TemporaryDirectory(dir=arguments.out.parent, prefix=".mgvi-") as folder:
        table.to_csv(Path(folder) / "genes.csv", index=False)
        os.replace(Path(folder) / "genes.csv", arguments.out)
    print(table.head(10).to_string(index=False, float_format="{:.3g}".format))
    if arguments.no_q:
        print("no q-values, as asked")
    elif table["q_value"].isna().all():
        print("q_value is missing: too few cells of the group, or of others to compare with")
    else:
        print(f"{(table['q_value'] < 0.1).sum()} genes at q < 0.1")
    print(f"written to {arguments.out}")


def _report(arguments) -> None:
    from pyro_mgvi.mgvi import MGVI
    from pyro_mgvi.report import write_report

    writable(arguments.out)
    mgvi = None if arguments.model is None else MGVI.load(arguments.model)
    write_report(
        arguments.out,
        read_h5ad(arguments.input),
        mgvi,
        labels=arguments.labels,
        diagnosed=arguments.diagnose,
        title=arguments.input.stem,
        progress=not arguments.quiet,
        **({} if arguments.epochs is None else {"max_epochs": arguments.epochs}),
    )
    print(f"written to {arguments.out}")


def query(adata, where: str):
    """Return which cells fulfil a ``DataFrame.query`` on ``obs``, as a boolean mask."""
    try:
        # No local or global names: a query sees the columns of obs and nothing else.
        kept = adata.obs.eval(where, engine="python", local_dict={}, global_dict={})
    except Exception as error:
        columns = ", ".join(map(str, adata.obs.columns))
        reason = " ".join(str(error).split())
        raise SettingsError(
            f"--where {where!r} does not work on obs: {reason}; its columns are {columns}"
        ) from error
    if getattr(getattr(kept, "dtype", None), "kind", "") != "b" or len(kept) != adata.n_obs:
        raise SettingsError(f"--where {where!r} is not true or false for each cell")
    return kept.to_numpy(bool)


def record(adata, mgvi, settings: dict) -> None:
    """Write settings, versions and history to ``adata.uns["mgvi"]``."""
    from pyro_mgvi.storage import versions

    adata.uns["mgvi"] = {
        "settings": json.dumps(settings),
        "versions": versions(),
        "history": mgvi.history,
    }


def read_h5ad(path: Path):
    """Read an h5ad, or say why it cannot be read."""
    import anndata

    if not path.is_file():
        raise DataError(f"{path} does not exist: name an h5ad file")
    try:
        return anndata.read_h5ad(path)
    except Exception as error:
        raise DataError(f"{path} cannot be read as h5ad: {error}") from error


def writable(path: Path, make_folder: bool = False) -> None:
    """Refuse a path that cannot be written, before any work is done."""
    if make_folder:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(f"folder {path.parent} cannot be made: {error}") from error
    if not path.parent.is_dir():
        raise SettingsError(f"cannot write {path}: the folder {path.parent} does not exist")
    if path.suffix in (".h5ad", ".csv", ".html") and path.is_dir():
        raise SettingsError(f"cannot write {path}: it is a folder")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error}") from error


def write_h5ad(adata, path: Path) -> None:
    """Write an h5ad, whole or not at all."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".mgvi-") as folder:
        partial = Path(folder) / path.name
        adata.write_h5ad(partial, compression="gzip")
        os.replace(partial, path)
