"""Settings of models and trainings: each wrong value is refused by the name of its setting."""

from dataclasses import fields, replace
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import torch

import pyro_mgvi
from fuzz.bench import BRIEF, FULL, LATENTS, untrained
from fuzz.judge import Case
from pyro_mgvi import (
    MGVI,
    NB,
    PAPER,
    JointDecoder,
    Latent,
    SearchSettings,
    SharedTrunk,
    TrainingPlan,
    pairwise,
    private,
    shared,
    subsets,
)

#: What is no number at all.
NO_NUMBERS = {
    "None": None,
    "text": "3",
    "empty text": "",
    "list": [3],
    "tuple": (3,),
    "dict": {"a": 3},
    "object": object(),
    "class": int,
    "bytes": b"3",
    "complex": 3 + 0j,
    "True": True,
    "False": False,
    "NumPy True": np.True_,
    "nan": float("nan"),
    "inf": float("inf"),
    "minus inf": -float("inf"),
    "NumPy nan": np.float32("nan"),
    "minus one": -1,
    "NumPy minus one": np.int8(-1),
    "array": np.array([3, 4]),
    "tensor": torch.ones(3),
}
SOME_NUMBERS = {
    k: NO_NUMBERS[k] for k in ("None", "text", "list", "True", "nan", "inf", "minus one")
}
NO_WHOLE = {"a half": 2.5, "NumPy half": np.float32(2.5), "1e300": 1e300, "10**40": 10**40}
NO_FLAGS = {
    "text": "no",
    "empty text": "",
    "zero": 0,
    "one": 1,
    "float": 1.0,
    "list": [],
    "array": np.array([True, False]),
    "object": object(),
    "nan": float("nan"),
}


def dresses(value):
    """Return a whole number in each of its dresses."""
    return {
        "int": int(value),
        "float": float(value),
        **{kind: np.dtype(kind).type(value) for kind in ("int8", "uint8", "int64", "float32")},
        "fraction": Fraction(value),
    }


#: Whole-numbered fields of a plan with their least value, and those that may be None.
WHOLE = {"max_epochs": 1, "batch_size": 2, "patience": 1, "seed": 0}
OPTIONAL = {"max_epochs", "patience", "seed", "search", "compiled"}
NUMBERS = {"learning_rate": "above 0", "validation_fraction": 0, "hurry": 1, "prune_below": 0}


def plan_of(kind, bench, change):
    return kind(**change)


def of_fields(kind, title):
    for field in fields(kind):
        default = field.default
        if field.name == "search":
            bad = {k: v for k, v in NO_NUMBERS.items() if v is not None}
        elif isinstance(default, bool) or field.name == "compiled":
            bad = dict(NO_FLAGS)
            if field.name not in OPTIONAL:
                bad["None"] = None
        else:
            whole = field.name in WHOLE or isinstance(default, int)
            bad = NO_NUMBERS | (NO_WHOLE if whole else {"10**400": 10**400})
            if field.name in OPTIONAL:
                bad = {k: v for k, v in bad.items() if v is not None}
            for name, value in dresses(5).items() if field.name != "validation_fraction" else ():
                yield Case(title, f"{field.name}={name} 5", lambda bench: None,
                           lambda bench, _, n=field.name, v=value: kind(**{n: v}),
                           lambda bench, n=field.name: kind(**{n: 5}))  # fmt: skip
        if kind is SearchSettings:  # the same rules as of the plan: some of the values, in turn
            start = len(bad) * fields(kind).index(field) // len(fields(kind))
            bad = dict([*bad.items(), *bad.items()][start : start + 7])
        for name, value in bad.items():
            yield Case(title, f"{field.name}={name}", lambda bench: None,
                       lambda bench, _, n=field.name, v=value: kind(**{n: v}),
                       None, field.name)  # fmt: skip


def build(bench, adata, **settings):
    return untrained(adata, **settings)


