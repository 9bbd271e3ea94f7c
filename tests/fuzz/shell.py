"""The command line: a wrong option, path or expression is one line, exit code 2 and no file."""

import io
import shutil
from contextlib import chdir, redirect_stderr, redirect_stdout
from functools import partial

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from scipy import sparse

from fuzz.bench import TYPES, Bench
from fuzz.judge import Case, Fault
from pyro_mgvi import MGVI, MGVIError
from pyro_mgvi.cli.main import main


class Refused(MGVIError):
    """What the command line said."""


def run(bench, *arguments):
    """Run a command in the bench's folder; return what it printed."""
    out, err = io.StringIO(), io.StringIO()
    with chdir(bench.folder), redirect_stdout(out), redirect_stderr(err):
        try:
            code = main([str(each) for each in arguments])
        except SystemExit as exit_:  # of argparse, after usage
            code = exit_.code
            err = io.StringIO(err.getvalue().splitlines()[-1] + "\n")
    lines = err.getvalue().splitlines()
    if any(not line.startswith("pyro-mgvi") for line in lines):
        raise Fault(f"foreign lines on stderr: {lines}")
    if code == 0:
        return out.getvalue()
    if code != 2 or out.getvalue():
        raise Fault(f"exit code {code}, stdout {out.getvalue()!r}")
    raise Refused("\n".join(lines))


def disk(bench):
    """Put the cells, a model, a result and some files of others there."""
    shutil.copytree(bench.once("disk", lambda: _disk(bench)), bench.folder, dirs_exist_ok=True)


