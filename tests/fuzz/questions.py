"""Questions to a trained model: which cells, genes, groups, latents and how many draws."""

from functools import partial

import numpy as np
import pandas as pd

from fuzz.bench import BRIEF, GROUPS, TYPES, G, N
from fuzz.judge import Case
from fuzz.settings import NO_FLAGS, NO_NUMBERS, NO_WHOLE, dresses
from pyro_mgvi import GroupedCounts, analysis, criticism, metrics

MASK = TYPES == "T1"
NAMES = np.array([f"cell{i}" for i in range(N)])
GENES = [f"gene{i}" for i in range(G)]


def rank(bench, adata, group="a", **more):
    return bench.mgvi.rank_genes(adata, group, **({"calibration": False} | more))


def compared(bench, adata, first="a", second="b", **more):
    return bench.mgvi.differential_expression(adata, first, second, **({"n_draws": 8} | more))


def latents(bench, adata, **more):
    return bench.mgvi.latents(adata, **more)


def written(bench, adata, **more):
    bench.mgvi.write_latents(adata, **more)
    return dict(adata.obsm)


def expression(bench, adata, **more):
    return bench.full.normalized_expression(adata, **more)


def draws(bench, adata, **more):
    return bench.mgvi.expression_draws(adata, **({"n_draws": 3} | more))


def heldout(bench, adata, **more):
    return criticism.held_out(bench.mgvi, adata, **({"n_draws": 4, "progress": False} | more))


def checks(bench, adata, **more):
    more = {"n_draws": 20, "progress": False} | more
    return criticism.predictive_checks(bench.mgvi, adata, **more)


def arviz(bench, adata, **more):
    more = {"n_draws": 2, "progress": False} | more
    found = criticism.to_arviz(bench.mgvi, adata, **more)
    return found["posterior"]["z"].to_numpy()


def compare(bench, adata, models, **more):
    more = {"n_draws": 4, "progress": False} | more
    return criticism.compare(models(bench) if callable(models) else models, adata, **more)


def read(bench, adata, **more):
    return bench.mgvi.read(adata, **more)


def refits(bench, adata, **more):
    return bench.mgvi.diagnose(adata, **({"progress": False, "plan": BRIEF} | more))


def cross(bench, adata, **more):
    found = analysis.cross_fit(bench.mgvi, adata, **({"progress": False, "plan": BRIEF} | more))
    return found.fold_n


def loadings(bench, adata, latent="z"):
    return bench.mgvi.loadings(latent, adata)


WHOLE = NO_NUMBERS | NO_WHOLE
SOME_WHOLE = {
    k: WHOLE[k] for k in ("text", "list", "nan", "minus one", "True", "a half", "1e300", "inf")
}
SOME_WHOLE |= {"None": None, "object": object()}
NO_SEED = {k: v for k, v in SOME_WHOLE.items()}
WORDS = {"None": None, "empty": "", "number": 3, "list": ["nan"], "upper": "NaN", "other": "zeros",
         "True": True, "nan": float("nan"), "array": np.array(["nan", "zero"]),
         "bytes": b"nan"}  # fmt: skip
NO_LATENTS = {"unknown": "u", "copy": "t_lung", "number": 3, "None in it": [None],
    "nested": [["t"]],
              "empty text": "", "bytes": b"t", "number in it": [3], "dict in it": [{}],
              "True": True,
              "upper": "Z"}  # fmt: skip
NO_GENES = {"unknown": "BRCA1", "empty": [], "number": 3, "numbers": [0, 1], "half": ["gene0", "x"],
            "nested": [["gene0"]], "None in it": [None], "mask": np.ones(G, bool),
            "bytes": b"gene0",
            "tuples": [("gene0", "gene1")], "dict in it": [{}], "nan": [float("nan")],
            "empty text": "",
            "True": True}  # fmt: skip
NO_GROUPS = {"unknown": "lung", "None": None, "list": ["a"], "upper": "A", "empty": "",
    "nan": float("nan"),
             "bytes": b"a", "number": 0, "True": True, "dict": {}}  # fmt: skip
