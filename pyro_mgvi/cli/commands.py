"""What each command does with its arguments."""

from __future__ import annotations

import json
import os
import tempfile
from argparse import Namespace
from pathlib import Path

from anndata import AnnData

from pyro_mgvi.cli.files import query, read_h5ad, writable, write_h5ad
from pyro_mgvi.core.copies import parse
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.selection import cells_of_group
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.mgvi import MGVI
from pyro_mgvi.saving import versions


def demo(arguments: Namespace) -> None:
    """Simulate, fit, score and draw."""
    from pyro_mgvi.cli import demo as run  # plotting is imported only where it is used

    writable(arguments.out / "latents.h5ad", make_folder=True)
    adata, mgvi, table = run.run(arguments.seed, arguments.epochs)
    settings = {"command": "demo", "group_key": "group", "latents": ["z:10", "t:10"]}
    record(adata, mgvi, settings | {"seed": arguments.seed})
    write_h5ad(adata, arguments.out / "latents.h5ad")
    mgvi.save(arguments.out / "model")
    run.figure(adata).savefig(arguments.out / "latents.png", dpi=120)
    table.to_csv(arguments.out / "scores.csv", index=False)
    print(table.to_string(index=False, float_format="{:.3f}".format))
    print(f"\nwritten to {arguments.out}: latents.h5ad, latents.png, scores.csv, model")


def fit(arguments: Namespace) -> None:
    """Fit an h5ad, and write its latents and the model."""
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
    data = GroupedCounts.from_anndata(adata, **keys, drop_empty=arguments.drop_empty)
    if len(data) < adata.n_obs:
        adata = adata[data.cells].copy()
    mgvi = MGVI.from_counts(data, seed=arguments.seed, latents=latents)
    mgvi.fit(
        data,
        max_epochs=arguments.epochs,
        accelerator=arguments.accelerator,
        progress=not arguments.quiet,
    )
    mgvi.write_latents(adata, arguments.foreign)
    keys["latents"] = arguments.latents
    record(adata, mgvi, keys | {"foreign": arguments.foreign, "seed": arguments.seed})
    write_h5ad(adata, arguments.out)
    if arguments.model is not None:
        mgvi.save(arguments.model)
    kept = mgvi.history.loc[mgvi.history["kept"], "validation"].iloc[-1]
    written = ", ".join(key for key in adata.obsm if key.startswith("X_mgvi_"))
    print(
        f"{len(data)} cells, {len(mgvi.history)} epochs, validation loss {kept:.2f} nats per cell"
    )
    print(f"written to {arguments.out}: obsm {written}; uns mgvi")


def rank_genes(arguments: Namespace) -> None:
    """Rank the genes of a group, and write the table."""
    writable(arguments.out)
    mgvi = MGVI.load(arguments.model)
    adata = read_h5ad(arguments.input)
    data = mgvi.read(adata)
    cells = None if arguments.where is None else query(adata, arguments.where)
    cells_of_group(adata, data, arguments.group, cells)  # refused before the refits
    table = mgvi.rank_genes(
        adata,
        arguments.group,
        cells,
        offset=arguments.offset,
        calibration=not arguments.no_q,
        progress=not arguments.quiet,
    )
    with tempfile.TemporaryDirectory(dir=arguments.out.parent, prefix=".mgvi-") as folder:
        table.to_csv(Path(folder) / "genes.csv")
        os.replace(Path(folder) / "genes.csv", arguments.out)
    print(table.head(10).reset_index().to_string(index=False, float_format="{:.3g}".format))
    if arguments.no_q:
        print("no q-values, as asked")
    elif table["q_value"].isna().all():
        print("q_value is missing: too few cells of the group, or of others to compare with")
    else:
        print(f"{(table['q_value'] < 0.1).sum()} genes at q < 0.1")
    print(f"written to {arguments.out}")


def report(arguments: Namespace) -> None:
    """Write the report of a fit."""
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
        max_epochs=arguments.epochs,
        progress=not arguments.quiet,
    )
    print(f"written to {arguments.out}")


def record(adata: AnnData, mgvi: MGVI, settings: dict) -> None:
    """Write settings, versions and history to ``adata.uns["mgvi"]``."""
    adata.uns["mgvi"] = {
        "settings": json.dumps(settings),
        "versions": versions(),
        "history": mgvi.history,
    }


COMMANDS = {"demo": demo, "fit": fit, "rank_genes": rank_genes, "report": report}
