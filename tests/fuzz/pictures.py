"""Figures and reports: each wrong setting is refused by name before anything is written."""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fuzz.bench import TYPES, N
from fuzz.judge import Case
from fuzz.model_files import PATHS
from fuzz.questions import LATENT, NO_CELLS, NO_GENES, NO_GROUPS, NO_LABELS, NO_LATENT
from fuzz.settings import NO_FLAGS, SOME_NUMBERS
from pyro_mgvi import plots, report

WORDS = {"None": None, "number": 3, "text": "x", "list": [], "object": object()}
NO_SHOW = {k: v for k, v in NO_FLAGS.items() if k != "None"}


def written(bench):
    adata = bench.adata
    bench.mgvi.write_latents(adata)
    return adata


def titles(axes):
    return [ax.get_title() for ax in np.ravel(axes)]


def latents(bench, adata, panels="celltype", **more):
    return titles(plots.latents(adata, panels, **({"layout": plots.pca} | more)))


def scatter(bench, adata, latent=LATENT, labels=TYPES, **more):
    ax = Figure().subplots()
    return titles(plots.scatter(ax, latent, labels, "title", **more))


def history(bench, table, **more):
    return len(plots.history(table, **more).lines)


def ranking(bench, table, **more):
    return [text.get_text() for text in plots.ranking(table, **more).get_yticklabels()]


def expression(bench, adata, group="a", genes=("gene0",), **more):
    return titles(plots.expression(bench.mgvi, adata, group, genes, **more))


def rendered(bench, adata, **more):
    more = {"progress": False, "title": "x"} | more
    report.write_report(bench.folder / "page.html", adata, bench.mgvi, **more)
    return (bench.folder / "page.html").stat().st_size > 10_000


def table(bench):
    return bench.mgvi.rank_genes(bench.adata, "a", calibration=False)


REFUSED = {
    latents: (written, {
        "panels": {**WORDS, "text": "organ", "empty": "", "no panel": [], "one": [("X_mgvi_z",)],
                   "three": [("X_mgvi_z", "celltype", "x")], "texts": ["X_mgvi_z"],
                   "no latent": [("X_u", "celltype")],
                   "no column": [("X_mgvi_z", "organ")], "numbers": [(1, 2)], "Nones": [(None,
                   None)],
                   "lists": [(["X_mgvi_z"], ["celltype"])], "dict in it": [({}, {})]},
        "columns": {k: v for k, v in SOME_NUMBERS.items()} | {"zero": 0, "a half": 1.5},
        "prefix": {"None": None, "number": 3, "unknown": "X_u_", "list": []},
        "layout": {"text": "umap", "number": 3, "shape": lambda x: x[:, :1],
            "nothing": lambda x: None},
        "show": NO_SHOW, "save": PATHS | {"no ending": "figure", "other ending": "figure.xyz",
                                          "no folder": "no/such/figure.png"},
    }),
    scatter: (lambda bench: None, {
        "latent": NO_LATENT, "labels": {k: v for k, v in NO_LABELS.items() if k in (
            "short", "empty", "table", "two-dimensional", "ragged", "text", "number", "object",
            "None")},
        "layout": {"shape": lambda x: x[:, :1], "text": "umap", "number": 3},
        "show": NO_SHOW, "save": PATHS | {"no ending": "figure"},
        "palette": {"text": "viridis", "number": 3, "list": ["red"],
            "no colour": {"T1": "nocolour", "T2": "red"}},
    }),
    ranking: (table, {"top": {**SOME_NUMBERS, "a half": 2.5, "zero": 0},
                      "level": {k: v for k, v in SOME_NUMBERS.items() if k != "minus one"},
                      "save": {"number": 3, "no ending": "figure"}}),
    expression: (lambda bench: bench.adata, {"group": NO_GROUPS, "genes": NO_GENES | {"None": None},
                 "cells": NO_CELLS, "save": {"number": 3}}),
    rendered: (written, {"labels": {"unknown": ["organ"], "number": 3, "text": "organ",
        "None in it": [None],
               "nested": [["celltype"]], "dict in it": [{}]},
               "diagnosed": NO_FLAGS, "title": {"None": None, "number": 3, "list": []},
               "max_epochs": {"text": "x", "zero": 0, "a half": 0.5}}),
}  # fmt: skip
SAYS = {"cells": "cells|selection|group", "genes": "gene", "latent": "latent|finite|cell",
        "columns": "columns", "panels": "panel|column|obs|latent", "prefix": "prefix|latent",
        "layout": "layout", "labels": "label", "save": "save|write"}  # fmt: skip