def of_model():
    """Yield the settings of a model, each with what is wrong and what is right but unusual."""
    numbers = NO_NUMBERS | NO_WHOLE
    bad = {
        "seed": numbers,
        "foreign_sample": {k: v for k, v in numbers.items() if v is not None} | {"zero": 0},
        "observed_library": NO_FLAGS | {"None": None},
        "drop_empty": NO_FLAGS | {"None": None},
        "use_raw": NO_FLAGS | {"None": None, "True": True},
        "round_counts": NO_FLAGS | {"None": None},
        "own_weight": {
            **{k: v for k, v in NO_NUMBERS.items() if v is not None and k not in ("dict",)},
            "10**400": 10**400,
            "Decimal": Decimal(1),
            "of another latent": {"u": 1.0},
            "of none": {None: 1.0},
            "of mixed": {None: 1.0, 3: 1.0, "t": 1.0},
            "text for t": {"t": "1"},
            "list for t": {"t": [1.0]},
            "nan for t": {"t": float("nan")},
            "minus for t": {"t": -1},
            "list of numbers": [1.0, 2.0],
        },
        "layer": {
            "another": "counts",
            "empty": "",
            "number": 3,
            "list": ["X"],
            "bytes": b"X",
            "True": True,
            "False": False,
            "dict": {},
            "nan": float("nan"),
            "array": np.array(["X"]),
            "slice": slice(1),
        },
        "batch_key": {
            "another": "plate",
            "empty": "",
            "number": 3,
            "list": ["donor"],
            "tuple": ("donor",),
            "bytes": b"donor",
            "True": True,
            "False": False,
            "dict": {},
            "nan": float("nan"),
            "array": np.array(["donor"]),
            "set": {"donor"},
            "slice": slice(1),
            "object": object(),
            "the group": "group",
            "a column": np.arange(36),
        },
        "covariate_keys": {
            "text": "age",
            "None": None,
            "number": 3,
            "another": ["plate"],
            "nested": [["age"]],
            "None in it": [None],
            "the group": ["group"],
            "twice": ["age", "age"],
            "bytes": b"age",
            "True": True,
            "number in it": [3],
            "dict in it": [{}],
            "slice in it": [slice(1)],
            "nan in it": [float("nan")],
            "array in it": [np.array(["age"])],
        },
        "latents": {
            "None": None,
            "number": 3,
            "empty": (),
            "empty text": "",
            "class": Latent,
            "function": shared,
            "number in it": [3],
            "None in it": [None],
            "nested": [[shared(2)]],
            "text": "ten",
            "no dims": "z",
            "zero dims": "z:0",
            "minus": "z:-1",
            "fraction": "z:2.5",
            "many": "z:99999999",
            "twice": ["z:2", "z:3"],
            "unknown": "u:3",
            "bytes": b"z:3",
            "bytes in it": [b"z:3"],
            "lung": "few=lung:2",
            "no group": "few=:2",
            "half a pair": "few=a+:2",
            "group twice": "few=a+a:2",
            "subset twice": "few=a,a:2",
            "spaces": "z : 3",
            "comma": "z:3,t:2",
            "Arabic digits": "z:\N{ARABIC-INDIC DIGIT THREE}",
            "dict": {"z": 3},
            "array": np.array([3]),
        },
        "encoder": {"None": None, "text": "SharedTrunk", "number": 3, "object": object()},
        "decoder": {"None": None, "text": "JointDecoder", "number": 3, "object": object()},
        "likelihood": {"None": None, "text": "nb", "number": 3, "object": object()},
    }
    for setting, values in bad.items():
        says = {"latents": "latent|groups? named", "use_raw": "use_raw|raw"}.get(setting, setting)
        for name, value in values.items():
            yield Case("setting of a model", f"{setting}={name}", lambda bench: bench.adata,
                       partial(build, **{setting: value}), None, says)  # fmt: skip
    built = {
        "other class": {"encoder": JointDecoder},
        "other role": {"decoder": SharedTrunk},
        "a likelihood as encoder": {"encoder": NB},
        "an encoder as likelihood": {"likelihood": SharedTrunk},
        "a type": {"encoder": int},
        "a function": {"decoder": lambda latents, initial, n_outputs: None},
        "unknown setting": {"decoder": partial(JointDecoder, widht=3)},
        "hidden as text": {"decoder": partial(JointDecoder, hidden="3")},
        "hidden minus": {"decoder": partial(JointDecoder, hidden=-3)},
        "hidden None": {"decoder": partial(JointDecoder, hidden=None)},
        "hidden a half": {"decoder": partial(JointDecoder, hidden=2.5)},
        "width as text": {"encoder": partial(SharedTrunk, width="3")},
        "sparsity as text": {"decoder": partial(JointDecoder, sparsity="much")},
        "sparsity minus": {"decoder": partial(JointDecoder, sparsity=-1.0)},
        "sparsity nan": {"decoder": partial(JointDecoder, sparsity=float("nan"))},
        "an object": {"likelihood": NB(pyro_mgvi.InitialValues.blank(2, 2))},
    }
    for name, settings in built.items():
        (role,) = settings
        yield Case("setting of a model", f"{role}: {name}", lambda bench: bench.adata,
                   partial(build, **settings), None,
                   "(?i)encoder|decoder|likelihood|SharedTrunk")  # fmt: skip
    groups = {
        "None": None, "another": "region", "number": 3, "list": [["group"]], "no column": (),
        "twice": ("group", "group"), "bytes": b"group", "dict": {}, "set": {"group"},
        "array": np.array(["group"]), "nan": float("nan"),
        "True": True, "slice": slice(1), "object": object(), "empty": "", "a column": np.arange(36),
        "upper case": "Group", "with a space": "group ",
    }  # fmt: skip
    for name, value in groups.items():
        yield Case("setting of a model", f"group_key={name}", lambda bench: bench.adata,
                   partial(build, group_key=value), None, "group_key")  # fmt: skip
    right = {
        "group_key": ({"list": ["group"], "tuple": ("group",)}, "group"),
        "seed": ({k: v for k, v in dresses(0).items()}, 0),
        "foreign_sample": (dresses(2), 2),
        "observed_library": ({"NumPy": np.True_}, True),
        "drop_empty": ({"NumPy": np.True_}, True),
        "round_counts": ({"NumPy": np.True_}, True),
        "own_weight": (dresses(2) | {"a dict": {"z": 2, "t": 2.0}}, 2.0),
        "covariate_keys": (
            {
                "tuple": ("age", "celltype"),
                "generator": (x for x in ["age", "celltype"]),
                "index": np.array(["age", "celltype"]),
                "dict": {"age": 1, "celltype": 2},
            },
            ["age", "celltype"],
        ),
        "latents": (
            {
                "list": list(LATENTS),
                "texts": ["z:2", "t:1"],
                "generator": (x for x in LATENTS),
                "text and latent": ("z:2", private(1)),
                "NumPy dims": (shared(np.int64(2)), private(np.float32(1))),
                "array": np.array(["z:2", "t:1"]),
            },
            LATENTS,
        ),
        "batch_key": ({"NumPy text": np.str_("donor")}, "donor"),
        "layer": ({"X": "X"}, None),
    }
    for setting, (values, plain) in right.items():
        for name, value in values.items():
            yield Case("setting of a model", f"{setting} as {name}", lambda bench: bench.adata,
                       partial(build, **{setting: value}),
                       lambda bench, s=setting, v=plain: untrained(bench.adata,
                           **{s: v}))  # fmt: skip


