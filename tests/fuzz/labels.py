"""Labels of cells, and names of cells and genes: as people write them, and as they should not."""

from dataclasses import dataclass
from functools import partial
from itertools import product

import anndata as ad
import numpy as np
import pandas as pd

from fuzz.bench import BRIEF, FULL, GROUPS, G, N, untrained
from fuzz.judge import Case
from pyro_mgvi import MGVI, GroupedCounts, Latents, private, shared, subsets
from pyro_mgvi.cli.files import read_cells
from pyro_mgvi.cli.outputs import write_cells
from pyro_mgvi.core.latents.text import as_text


def told(data):
    """Return what was read of the labels, by name."""
    schema, start = data.schema, len(data.schema.batches) * (data.schema.batch_key is not None)
    found = {
        "group": [schema.groups[i] for i in data.group_n],
        "batch": [schema.batches[i] for i in data.batch_n],
    }
    for key, levels in schema.categories.items():
        columns = data.covariate_nc[:, start : start + len(levels)]
        found[key] = [levels[i] for i in columns.argmax(1)]
        start += len(levels)
    for key in schema.moments:
        found[key] = data.covariate_nc[:, start]
        start += 1
    return dict(sorted(found.items()))


def read(bench, adata):
    return told(GroupedCounts.from_anndata(adata, "group", **FULL))


def known(bench, adata):
    return bench.full.latents(adata)


READERS = {"new": read, "known": known}


def canonical(reader, bench):
    return bench.once(("labels", reader), lambda: READERS[reader](bench, bench.adata))


def with_column(key, make, bench):
    adata = bench.adata
    adata.obs[key] = make(adata.obs[key])
    return adata


def objects(column):
    return pd.Series([*column], column.index, dtype=object)


def from_code(column, **kwargs):
    return pd.Categorical(column, **kwargs)


#: Texts in every dress that pandas has for them.
TEXTS = {
    "object": objects,
    "string": lambda c: c.astype("string"),
    "string of Python": lambda c: c.astype("string[python]"),
    "string of Arrow": lambda c: c.astype("string[pyarrow]"),
    "Arrow text": lambda c: c.astype(pd.ArrowDtype(__import__("pyarrow").string())),
    "categorical": lambda c: c.astype("category"),
    "ordered": lambda c: pd.Categorical(c, sorted(set(c)), ordered=True),
    "unused categories": lambda c: pd.Categorical(c, [*sorted(set(c)), "zz", "never"]),
    "unused first": lambda c: pd.Categorical(c, ["0", *sorted(set(c))]),
    "categorical of string": lambda c: c.astype("string").astype("category"),
    "NumPy text": lambda c: np.array([*c], dtype="U9"),
    "NumPy scalars": lambda c: pd.Series(list(map(np.str_, c)), c.index, dtype=object),
    "list": list,
    "bytes": lambda c: pd.Series([x.encode() for x in c], c.index, dtype=object),
    "categorical of bytes": lambda c: pd.Categorical([x.encode() for x in c]),
}
NUMBERS = {
    "float32": lambda c: c.astype("float64").astype("float32").astype("float64"),
    "Float64": lambda c: c.astype("Float64"),
    "objects": objects,
    "Sparse": lambda c: pd.arrays.SparseArray(c),
    "NumPy scalars": lambda c: pd.Series(list(map(np.float64, c)), c.index, dtype=object),
    "Arrow": lambda c: c.astype(pd.ArrowDtype(__import__("pyarrow").float64())),
}


def dresses():
    keys = {"group": TEXTS, "donor": TEXTS, "celltype": TEXTS, "age": NUMBERS}
    for key, forms in keys.items():
        for (form, make), reader in product(forms.items(), READERS):
            is_bytes = "bytes" in form
            yield Case(
                "form of labels",
                f"{key} as {form}, {reader}",
                partial(with_column, key, make),
                READERS[reader],
                None if is_bytes else partial(canonical, reader),
                f"'{key}'.*bytes" if is_bytes else None,
            )


def hole(value, dtype=None):
    def make(column):
        values = pd.Series([*column], column.index, dtype=object)
        values.iloc[5] = value
        return values if dtype is None else values.astype(dtype)

    return make