NO_CELLS = {
    "short mask": np.ones(N - 1, bool), "long mask": np.ones(N + 1, bool), "no cell": np.zeros(N,
    bool),
    "foreign cells": GROUPS == "c", "positions": [0, 1, 2], "positions beyond": [N + 5],
    "minus positions": [-1], "floats": np.ones(N), "integers": np.ones(N, int), "text": "cell0",
    "number": 3, "unknown": ["cell0", "nobody"], "half unknown": [*NAMES, "x"], "empty": [],
    "two-dimensional": np.ones((N, 1), bool), "table": pd.DataFrame({"a": MASK}, index=NAMES),
    "nested": [["cell0"], ["cell1"]], "ragged": [["cell0"], ["cell1", "cell2"]],
        "dict": {"cell0": True},
    "set": {"cell0", "cell1"}, "None in it": [None], "mask with None": [None, *MASK[1:]],
    "mask with nan": [float("nan"), *MASK[1:]], "short Series": pd.Series(MASK[1:], NAMES[1:]),
    "Series of others": pd.Series(MASK, [f"x{i}" for i in range(N)]),
    "Series twice": pd.Series([*MASK, True], [*NAMES, "cell0"]),
    "NA in Series": pd.Series([pd.NA, *MASK[1:]], NAMES, dtype="boolean"),
    "Series of numbers": pd.Series(np.arange(N), NAMES), "generator": (x for x in MASK),
    "object": object(), "bytes": [b"cell0"], "slice": slice(3), "dates": np.array(["2024-01-01"],
    "M8[D]"),
    "complex": np.ones(N, complex), "Series by number": pd.Series(MASK).iloc[::-1],
}  # fmt: skip
RIGHT_CELLS = {
    "list of truths": MASK.tolist(), "tuple of truths": tuple(MASK),
    "object truths": MASK.astype(object),
    "Series": pd.Series(MASK, NAMES), "Series in another order": pd.Series(MASK, NAMES).iloc[::-1],
    "boolean Series": pd.Series(MASK, NAMES, dtype="boolean"),
    "boolean Series, other order": pd.Series(MASK, NAMES, dtype="boolean").iloc[::-1],
    "boolean array": pd.array(MASK, "boolean"), "longer Series": pd.Series([*MASK, True], [*NAMES,
    "x"]),
    "object Series": pd.Series(MASK.astype(object), NAMES), "names": list(NAMES[MASK]),
    "names in another order": NAMES[MASK][::-1], "index": pd.Index(NAMES[MASK]),
    "names twice": [*NAMES[MASK], *NAMES[MASK]], "Series of names": pd.Series(NAMES[MASK]),
    "categorical names": pd.Categorical(NAMES[MASK]), "string names": pd.array(NAMES[MASK],
    "string"),
    "tuple of names": tuple(NAMES[MASK]), "NumPy names": np.array(NAMES[MASK], object),
}  # fmt: skip