EMPTY = {"latent": ("all nan", "no cells"), "labels": ()}


def refused():
    for function, (given, settings) in REFUSED.items():
        for setting, values in settings.items():
            for name, value in values.items():
                if setting == "genes" and function is expression and name == "None":
                    continue  # all of them
                if name in EMPTY.get(setting, ()) and function is scatter:
                    continue  # a picture that says so
                if setting == "save" and name == "None":
                    continue
                yield Case("picture", f"{function.__name__}: {setting}={name}", given,
                           partial(function, **{setting: value}), None,
                           SAYS.get(setting, setting))  # fmt: skip
    tables = {"None": None, "text": "x", "number": 3, "list": [], "dict": {},
        "other": pd.DataFrame({"a": [1]}),
              "series": pd.Series([1.0])}  # fmt: skip
    for name, value in tables.items():
        for function in (history, ranking):
            yield Case("picture", f"{function.__name__}({name})", lambda bench, v=value: v,
                function, None,
                       "table")  # fmt: skip
        for what, function in {
            "diagnostics": plots.diagnostics,
            "predictive_checks": plots.predictive_checks,
        }.items():
            yield Case("picture", f"{what}({name})", lambda bench, v=value: v,
                       lambda bench, x, f=function: f(x), None,
                           "Diagnosis|PredictiveChecks")  # fmt: skip
        yield Case("picture", f"plate_diagram({name})", lambda bench, v=value: v,
                   lambda bench, x: plots.plate_diagram(x), None, "MGVI")  # fmt: skip
        yield Case(
            "picture", f"latents({name})", lambda bench, v=value: v, latents, None, "not an AnnData"
        )
        yield Case("picture", f"report of {name}", lambda bench, v=value: v,
                   lambda bench, x: report.write_report(bench.folder / "x.html", x, bench.mgvi,
                       progress=False),
                   None, "not an AnnData")  # fmt: skip
        if value is not None:
            yield Case("picture", f"report by the model {name}", written,
                       lambda bench, x, v=value: report.write_report(bench.folder / "x.html", x, v,
                           progress=False),
                       None, "MGVI")  # fmt: skip
    for name, value in PATHS.items():
        yield Case("picture", f"write_report to {name}", written,
                   lambda bench, x, v=value: report.write_report(v, x, bench.mgvi, progress=False),
                       None,
                   "path|write")  # fmt: skip
    yield Case(
        "picture",
        "latents: not yet written",
        lambda bench: bench.adata,
        latents,
        None,
        "write_latents",
    )
    yield Case(
        "picture", "report: not yet written", lambda bench: bench.adata, rendered, None, "X_mgvi_z"
    )