HOLES = {
    "None": hole(None),
    "nan": hole(np.nan),
    "NA": hole(pd.NA),
    "NaT": hole(pd.NaT),
    "NA in string": hole(pd.NA, "string"),
    "nan in categorical": hole(np.nan, "category"),
}
NO_NUMBERS = {
    "nan": hole(np.nan, "float64"),
    "inf": hole(np.inf, "float64"),
    "minus inf": hole(-np.inf, "float64"),
    "NA in Float64": hole(pd.NA, "Float64"),
    "None": hole(None),
    "complex": lambda c: c.astype(complex) + 1j,
    "lists": lambda c: pd.Series([[x] for x in c], c.index),
}
NO_LABELS = {
    "lists": lambda c: pd.Series([[x] for x in c], c.index),
    "dicts": lambda c: pd.Series([{x: 1} for x in c], c.index),
    "sets": lambda c: pd.Series([{x} for x in c], c.index),
    "arrays": lambda c: pd.Series([np.array([1, 2]) for _ in c], c.index),
    "alike as text": lambda c: pd.Series([1, "1"] * (N // 2), c.index, dtype=object),
    "one level": lambda c: "a",
    "one level and unused ones": lambda c: pd.Categorical(["a"] * N, ["a", "b"]),
}


def bad_columns():
    for (name, make), key in product(HOLES.items(), ("group", "donor", "celltype")):
        for reader in READERS:
            given = partial(with_column, key, make)
            yield Case("missing label", f"{key}, {name}, {reader}", given, READERS[reader], None,
                       f"'{key}'.*cell5")  # fmt: skip
    for (name, make), reader in product(NO_NUMBERS.items(), READERS):
        given = partial(with_column, "age", make)
        yield Case("missing label", f"age, {name}, {reader}", given, READERS[reader], None, "'age'")
    for (name, make), key in product(NO_LABELS.items(), ("group", "donor", "celltype")):
        given = partial(with_column, key, make)
        yield Case("no labels", f"{key}, {name}", given, read, None, f"'{key}'")
    for (name, make), key in product(NO_LABELS.items(), ("group", "donor", "celltype")):
        if "level" in name and key == "group":
            continue  # one group alone is right for a model that knows it
        given = partial(with_column, key, make)
        one = name.startswith("one level")
        yield Case("no labels", f"{key}, {name}, known", given, known, None,
                   f"'{key}'.*unknown.*a" if one else f"'{key}'")  # fmt: skip
    for key in ("group", "donor", "celltype", "age"):

        def without(bench, key=key):
            adata = bench.adata
            del adata.obs[key]
            return adata

        def twice(bench, key=key):
            adata = bench.adata
            adata.obs = pd.concat([adata.obs, adata.obs[[key]]], axis=1)
            return adata

        def in_var(bench, key=key):
            adata = without(bench, key)
            adata.var[key] = np.arange(G)
            return adata

        def in_index(bench, key=key):
            adata = without(bench, key)
            adata.obs.index.name = key
            return adata

        def renamed(bench, key=key):
            adata = bench.adata
            adata.obs = adata.obs.rename(columns={key: key.upper()})
            return adata

        makes = {"missing": without, "twice": twice, "in var": in_var, "index": in_index,
                 "upper case": renamed}  # fmt: skip
        for (name, given), reader in product(makes.items(), READERS):
            yield Case(
                "column", f"{key} {name}, {reader}", given, READERS[reader], None, f"'{key}'"
            )


#: Three levels that people have, in their order as labels.
LEVELS = {
    "integers": (1, 2, 3),
    "negative": (-2, -1, 7),
    "floats": (0.5, 1.0, 2.5),
    "large floats": (1e20, 2e20, 3e20),
    "NumPy integers": tuple(np.array([1, 2, 3], "uint8")),
    "dates": tuple(pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-03"])),
    "spans": tuple(pd.to_timedelta([1, 2, 3], "D")),
    "tuples": (("a", 1), ("a", 2), ("b", 1)),
    "intervals": tuple(pd.interval_range(0, 3)),
    "mixed": (1, 2.5, "a"),
    "empty text": ("", "a", "b"),
    "spaces": (" ", "a", "a "),
    "umlauts": ("Darm ä", "Darm ö", "日本"),
    "emoji": ("a", "b", "\N{DNA DOUBLE HELIX}"),
    "slash": ("CD4/CD8", "T/NK", "x"),
    "backslash": ("a\\", "b\\n", "c"),
    "plus": ("CD4+", "CD8+", "x"),
    "comma": ("a,b", "c", "d"),
    "colon": ("a:b", "c", "d:5"),
    "equals": ("a=b", "c", "d=e=f"),
    "all of them": (",:", "\\+", "a+b,c:d=e\\/"),
    "dots": (".", "..", "x"),
    "quotes": ('"', "'", "`"),
    "markup": ("$x$ <script>", "<b>A&B", "plain"),
    "braces": ("%s", "{0}", "{a}"),
    "line breaks": ("a\tb", "a\nb", "x"),
    "nan as text": ("NaN", "nan", "none"),
    "None as text": ("None", "null", "x"),
    "long": ("a" * 300, "b" * 300, "c" * 300),
    "names of latents": ("library", "t", "z"),
    "names of keys": ("copies", "group", "shared"),
    "truth as text": ("False", "True", "x"),
    "digits": ("01", "1", "1.0"),
    "underscores": ("_", "__a", "a_"),
}


#: What is refused of them, and what is said.
REFUSED = {"empty text": "'group'.*empty text.*cell0", "names of keys": "t_copies"}


def relabelled(levels, bench):
    adata = bench.adata
    values = np.empty(N, object)
    values[:] = [levels["abc".index(group)] for group in GROUPS]
    adata.obs["group"] = pd.Series(values, adata.obs_names, dtype=object).infer_objects()
    return adata


def latents_of(groups):
    """Return latents of each kind for three groups; a name of a copy has signs in it, too."""
    named = {"one/": groups[:1], "a+b, c=:\\": groups[1:]}
    return (shared(2), private(1), subsets("part", [groups[:2]], 1), subsets("named", named, 1))


def journey(levels, bench, adata):
    """Return latents after building, saving, loading, writing to a file and reading that."""
    names = [str(level) for level in levels]
    mgvi = untrained(adata, latents=latents_of(names))
    mgvi.save(bench.folder / "model")
    loaded = MGVI.load(bench.folder / "model")
    texts = [as_text(latent, mgvi.schema.groups) for latent in mgvi.families]
    assert Latents(texts, mgvi.schema.groups).copies == mgvi.families.copies
    written = adata.copy()
    loaded.write_latents(written)
    written.obs = written.obs[["donor"]]  # not every kind of label can be written
    write_cells(written, bench.folder / "out.h5ad")
    back = read_cells(bench.folder / "out.h5ad")
    assert len(mgvi.rank_genes(adata, levels[0], calibration=False)) == G
    at = {copy.key: copy.groups for copy in mgvi.families.copies}
    assert at["z"] == mgvi.schema.groups
    return [back.obsm[f"X_mgvi_{copy.key}"] for copy in mgvi.families.copies]


def canonical_journey(bench):
    def answer():
        mgvi = untrained(bench.adata, latents=latents_of(["a", "b", "c"]))
        return [table.to_numpy() for table in mgvi.latents(bench.adata).values()]

    return bench.once("journey", answer)


def names_of_groups():
    for name, levels in LEVELS.items():
        says = REFUSED.get(name)
        yield Case(
            "names of groups",
            name,
            partial(relabelled, levels),
            partial(journey, levels),
            canonical_journey if says is None else None,
            says,
        )


def with_names(axis, make, bench):
    adata = bench.adata
    names = make(list(getattr(adata, f"{axis}_names")))
    getattr(adata, axis).index = pd.Index(names)
    return adata


def values(reader):
    """Return what a reader says, without the names of cells."""

    def read_values(bench, adata):
        found = READERS[reader](bench, adata)
        return {k: np.asarray(v) for k, v in found.items()}

    return read_values


CELL_NAMES = {
    "all the same": lambda names: ["cell"] * N,
    "some twice": lambda names: [names[i // 2] for i in range(N)],
    "numbers": lambda names: range(N),
    "floats": lambda names: np.arange(N) / 2,
    "empty": lambda names: [""] * N,
    "categorical": lambda names: pd.CategoricalIndex(names),
    "string": lambda names: pd.array(names, "string"),
    "slashes": lambda names: [f"{name}/1" for name in names],
    "tuples": lambda names: pd.MultiIndex.from_product([["a", "b"], range(N // 2)]),
    "missing": lambda names: [None, *names[1:]],
}
GENE_NAMES = {
    "categorical": lambda names: pd.CategoricalIndex(names),
    "string": lambda names: pd.array(names, "string"),
    "NumPy text": lambda names: np.array(names),
    "objects": lambda names: np.array(names, object),
}
OTHER_GENES = {
    "numbers": lambda names: range(G),
    "symbols": lambda names: [f"S{i}" for i in range(G)],
    "Ensembl": lambda names: [f"ENSG{i:011d}" for i in range(G)],
    "upper case": lambda names: [name.upper() for name in names],
    "with versions": lambda names: [f"{name}.3" for name in names],
    "with spaces": lambda names: [f" {name} " for name in names],
    "one twice": lambda names: [*names[:-1], names[0]],
    "all the same": lambda names: ["gene0"] * G,
    "two others": lambda names: ["x", "y", *names[2:]],
    "missing": lambda names: [None, None, *names[2:]],
    "tuples": lambda names: pd.MultiIndex.from_product([["gene0", "b"], range(G // 2)]),
}


TWICE = ("one twice", "all the same")


def names():
    for (name, make), reader in product(CELL_NAMES.items(), READERS):

        def equals(bench, reader=reader):
            return values(reader)(bench, bench.adata)

        given = partial(with_names, "obs", make)
        yield Case("names of cells", f"{name}, {reader}", given, values(reader), equals)
    for (name, make), reader in product(GENE_NAMES.items(), READERS):
        given = partial(with_names, "var", make)
        yield Case("names of genes", f"{name}, {reader}", given, READERS[reader],
                   partial(canonical, reader))  # fmt: skip
    for name, make in OTHER_GENES.items():
        said = "duplicate gene names: gene0" if name in TWICE else "gene0|lacks 2 name"
        given = partial(with_names, "var", make)
        yield Case("names of genes", f"{name}, known", given, known, None, said)
    numbers = partial(with_names, "var", lambda names: range(G))

    def of_numbers(bench, adata):
        return values("known")(Same(untrained(adata, **FULL)), adata)

    def equals_numbers(bench):
        return values("known")(Same(untrained(bench.adata, **FULL)), bench.adata)

    yield Case("names of genes", "numbers, new and known", numbers, of_numbers, equals_numbers)


@dataclass(frozen=True)
class Same:
    """In place of the bench, for a model of other names."""

    full: MGVI


def changed(change, bench):
    return change(bench.adata)


def with_more(adata, n):
    more = ad.AnnData(np.ones((N, n), np.float32), obs=adata.obs)
    more.var_names = [f"new{i}" for i in range(n)]
    return ad.concat([adata, more], axis=1, merge="same")


def with_zero(bench, gone):
    adata = bench.adata
    x = adata.X.tolil()
    x[:, gone] = 0
    adata.X = x.tocsr()
    return known(bench, adata)


def sets_of_genes():
    order = np.random.default_rng(0).permutation(G)
    right = {
        "in another order": lambda a: a[:, order],
        "reversed": lambda a: a[:, ::-1].copy(),
        "with one more": lambda a: with_more(a, 1),
        "with many more": lambda a: with_more(a, 40),
        "with more, in another order": lambda a: with_more(a, 3)[:, ::-1].copy(),
    }
    for name, change in right.items():
        yield Case(
            "sets of genes", name, partial(changed, change), known, partial(canonical, "known")
        )
    yield Case("sets of genes", "one missing", partial(changed, lambda a: a[:, np.arange(G) != 6]),
               known, partial(with_zero, gone=[6]))  # fmt: skip
    wrong = {
        "two missing": (lambda a: a[:, 2:], "lack 2.*gene0, gene1"),
        "all but one missing": (lambda a: a[:, :1], "lack 13.*gene1"),
        "half missing, with more": (lambda a: with_more(a[:, 7:].copy(), 9), "lack 7.*gene0"),
    }
    for name, (change, said) in wrong.items():
        yield Case("sets of genes", name, partial(changed, change), known, None, said)
    for name, change in {"fit": right["with one more"], "fit less": lambda a: a[:, 1:]}.items():
        less = name == "fit less"
        yield Case(
            "sets of genes",
            name,
            partial(changed, change),
            lambda bench, adata: fit_again(bench, adata),
            None if less else lambda bench: fit_again(bench, bench.adata),
            "gene0" if less else None,
        )


def fit_again(bench, adata):
    mgvi = untrained(bench.adata)
    mgvi.fit(adata, BRIEF, progress=False)
    return mgvi


def unknown_levels():
    for key in ("group", "donor", "celltype"):

        def more(bench, key=key):
            adata = bench.adata
            adata.obs.loc["cell4", key] = "new"
            return adata

        yield Case("no labels", f"{key}, a new level, known", more, known, None, f"'{key}'.*new")
    text = partial(with_column, "age", lambda c: c.astype(str))
    yield Case("no labels", "age as text, known", text, known, None, "'age'.*numeric")
    truth = partial(with_column, "age", lambda c: c > 40)
    yield Case("no labels", "age as truth, known", truth, known, None, "'age'.*numeric")
    dates = partial(with_column, "age", lambda c: pd.to_datetime(c, unit="D"))
    yield Case("no labels", "age as dates, known", dates, known, None, "'age'.*numeric")


CASES = [
    *unknown_levels(),
    *names(),
    *sets_of_genes(),
    *dresses(),
    *bad_columns(),
    *names_of_groups(),
]