def of_latents():
    dims = {k: v for k, v in (NO_NUMBERS | NO_WHOLE).items() if k != "True"} | {"zero": 0}
    for make in (shared, private, pairwise):
        for name, value in dims.items():
            yield Case("latent", f"{make.__name__}({name})", lambda bench: None,
                       lambda bench, _, m=make, v=value: m(v), None, "dim|name")  # fmt: skip
    names = {"number": 3, "empty": "", "space": "a b", "slash": "a/b",
        "keyword": "counts",
             "library": "library", "list": ["z"], "bytes": b"z", "digit": "1z"}  # fmt: skip
    for name, value in names.items():
        yield Case("latent", f"name={name}", lambda bench: None,
                   lambda bench, _, v=value: shared(2, name=v), None, "latent name")  # fmt: skip
    for name, value in {"text": "Normal", "number": 1.0, "class": torch.distributions.Normal,
                        "vector": pyro_mgvi.Dirac()}.items():  # fmt: skip
        yield Case("latent", f"prior={name}", lambda bench: None,
                   lambda bench, _, v=value: shared(2, prior=v), None, "prior")  # fmt: skip
    for name, value in {"text": "Dirac", "number": 0, "None": None, "list": []}.items():
        yield Case("latent", f"foreign={name}", lambda bench: bench.adata,
                   lambda bench, adata, v=value: untrained(adata, latents=private(2, foreign=v)),
                   None, "foreign")  # fmt: skip
    groups = {
        "text": "ab", "number": 3, "None": None, "texts": ["a", "b"], "numbers": [[1]], "empty": [],
        "empty subset": [[]], "unknown": [["lung"]], "twice": [["a", "a"]], "subset twice": [["a"],
        ["a"]],
        "nested": [[["a"]]], "dict of texts": {"x": "a"}, "None in it": [None],
            "None in a subset": [[None]],
    }  # fmt: skip
    for name, value in groups.items():
        yield Case("latent", f"subsets of {name}", lambda bench: bench.adata,
                   lambda bench, adata, v=value: untrained(adata, latents=subsets("few", v, 2)),
                   None, "few")  # fmt: skip


def fit(bench, adata, **settings):
    mgvi = untrained(adata)
    settings = {"plan": BRIEF, "progress": False} | settings
    mgvi.fit(adata, **settings)
    return mgvi