NO_SETS = NO_GROUPS | {k: v for k, v in NO_CELLS.items() if k != "foreign cells"}
#: Each function, and for each of its settings what is refused.
REFUSED = {
    rank: {"group": NO_GROUPS, "cells": NO_CELLS, "offset": WORDS | {"None": "none"},
        "latents": NO_LATENTS | {
        "shared": "z", "empty": []},
        "calibration": NO_FLAGS | {"None": None, "fit": object()}},
    compared: {"first": NO_SETS, "second": NO_SETS, "latents": NO_LATENTS,
               "n_draws": SOME_WHOLE | {"one": 1}, "seed": NO_SEED,
               "threshold": {k: v for k, v in NO_NUMBERS.items()}},
    latents: {"foreign": WORDS, "draw": {k: v for k, v in NO_SEED.items() if v is not None}},
    written: {"foreign": WORDS, "prefix": {"None": None, "empty": "", "number": 3, "slash": "a/b",
        "list": [],
              "bytes": b"x", "True": True},
              "counts": {"text": "x", "number": 3, "array": np.ones((N, G)), "list": []}},
    expression: {"latents": NO_LATENTS, "genes": NO_GENES,
                 "batch": {"unknown": "d3", "number": 3, "list": ["d1"], "empty": "", "True": True,
                           "nan": float("nan"), "group": "a", "bytes": b"d1"}},
    draws: {"latents": NO_LATENTS, "genes": NO_GENES, "n_draws": WHOLE | {"one": 1},
        "seed": NO_SEED},
    heldout: {"n_draws": SOME_WHOLE | {"odd": 5, "zero": 0}, "seed": NO_SEED},
    checks: {"n_draws": SOME_WHOLE | {"few": 19}, "seed": NO_SEED},
    arviz: {"n_draws": WHOLE | {"zero": 0}, "seed": NO_SEED, "foreign": WORDS, "genes": NO_GENES,
            "max_bytes": {"zero": 0, "few": 100, **SOME_WHOLE, "a half": 0.5, "1e300": 1e3}},
    read: {"layer": {"unknown": "x", "number": 3, "list": ["X"], "True": True, "bytes": b"X",
        "empty": ""},
           "use_raw": NO_FLAGS, "missing_genes": SOME_WHOLE | {"one": 1, "two": 2.0,
           "a half": -0.5}},
    refits: {"labels": {"unknown": "organ", "short": ["a"] * 3, "number": 3, "empty": [],
        "empty text": "",
             "table": pd.DataFrame({"a": TYPES}), "dict": {"a": 1}, "two-dimensional": np.ones((N,
                 2)),
             "object": object(), "ragged": [["a"], ["b", "c"]], "other cells": pd.Series(TYPES,
             NAMES).iloc[3:]},
             "batch": {"unknown": "organ", "short": ["a"] * 3, "number": 3,
                 "two-dimensional": np.ones((N, 2))},
             "plan": {"text": "x", "number": 3}, "max_epochs": SOME_WHOLE | {"None": 0},
             "refits": {"text": "x", "number": 3, "list": [], "True": True},
             "shuffled": {"text": "x", "number": 3, "list": [], "True": True}},
    cross: {"plan": {"text": "x", "number": 3}, "max_epochs": SOME_WHOLE | {"None": 0}},
    loadings: {"latent": {"unknown": "u", "number": 3, "z": "z"}},
}  # fmt: skip
SAYS = {"first": "first|group", "second": "second|group", "cells": "cells|selection|group",
    "draw": "draw",
        "latents": "latent", "genes": "gene", "counts": "AnnData|counts", "batch": "batch",
        "refits": "refits",
        "shuffled": "shuffled", "labels": "labels", "latent": "loadings|latent", "plan": "plan",
        "use_raw": "use_raw|raw"}  # fmt: skip


def refused():
    for function, settings in REFUSED.items():
        for setting, values in settings.items():
            for name, value in values.items():
                yield Case("question", f"{function.__name__}: {setting}={name}",
                    lambda bench: bench.adata,
                           partial(function, **{setting: value}), None,
                           SAYS.get(setting, setting))  # fmt: skip


def same(function, **plain):
    def answer(bench):
        key = (function.__name__, repr(plain))
        return bench.once(key, lambda: function(bench, bench.adata, **plain))

    return answer