def damaged_results():
    """Yield results of which something is not as it was written."""
    changes = {
        "latent missing": lambda a: a.obsm.__delitem__("X_mgvi_z"),
        "latent of other size": lambda a: a.obsm.__setitem__("X_mgvi_z", np.ones((N, 7))),
        "latent as text": lambda a: a.obsm.__setitem__("X_mgvi_z", np.full((N, 2), "a")),
        "latent nan": lambda a: a.obsm.__setitem__("X_mgvi_z", np.full((N, 2), np.nan)),
        "latent of another model": lambda a: a.obsm.__setitem__("X_mgvi_z", a.obsm["X_mgvi_z"] + 1),
        "group missing": lambda a: a.obs.__delitem__("group"),
        "group unknown": lambda a: a.obs.__setitem__("group", "x"),
        "record as text": lambda a: a.uns.__setitem__("mgvi", "x"),
        "record as number": lambda a: a.uns.__setitem__("mgvi", 3),
        "record None": lambda a: a.uns.__setitem__("mgvi", None),
        "record empty": lambda a: a.uns.__setitem__("mgvi", {}),
        "settings damaged": lambda a: a.uns["mgvi"].__setitem__("settings", "{"),
        "settings a list": lambda a: a.uns["mgvi"].__setitem__("settings", "[]"),
        "settings a text": lambda a: a.uns["mgvi"].__setitem__("settings", '"group_key latents"'),
        "settings a number": lambda a: a.uns["mgvi"].__setitem__("settings", 3),
        "group key a number": lambda a: a.uns["mgvi"].__setitem__("settings",
        '{"group_key": 3, "latents": ["z:2"]}'),
        "group key a list": lambda a: a.uns["mgvi"].__setitem__("settings",
        '{"group_key": [], "latents": ["z:2"]}'),
        "batch key a list": lambda a: a.uns["mgvi"].__setitem__(
            "settings", '{"group_key": "group", "batch_key": [], "latents": ["z:2"]}'),
        "history as text": lambda a: a.uns["mgvi"].__setitem__("history", "epoch train"),
        "history a list": lambda a: a.uns["mgvi"].__setitem__("history", [1, 2]),
        "history of others": lambda a: a.uns["mgvi"].__setitem__("history",
        pd.DataFrame({"a": [1]})),
        "history of texts": lambda a: a.uns["mgvi"].__setitem__(
            "history", pd.DataFrame({"epoch": ["x"], "train": ["y"], "validation": ["z"]})),
        "versions as text": lambda a: a.uns["mgvi"].__setitem__("versions", "x"),
        "versions None": lambda a: a.uns["mgvi"].__setitem__("versions", None),
    }  # fmt: skip
    for name, change in changes.items():
        for with_model in (True, False):
            if name == "latent of another model" and not with_model:
                continue  # nothing tells it

            def given(bench, change=change):
                adata = written(bench)
                change(adata)
                return adata

            yield Case(
                "damaged result",
                f"{name}{', with model' if with_model else ''}",
                given,
                lambda bench, x, m=with_model: report.write_report(
                    bench.folder / "x.html", x, bench.mgvi if m else None, progress=False
                ),
                None,
                "obsm|obs|uns|group",
            )


def right():
    adata = {"celltype as list": lambda a: a.obs.__setitem__("celltype", list(TYPES)),
             "with NA": lambda a: a.obs.__setitem__("celltype", pd.Series(TYPES,
             a.obs_names).where(TYPES == "T1")),
             "as numbers": lambda a: a.obs.__setitem__("celltype", np.arange(N)),
             "nullable": lambda a: a.obs.__setitem__("celltype", pd.array(np.arange(N), "Int64")),
             "truth": lambda a: a.obs.__setitem__("celltype", pd.array(TYPES == "T1", "boolean")),
             "dates": lambda a: a.obs.__setitem__("celltype", pd.to_datetime(np.arange(N),
             unit="D")),
             "hostile": lambda a: a.obs.__setitem__("celltype", np.where(TYPES == "T1", "$x_$ <b>",
             "_\\{")),
             "infinite": lambda a: a.obs.__setitem__("celltype", np.where(TYPES == "T1", np.inf,
             1.0)),
             "all missing": lambda a: a.obs.__setitem__("celltype", np.nan),
             "colours": lambda a: a.uns.__setitem__("celltype_colors", ["#ff0000", "nocolour"]),
             "colours a text": lambda a: a.uns.__setitem__("celltype_colors", "red"),
             "colours a dict": lambda a: a.uns.__setitem__("celltype_colors",
             {"T1": "red"})}  # fmt: skip
    for name, change in adata.items():

        def given(bench, change=change):
            adata = written(bench)
            change(adata)
            return adata

        yield Case("picture", f"latents: celltype {name}", given, latents,
                   lambda bench: [f"{k} by celltype" for k in ("z", "t_a", "t_b",
                       "t_c")])  # fmt: skip

    def twice(bench):
        adata = written(bench)
        adata.obs = pd.concat([adata.obs, adata.obs[["celltype"]]], axis=1)
        return adata

    yield Case("picture", "latents: a column twice", twice, latents, None, "celltype")
    yield Case(
        "picture",
        "report: a column twice",
        twice,
        partial(rendered, labels=["celltype"]),
        None,
        "celltype",
    )
    yield Case("picture", "report", written, rendered, lambda bench: True)
    for name, genes in {"text": "gene1", "array": np.array(["gene1"]), "tuple": ("gene1",)}.items():
        yield Case("picture", f"expression: genes as {name}", lambda bench: bench.adata,
                   partial(expression, genes=genes), lambda bench: ["gene1"])  # fmt: skip
    yield Case("picture", "ranking: top beyond", table, partial(ranking, top=10**6),
               lambda bench: list(table(bench).index))  # fmt: skip


CASES = [*refused(), *damaged_results(), *right()]