def of_fit():
    bad = {
        "plan": {"text": "plan", "number": 3, "dict": {"max_epochs": 1}, "class": TrainingPlan,
                 "search": SearchSettings(), "preset": PAPER, "list": [BRIEF]},
        "max_epochs": {k: v for k, v in (NO_NUMBERS | NO_WHOLE).items() if v is not None},
        "accelerator": {"None": None, "empty": "", "number": 3, "unknown": "abacus",
            "no number": "cpu:x",
                        "list": ["cpu"], "bytes": b"cpu", "minus": "cuda:-1", "far": "cuda:999",
                        "device": torch.device("cpu"), "True": True},
        "checkpoint": {"number": 3, "list": ["x"], "bytes": b"x", "True": True, "empty": "",
            "NUL": "a\0b",
                       "long": "x" * 400, "dict": {}},
        "resume": {"text": "no", "None": None, "number": 0, "list": []},
    }  # fmt: skip
    for setting, values in bad.items():
        for name, value in values.items():
            if setting == "resume":
                call = partial(checkpointed, resume=value)
            else:
                call = partial(fit, **{setting: value})
            yield Case(
                "training", f"{setting}={name}", lambda bench: bench.adata, call, None, setting
            )
    for name, value in dresses(1).items():
        yield Case("training", f"max_epochs as {name}", lambda bench: bench.adata,
                   partial(fit, max_epochs=value), lambda bench: fitted_once(bench))  # fmt: skip
    for name, change in {
        "huge seed": {"seed": 2**62},
        "batch of all": {"batch_size": 10**9},
    }.items():
        plan = replace(BRIEF, **change)
        yield Case("training", name, lambda bench: bench.adata,
                   lambda bench, adata, p=plan: len(fit(bench, adata, plan=p).history),
                   lambda bench: 1)  # fmt: skip
    search = SearchSettings(epoch=1, least_cells=4, clusters=2)
    for seed in (2**32, 2**40, 2**62):
        plan = TrainingPlan(max_epochs=2, search=search, batch_size=16, seed=seed)
        yield Case("training", f"search with seed {seed}", lambda bench: bench.adata,
                   lambda bench, adata, p=plan: len(fit(bench, adata, plan=p).history),
                   lambda bench: 2)  # fmt: skip
    given = {"None": None, "text": "cells.h5ad", "path": Path("cells.h5ad"), "array": np.ones((36,
        14)),
             "number": 3, "list": [], "class": MGVI}  # fmt: skip
    for name, value in given.items():
        for what, call in {
            "from_anndata": lambda bench, x: untrained(x),
            "fit": lambda bench, x: bench.mgvi.fit(x, BRIEF, progress=False),
            "latents": lambda bench, x: bench.mgvi.latents(x),
            "write_latents": lambda bench, x: bench.mgvi.write_latents(x),
            "add_group": lambda bench, x: bench.mgvi.add_group(x, BRIEF, progress=False),
            "rank_genes": lambda bench, x: bench.mgvi.rank_genes(x, "a", calibration=False),
            "training_setup": lambda bench, x: bench.mgvi.training_setup(x),
            "diagnose": lambda bench, x: bench.mgvi.diagnose(x, progress=False),
        }.items():
            yield Case(
                "no AnnData",
                f"{what}({name})",
                lambda bench, v=value: v,
                call,
                None,
                "not an AnnData",
            )
    for name, value in {
        "None": None,
        "text": "x",
        "a model": MGVI,
        "a table": np.ones((3, 3)),
    }.items():
        yield Case("no AnnData", f"from_counts({name})", lambda bench, v=value: v,
                   lambda bench, x: MGVI.from_counts(x), None, "GroupedCounts")  # fmt: skip


def checkpointed(bench, adata, resume):
    mgvi = untrained(adata)
    mgvi.fit(adata, BRIEF, progress=False, checkpoint=bench.folder / "state", resume=resume)


def fitted_once(bench):
    return bench.once("fitted", lambda: fit(bench, bench.adata))


def presets():
    yield Case("setting of a model", "PAPER", lambda bench: bench.adata,
               lambda bench, adata: untrained(adata, **PAPER.settings).own_weight,
               lambda bench: {"z": 1.0, "t": 1.0})  # fmt: skip
    yield Case("setting of a model", "FULL", lambda bench: bench.adata, partial(build, **FULL),
               lambda bench: untrained(bench.adata, **FULL))  # fmt: skip


CASES = [
    *of_fields(TrainingPlan, "training plan"),
    *of_fields(SearchSettings, "search settings"),
    *of_model(),
    *of_latents(),
    *of_fit(),
    *presets(),
]