def _disk(bench):
    folder, adata = bench.shared.folder / "disk", bench.adata
    folder.mkdir()
    adata.obs["score"] = pd.array([pd.NA, *range(35)], "Int64")
    adata.obs["passed"] = pd.array([pd.NA, *(TYPES[1:] == "T1")], "boolean")
    adata.layers["counts"] = adata.X.copy()
    adata.layers["logs"] = np.log1p(adata.X)
    adata.write_h5ad(folder / "in.h5ad")
    bench.mgvi.save(folder / "model")
    bench.mgvi.write_latents(adata)
    adata.write_h5ad(folder / "result.h5ad")
    (folder / "text.h5ad").write_text("not hdf5")
    (folder / "empty.h5ad").write_bytes(b"")
    content = (folder / "in.h5ad").read_bytes()
    (folder / "half.h5ad").write_bytes(content[: len(content) // 2])
    with h5py.File(folder / "other.h5", "w") as file:
        file["x"] = np.arange(3)
    (folder / "results").mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "broken.zarr").mkdir()
    (folder / "broken.zarr" / "zarr.json").write_text("{")
    (folder / "full.zarr").mkdir()
    (folder / "full.zarr" / "notes.txt").write_text("mine")
    return folder


FIT = (
    "fit",
    "in.h5ad",
    "--group-key",
    "group",
    "--quiet",
    "--epochs",
    "1",
    "--latents",
    "z:2",
    "t:1",
)
OUT = ("--out", "out.h5ad")
LONG = "x" * 300

#: What is wrong with a fit: options, and what is said.
FITS = {
    "no arguments": (("fit",), "required"),
    "no command": ((), "COMMAND|required"),
    "unknown command": (("train",), "train"),
    "no output": (FIT, "--out"),
    "no group": (("fit", "in.h5ad", *OUT), "--group-key"),
    "unknown option": ((*FIT, *OUT, "--abacus"), "abacus"),
    "another group": ((*FIT, *OUT, "--group-key", "organ"), "organ"),
    "empty group": ((*FIT, *OUT, "--group-key", ""), "--group-key ''"),
    "continuous group": ((*FIT, *OUT, "--group-key", "age"), "'age'"),
    "missing group": ((*FIT, *OUT, "--group-key", "score"), "'score'.*cell0"),
    "NA in truth": ((*FIT, *OUT, "--group-key", "passed"), "'passed'.*cell0"),
    "another layer": ((*FIT, *OUT, "--layer", "spliced"), "spliced.*counts"),
    "layer of logs": ((*FIT, *OUT, "--layer", "logs"), "logs.*cell0.*gene"),
    "empty layer": ((*FIT, *OUT, "--layer", ""), "layer ''"),
    "no raw": ((*FIT, *OUT, "--use-raw"), "raw is empty"),
    "layer and raw": ((*FIT, *OUT, "--use-raw", "--layer", "counts"), "choose one"),
    "another batch": ((*FIT, *OUT, "--batch-key", "plate"), "plate"),
    "batch is group": ((*FIT, *OUT, "--batch-key", "group"), "group"),
    "another covariate": ((*FIT, *OUT, "--covariate-key", "sex"), "sex"),
    "covariate twice": ((*FIT, *OUT, "--covariate-key", "age", "--covariate-key", "age"), "age"),
    "missing covariate": ((*FIT, *OUT, "--covariate-key", "score"), "score.*cell0"),
    "epochs zero": ((*FIT, *OUT, "--epochs", "0"), "--epochs"),
    "epochs minus": ((*FIT, *OUT, "--epochs", "-3"), "--epochs"),
    "epochs text": ((*FIT, *OUT, "--epochs", "many"), "--epochs.*many"),
    "epochs a half": ((*FIT, *OUT, "--epochs", "2.5"), "--epochs.*2.5"),
    "epochs huge": ((*FIT, *OUT, "--epochs", "9" * 30), "--epochs"),
    "seed minus": ((*FIT, *OUT, "--seed", "-1"), "seed"),
    "seed text": ((*FIT, *OUT, "--seed", "x"), "--seed.*x"),
    "seed huge": ((*FIT, *OUT, "--seed", "9" * 30), "seed"),
    "foreign": ((*FIT, *OUT, "--foreign", "zero"), "zero"),
    "accelerator": ((*FIT, *OUT, "--accelerator", "abacus"), "abacus"),
    "accelerator empty": ((*FIT, *OUT, "--accelerator", ""), "accelerator"),
    "far device": ((*FIT, *OUT, "--accelerator", "cuda:99"), "cuda:99"),
    "no input": (("fit", "none.h5ad", *FIT[2:], *OUT), "none.h5ad"),
    "input empty": (("fit", "empty.h5ad", *FIT[2:], *OUT), "empty.h5ad"),
    "input half": (("fit", "half.h5ad", *FIT[2:], *OUT), "half.h5ad"),
    "input text": (("fit", "text.h5ad", *FIT[2:], *OUT), "text.h5ad"),
    "input of others": (("fit", "other.h5", *FIT[2:], *OUT), "other.h5"),
    "input a folder": (("fit", "results", *FIT[2:], *OUT), "results"),
    "input broken zarr": (("fit", "broken.zarr", *FIT[2:], *OUT), "broken.zarr"),
    "input a long name": (("fit", LONG, *FIT[2:], *OUT), "x{40}"),
    "input nothing": (("fit", "", *FIT[2:], *OUT), "argument IN: an empty text"),
    "input below a file": (("fit", "notes.txt/in.h5ad", *FIT[2:], *OUT), "notes.txt/in.h5ad"),
    "input with NUL": (("fit", "a\0b", *FIT[2:], *OUT), "a"),
    "out is input": ((*FIT, "--out", "in.h5ad"), "in.h5ad.*--force"),
    "out is input by another name": ((*FIT, "--out", "results/../in.h5ad"), "in.h5ad.*--force"),
    "out is a folder": ((*FIT, "--out", "results"), "results"),
    "out in no folder": ((*FIT, "--out", "no/out.h5ad"), "no/out.h5ad"),
    "out below a file": ((*FIT, "--out", "notes.txt/out.h5ad"), "notes.txt"),
    "out is of others": ((*FIT, "--out", "text.h5ad"), "text.h5ad.*--force"),
    "out named like a table": ((*FIT, "--out", "out.csv"), "out.csv"),
    "out nothing": ((*FIT, "--out", ""), "--out"),
    "out a long name": ((*FIT, "--out", LONG), "--out"),
    "out with NUL": ((*FIT, "--out", "a\0b"), "--out"),
    "out zarr of others": ((*FIT, "--out", "full.zarr"), "full.zarr"),
    "out broken zarr": ((*FIT, "--out", "broken.zarr"), "broken.zarr"),
    "model a folder of others": ((*FIT, *OUT, "--model", "results"), "results"),
    "model a file": ((*FIT, *OUT, "--model", "notes.txt"), "notes.txt"),
    "model is out": ((*FIT, *OUT, "--model", "out.h5ad"), "out.h5ad"),
    "model in no folder": ((*FIT, *OUT, "--model", "no/model"), "no/model"),
    "model nothing": ((*FIT, *OUT, "--model", ""), "--model"),
    "model a long name": ((*FIT, *OUT, "--model", LONG), "--model"),
    "model with NUL": ((*FIT, *OUT, "--model", "a\0b"), "--model"),
    "out in the model": ((*FIT, "--out", "model/out.h5ad", "--model", "model"), "model/out.h5ad"),
    "resume without": ((*FIT, *OUT, "--resume"), "--checkpoint"),
    "checkpoint a file": ((*FIT, *OUT, "--checkpoint", "notes.txt"), "notes.txt"),
    "checkpoint nothing": ((*FIT, *OUT, "--checkpoint", ""), "checkpoint"),
    "checkpoint a long name": ((*FIT, *OUT, "--checkpoint", LONG), "checkpoint"),
    "checkpoint with NUL": ((*FIT, *OUT, "--checkpoint", "a\0b"), "checkpoint"),
    "checkpoint below a file": ((*FIT, *OUT, "--checkpoint", "notes.txt/x"), "notes.txt"),
}
LATENTS = {
    "empty": "", "name": "z", "no number": "z:ten", "zero": "t:0", "minus": "z:-3",
    "fraction": "z:1.5",
    "unknown": "u:3", "huge": "z:" + "9" * 30, "no group": "few=:2", "another group": "few=lung:2",
    "half a pair": "few=a+:2", "group twice": "few=a+a:2", "subset twice": "few=a,a:2",
    "no name": "=a:2",
    "name with space": "f w=a:2", "reserved": "counts=a:2", "spaces": "z : 3", "only colon": ":",
    "colons": "z::3",
    "escape at the end": "few=a\\:2", "plus": "+:3", "equals twice": "few=x=y=a:2",
    "one copy named": "few=x=a,b:2",
    "copies alike": "few=x=a,x=b:2",
}  # fmt: skip
RANK = ("rank-genes", "model", "in.h5ad", "--no-q", "--quiet")
CSV = ("--out", "genes.csv")
RANKS = {
    "no group": ((*RANK, *CSV), "--group"),
    "another group": ((*RANK, *CSV, "--group", "lung"), "lung"),
    "empty group": ((*RANK, *CSV, "--group", ""), "group ''"),
    "offset": ((*RANK, *CSV, "--group", "a", "--offset", "none"), "none"),
    "no model": (
        ("rank-genes", "none", "in.h5ad", "--group", "a", *CSV),
        "none is not a saved model",
    ),
    "model a file": (("rank-genes", "notes.txt", "in.h5ad", "--group", "a", *CSV), "notes.txt"),
    "model a folder": (("rank-genes", "results", "in.h5ad", "--group", "a", *CSV), "results"),
    "model nothing": (
        ("rank-genes", "", "in.h5ad", "--group", "a", *CSV),
        "argument MODEL: an empty text",
    ),
    "model a long name": (("rank-genes", LONG, "in.h5ad", "--group", "a", *CSV), "x{40}"),
    "model with NUL": (("rank-genes", "a\0b", "in.h5ad", "--group", "a", *CSV), "a"),
    "model and cells swapped": (
        ("rank-genes", "in.h5ad", "model", "--group", "a", *CSV),
        "in.h5ad is not a saved",
    ),
    "no input": (("rank-genes", "model", "none.h5ad", "--group", "a", *CSV), "none.h5ad"),
    "out in no folder": ((*RANK, "--group", "a", "--out", "no/genes.csv"), "no/genes.csv"),
    "out a folder": ((*RANK, "--group", "a", "--out", "results"), "results"),
    "out the input": ((*RANK, "--group", "a", "--out", "in.h5ad"), "in.h5ad"),
    "out in the model": ((*RANK, "--group", "a", "--out", "model/settings.json"), "settings.json"),
    "out named like a page": ((*RANK, "--group", "a", "--out", "genes.html"), "genes.html"),
    "out nothing": ((*RANK, "--group", "a", "--out", ""), "--out"),
    "out a long name": ((*RANK, "--group", "a", "--out", LONG), "--out"),
}
WHERES = {
    "empty": "", "space": " ", "number": "1", "text": "'a'", "column": "celltype",
    "unknown": "organ == 'x'",
    "syntax": "celltype ==", "brackets": "(celltype == 'T1'", "quotes": "celltype == 'T1",
    "assignment": "celltype = 'T1'",
    "another type": "celltype > 3", "no cell": "celltype == 'T9'", "foreign cells": "group == 'c'",
    "local": "@x == 3", "import": "__import__('os').getcwd() == 'x'", "lambda": "lambda: 1",
    "True": "True",
    "nan": "age == nan", "division": "1 / 0", "two lines": "age > 3\nage < 5",
    "semicolon": "age > 3; age < 5",
    "mask too short": "age[:3] > 3", "attribute": "celltype.__class__", "number column": "age + 1",
    "list": "[True]",
    "NUL": "age > 3\0", "backticks": "`no such` > 3", "method": "age.sum() > 3",
    "format": "{0}", "walrus": "(x := age) > 3", "star": "*age", "comma": "age > 3, age < 5",
    "text and": "'a' and 'b'",
}  # fmt: skip
RIGHT_WHERES = {
    "a label": ("celltype == 'T1'", lambda obs: obs["celltype"] == "T1"),
    "numbers": ("age > 35 and age < 50", lambda obs: (obs["age"] > 35) & (obs["age"] < 50)),
    "signs": ("(age > 35) & ~(age > 50)", lambda obs: (obs["age"] > 35) & ~(obs["age"] > 50)),
    "in": ("celltype in ['T1']", lambda obs: obs["celltype"] == "T1"),
    "not": ("not celltype == 'T1'", lambda obs: obs["celltype"] != "T1"),
    "NA as false": ("score > 3", lambda obs: obs["score"].fillna(0) > 3),
    "a truth column": ("passed", lambda obs: obs["passed"].fillna(False)),
    "method": ("celltype.str.startswith('T1')", lambda obs: obs["celltype"] == "T1"),
    "backticks": ("`celltype` == 'T1'", lambda obs: obs["celltype"] == "T1"),
}
REPORTS = {
    "no output": (("report", "result.h5ad"), "--out"),
    "no input": (("report", "none.h5ad", "--out", "x.html"), "none.h5ad"),
    "no result": (("report", "in.h5ad", "--out", "x.html"), "uns.'mgvi'"),
    "another label": (("report", "result.h5ad", "--out", "x.html", "--labels", "organ", "--quiet"),
        "organ"),
    "empty label": (("report", "result.h5ad", "--out", "x.html", "--labels", "", "--quiet"),
        "label ''"),
    "no model": (("report", "result.h5ad", "--out", "x.html", "--model", "none"), "none"),
    "diagnose without": (("report", "result.h5ad", "--out", "x.html", "--diagnose"), "--model"),
    "epochs zero": (("report", "result.h5ad", "--out", "x.html", "--diagnose", "--model", "model",
        "--epochs", "0",
                     "--quiet"), "--epochs"),
    "out the input": (("report", "result.h5ad", "--out", "result.h5ad"), "result.h5ad"),
    "out a folder": (("report", "result.h5ad", "--out", "results"), "results"),
    "out in no folder": (("report", "result.h5ad", "--out", "no/x.html"), "no/x.html"),
    "out in the model": (("report", "result.h5ad", "--out", "model/x.html", "--model", "model"),
        "model/x.html"),
    "out named like a table": (("report", "result.h5ad", "--out", "x.csv"), "x.csv"),
    "out nothing": (("report", "result.h5ad", "--out", ""), "--out"),
}  # fmt: skip
DEMOS = {
    "seed minus": (("demo", "--seed", "-1", "--out", "new"), "seed"),
    "seed huge": (("demo", "--seed", "9" * 30, "--out", "new"), "seed"),
    "epochs zero": (("demo", "--epochs", "0", "--out", "new"), "epochs"),
    "epochs minus": (("demo", "--epochs", "-1", "--out", "new/below"), "epochs"),
    "out a file": (("demo", "--out", "notes.txt"), "notes.txt"),
    "out below a file": (("demo", "--out", "notes.txt/x"), "notes.txt"),
    "out nothing": (("demo", "--out", ""), "--out"),
    "out a long name": (("demo", "--out", LONG), "--out"),
    "out with NUL": (("demo", "--out", "a\0b"), "--out"),
}


def refused():
    for kind, table in {"fit": FITS, "rank-genes": RANKS, "report": REPORTS, "demo": DEMOS}.items():
        for name, (arguments, says) in table.items():
            yield Case("command line", f"{kind}: {name}", disk, lambda bench, _,
                a=arguments: run(bench, *a),
                       None, says)  # fmt: skip
    for name, text in LATENTS.items():
        yield Case("command line", f"fit: latents {name}", disk,
                   lambda bench, _, t=text: run(bench, *FIT[:-3], "--latents", t, *OUT), None,
                       "latent")  # fmt: skip
    for name, text in WHERES.items():
        yield Case("command line", f"rank-genes: where {name}", disk,
                   lambda bench, _, t=text: run(bench, *RANK, *CSV, "--group", "a", "--where", t),
                       None,
                   "--where|selection")  # fmt: skip


def ranked(bench, given, where):
    run(bench, *RANK, *CSV, "--group", "a", "--where", where)
    return pd.read_csv(bench.folder / "genes.csv", index_col=0)


def expected(bench, select):
    adata = ad.read_h5ad(bench.folder / "in.h5ad")
    cells = select(adata.obs).to_numpy(bool)
    return MGVI.load(bench.folder / "model").rank_genes(adata, "a", cells, calibration=False)


def fitted(bench, given, *more):
    run(bench, *FIT, *OUT, *more)
    return dict(ad.read_h5ad(bench.folder / "out.h5ad").obsm)


def plain(bench):
    def answer():
        folder = bench.folder / "plain"
        shutil.copytree(bench.shared.folder / "disk", folder)
        run(Bench(bench.shared, folder), *FIT, *OUT)
        return dict(ad.read_h5ad(folder / "out.h5ad").obsm)

    return bench.once("plain", answer)


def stored(change, bench):
    disk(bench)
    adata = ad.read_h5ad(bench.folder / "in.h5ad")
    change(adata)
    adata.write_h5ad(bench.folder / "in.h5ad")


def right():
    for name, (where, select) in RIGHT_WHERES.items():
        yield Case("command line", f"rank-genes: where, {name}", disk, partial(ranked, where=where),
                   partial(expected, select=select))  # fmt: skip
    for name, more in {
        "X": ("--layer", "X"), "a layer": ("--layer", "counts"), "rounding": ("--round-counts",),
        "latents in one": ("--latents", "z:2", "t:1"), "force": ("--force",),
            "quiet twice": ("--quiet",),
        "a checkpoint": ("--checkpoint", "state"), "seed": ("--seed", "0"), "model": ("--model",
            "new"),
    }.items():  # fmt: skip
        yield Case(
            "command line",
            f"fit: {name}",
            disk,
            lambda bench, x, m=more: fitted(bench, x, *m),
            plain,
        )
    changes = {
        "dense": lambda a: setattr(a, "X", a.X.toarray()),
        "CSC": lambda a: setattr(a, "X", sparse.csc_matrix(a.X)),
        "float64": lambda a: setattr(a, "X", a.X.astype(float)),
        "int64": lambda a: setattr(a, "X", a.X.astype(int)),
        "a record of others": lambda a: a.uns.__setitem__("mgvi", "mine"),
        "groups as text": lambda a: a.obs.__setitem__("group", a.obs["group"].astype(str)),
        "groups ordered": lambda a: a.obs.__setitem__("group", a.obs["group"].cat.as_ordered()),
        "old latents": lambda a: a.obsm.__setitem__("X_mgvi_z", np.ones((36, 5))),
    }
    for name, change in changes.items():
        yield Case("command line", f"fit: stored as {name}", partial(stored, change), fitted, plain)


CASES = [*refused(), *right()]