def right():
    answered = {
        rank: {"cells": (RIGHT_CELLS, MASK), "group": ({"NumPy": np.str_("a")}, "a"),
               "latents": ({"list": ["t"], "tuple": ("t",), "set": {"t"}, "copies": ["t_a", "t_b",
                   "t_c"],
                            "array": np.array(["t"]), "generator": (x for x in ["t"])}, "t"),
               "calibration": ({"NumPy": np.False_}, False)},
        compared: {"first": (RIGHT_CELLS, MASK), "n_draws": (dresses(8), 8), "seed": (dresses(3),
            3),
                   "threshold": (dresses(1), 1.0)},
        latents: {"draw": (dresses(3), 3)},
        expression: {"genes": ({"text": "gene3", "tuple": ("gene3",), "array": np.array(["gene3"]),
                     "Series": pd.Series(["gene3"]), "index": pd.Index(["gene3"]),
                         "dict": {"gene3": 1},
                     "generator": (x for x in ["gene3"]),
                         "categorical": pd.Categorical(["gene3"])}, ["gene3"]),
                     "batch": ({"NumPy": np.str_("d1")}, "d1")},
        draws: {"n_draws": (dresses(3), 3), "seed": (dresses(3), 3)},
        heldout: {"n_draws": (dresses(4), 4), "seed": (dresses(3), 3)},
        checks: {"n_draws": (dresses(20), 20), "seed": (dresses(3), 3)},
        arviz: {"n_draws": (dresses(2), 2), "seed": (dresses(3), 3)},
        read: {"missing_genes": ({"NumPy": np.float32(0.1), "int": 0, "NumPy zero": np.int64(0)},
            0.1),
               "layer": ({"X": "X"}, None), "use_raw": ({"False": False, "NumPy": np.False_},
                   None)},
    }  # fmt: skip
    for function, settings in answered.items():
        for setting, (values, plain) in settings.items():
            for name, value in values.items():
                yield Case("question", f"{function.__name__}: {setting} as {name}",
                    lambda bench: bench.adata,
                           partial(function, **{setting: value}), same(function,
                               **{setting: plain}))  # fmt: skip
    for name, value in {"a dict": {}, "text": "x", "number": 3, "list": [], "None": None,
                        "a class": {"a": GroupedCounts}, "texts": {"a": "b"}}.items():  # fmt: skip
        yield Case("question", f"compare: models={name}", lambda bench: bench.adata,
                   partial(compare, models=value), None, "model")  # fmt: skip
    yield Case("question", "compare: no cells", lambda bench: None,
               partial(compare, models=lambda bench: {"a": bench.mgvi}), None, "adata")  # fmt: skip
    yield Case("question", "write_latents twice", lambda bench: bench.adata,
               lambda bench, adata: (written(bench, adata), written(bench, adata))[1],
               lambda bench: written(bench, bench.adata), writes=True)  # fmt: skip
    for name, note in {"text": "x", "None": None, "list": [1], "number": 3, "dict": {"latents": 3},
                       "dict of None": {"latents": None},
                           "table": pd.DataFrame({"a": [1]})}.items():  # fmt: skip

        def noted(bench, note=note):
            adata = bench.adata
            adata.uns["mgvi"] = note
            return adata

        yield Case("question", f"write_latents over uns of {name}", noted, written,
                   lambda bench: written(bench, bench.adata), writes=True)  # fmt: skip
    swapped = {
        "held_out": criticism.held_out, "predictive_checks": criticism.predictive_checks,
        "to_arviz": criticism.to_arviz, "rank_genes": lambda m, x: analysis.rank_genes(m, x, "a"),
        "diagnose": analysis.diagnose, "cross_fit": analysis.cross_fit,
        "differential_expression": lambda m, x: analysis.differential_expression(m, x, "a", "b"),
        "expression_draws": analysis.expression_draws,
        "normalized_expression": analysis.normalized_expression,
        "latents": analysis.latents, "write_latents": analysis.write_latents,
    }  # fmt: skip
    for name, function in swapped.items():
        yield Case("question", f"{name}: arguments swapped", lambda bench: bench.adata,
                   lambda bench, adata, f=function: f(adata, bench.mgvi), None, "MGVI")  # fmt: skip


LATENT = np.random.default_rng(0).normal(size=(N, 3))
NO_LATENT = {
    "None": None, "text": "z", "number": 3, "one-dimensional": LATENT[:, 0],
    "texts": LATENT.astype(str),
    "objects": LATENT.astype(object), "inf": np.where(LATENT > 2, np.inf, LATENT) + np.inf,
    "empty": [],
    "no dims": LATENT[:, :0], "no cells": LATENT[:0], "all nan": LATENT * np.nan, "ragged": [[1.0],
    [1.0, 2.0]],
    "complex": LATENT.astype(complex), "three dimensions": LATENT[:, :, None], "dict": {"a": 1},
}  # fmt: skip
NO_LABELS = {
    "None": None, "number": 3, "short": ["a"] * 3, "one label": ["a"] * N, "empty": [],
    "table": pd.DataFrame({"a": TYPES}),
    "two-dimensional": np.ones((N, 2)), "all missing": [None] * N, "all nan": np.full(N, np.nan),
    "text": "celltype",
    "ragged": [["a"], ["b", "c"]], "dict": {"a": 1}, "object": object(),
}  # fmt: skip
LABELS = {
    "object": TYPES.astype(object), "categorical": pd.Categorical(TYPES), "list": TYPES.tolist(),
    "Series": pd.Series(TYPES), "Series of names": pd.Series(TYPES, NAMES),
    "index": pd.Index(TYPES),
    "unused": pd.Categorical(TYPES, ["T1", "T2", "T3"]), "string": pd.array(TYPES, "string"),
    "truths": TYPES == "T2", "integers": (TYPES == "T2").astype(int), "tuple": tuple(TYPES),
    "bytes": TYPES.astype(bytes), "boolean": pd.array(TYPES == "T2", "boolean"),
    "floats": (TYPES == "T2") * 0.5,
}  # fmt: skip
DRESSES = {
    "float32": LATENT.astype("float32"), "Fortran": np.asfortranarray(LATENT),
    "list": LATENT.tolist(),
    "table": pd.DataFrame(LATENT), "big-endian": LATENT.astype(">f8"),
    "with nan rows": np.vstack([LATENT, np.full((4, 3), np.nan)]),
}  # fmt: skip


def plain_score(function, bench):
    return bench.once(function, lambda: function(LATENT, TYPES))


def scores():
    functions = {
        "kmeans_ari": metrics.kmeans_ari,
        "silhouette": metrics.silhouette,
        "probe": metrics.probe,
    }
    for name, function in functions.items():
        for what, value in NO_LATENT.items():
            yield Case("score", f"{name}: latent {what}", lambda bench, v=value: v,
                       lambda bench, x, f=function: f(x, TYPES), None,
                           "latent|label|cell")  # fmt: skip
        for what, value in NO_LABELS.items():
            yield Case("score", f"{name}: labels {what}", lambda bench, v=value: v,
                       lambda bench, x, f=function: f(LATENT, x), None, "label")  # fmt: skip
        for what, value in LABELS.items():
            yield Case("score", f"{name}: labels as {what}", lambda bench, v=value: v,
                       lambda bench, x, f=function: f(LATENT, x),
                       partial(plain_score, function))  # fmt: skip
        for what, value in DRESSES.items():
            labels = np.resize(TYPES, len(value))
            yield Case("score", f"{name}: latent as {what}", lambda bench, v=value: v,
                       lambda bench, x, f=function, y=labels: f(x, y),
                       partial(plain_score, function))  # fmt: skip
        for size in (1e30, 1e150, 1e-30):
            yield Case("score", f"{name}: latent times {size:g}", lambda bench, s=size: LATENT * s,
                       lambda bench, x, f=function: f(x, TYPES),
                       partial(plain_score, function))  # fmt: skip
    for what, value in NO_LATENT.items():
        yield Case("score", f"active_units: latent {what}", lambda bench, v=value: v,
                   lambda bench, x: metrics.active_units(x), None, "latent|cell")  # fmt: skip
        yield Case("score", f"linear_cka: latent {what}", lambda bench, v=value: v,
                   lambda bench, x: metrics.linear_cka(x, LATENT), None, "latent|cell")  # fmt: skip
    for size in (1e30, 1e150, 1e300, 1e-30, 1e-200):
        yield Case("score", f"linear_cka: latent times {size:g}", lambda bench, s=size: LATENT * s,
                   lambda bench, x: metrics.linear_cka(x, LATENT), lambda bench: 1.0)  # fmt: skip
    for what, value in (SOME_WHOLE | {"one": 1}).items():
        yield Case("score", f"probe: folds={what}", lambda bench: None,
                   lambda bench, _, v=value: metrics.probe(LATENT, TYPES, folds=v), None,
                       "folds")  # fmt: skip
    for what, value in NO_SEED.items():
        yield Case("score", f"kmeans_ari: seed={what}", lambda bench: None,
                   lambda bench, _, v=value: metrics.kmeans_ari(LATENT, TYPES, seed=v), None,
                       "seed")  # fmt: skip
    for seed in (2**32, 2**62):
        yield Case("score", f"kmeans_ari: seed={seed}", lambda bench: None,
                   lambda bench, _, s=seed: metrics.kmeans_ari(LATENT, TYPES, seed=s) >= -1,
                   lambda bench: True)  # fmt: skip
    for what, value in NO_NUMBERS.items():
        if what not in ("minus one", "NumPy minus one"):
            yield Case("score", f"active_units: threshold={what}", lambda bench: None,
                       lambda bench, _, v=value: metrics.active_units(LATENT, threshold=v), None,
                       "threshold")  # fmt: skip


CASES = [*refused(), *right(), *scores()]
