"""Forms of the counts: what means the same is read as the same, and what is no count is refused."""

from functools import partial
from itertools import product

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from fuzz.bench import G, N, cells
from fuzz.judge import Case
from pyro_mgvi import GroupedCounts


def dense(x):
    return x.toarray()


def split_in_two(x):
    """Return CSR with every entry stored as two that add up to it."""
    data = np.repeat(x.data / 2, 2)
    return sparse.csr_matrix((data, np.repeat(x.indices, 2), 2 * x.indptr), x.shape)


def minus_and_plus(x):
    """Return CSR whose entries are negative and positive, and add up to counts."""
    data = np.ravel(np.stack([x.data + 1, np.full_like(x.data, -1)], 1))
    return sparse.csr_matrix((data, np.repeat(x.indices, 2), 2 * x.indptr), x.shape)


def with_zeros(x):
    _, columns = np.indices(x.shape).reshape(2, -1)
    values = x.toarray().ravel()
    return sparse.csr_matrix((values, columns, np.arange(0, values.size + 1, x.shape[1])), x.shape)


def unsorted(x):
    x = x.copy()
    for start, stop in zip(x.indptr, x.indptr[1:]):
        for part in (x.data, x.indices):
            part[start:stop] = part[start:stop][::-1].copy()
    x.has_sorted_indices = False
    return x


def wide_indices(x):
    x = x.copy()
    x.indices, x.indptr = x.indices.astype(np.int64), x.indptr.astype(np.int64)
    return x


def read_only(x):
    x = x.copy()
    parts = (x.data, x.indices, x.indptr) if sparse.issparse(x) else (x,)
    for part in parts:
        part.flags.writeable = False
    return x


def strided(x):
    wide = np.zeros((2 * N, 2 * G), x.dtype)
    wide[::2, ::2] = x.toarray()
    return wide[::2, ::2]


def reversed_strides(x):
    return np.ascontiguousarray(x.toarray()[::-1, ::-1])[::-1, ::-1]


def dask_array(x):
    import dask.array

    return dask.array.from_array(x, chunks=(7, -1))


TYPES = ("bool", "uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
TYPES += ("float16", "float32", "float64", "longdouble", ">f4", ">i4", "<f8")
#: Forms that mean the same as the canonical counts.
SAME = {
    **{f"dense {kind}": lambda x, k=kind: dense(x).astype(k) for kind in TYPES[1:]},
    **{f"CSR {kind}": lambda x, k=kind: x.astype(k) for kind in TYPES[1:] if kind != "float16"},
    "CSC": sparse.csc_matrix,
    "CSC float64": lambda x: sparse.csc_matrix(x.astype(float)),
    "csr_array": sparse.csr_array,
    "csc_array": sparse.csc_array,
    "CSR of halves": split_in_two,
    "CSR of minus and plus": minus_and_plus,
    "CSR with zeros": with_zeros,
    "CSR unsorted": unsorted,
    "CSR of halves unsorted": lambda x: unsorted(split_in_two(x)),
    "CSC of halves": lambda x: sparse.csc_matrix(split_in_two(x)),
    "CSR 64-bit indices": wide_indices,
    "CSR read-only": read_only,
    "CSR unsorted read-only": lambda x: read_only(unsorted(x)),
    "CSC read-only": lambda x: read_only(sparse.csc_matrix(x)),
    "dense read-only": lambda x: read_only(dense(x)),
    "dense Fortran": lambda x: np.asfortranarray(dense(x)),
    "dense strided": strided,
    "dense reversed strides": reversed_strides,
    "dense minus zero": lambda x: np.where(dense(x) == 0, -0.0, dense(x)),
    "matrix": lambda x: np.asmatrix(dense(x)),
    "masked without mask": lambda x: np.ma.MaskedArray(dense(x)),
    "masked nowhere": lambda x: np.ma.MaskedArray(dense(x), np.zeros((N, G), bool)),
    "table": lambda x: pd.DataFrame(dense(x)),
}
#: Those of packages that may be missing.
SAME |= {
    "dask": lambda x: dask_array(dense(x)),
    "dask of CSR": lambda x: dask_array(dense(x)).map_blocks(sparse.csr_matrix),
    "dask of csr_array": lambda x: dask_array(dense(x)).map_blocks(sparse.csr_array),
}
#: Forms that are refused, wherever they get so far.
OTHER = {
    "object numbers": (lambda x: dense(x).astype(object), "object values"),
    "text": (lambda x: dense(x).astype(str), "values in 2|cannot be read"),
    "complex": (lambda x: dense(x).astype(complex), "complex128 values"),
    "CSR complex": (lambda x: x.astype(complex), "complex128 values"),
    "dates": (lambda x: dense(x).astype("M8[s]"), "datetime64"),
    "spans": (lambda x: dense(x).astype("m8[s]"), "timedelta64"),
    "masked": (lambda x: np.ma.MaskedArray(dense(x), dense(x) == 1), "masked values"),
    "records": (lambda x: np.zeros((N, G), [("a", "f4")]), "values in 2"),
    "three dimensions": (lambda x: dense(x)[:, :, None], "3 dimension"),
    "index beyond": (lambda x: damaged(x, "indices", G + 3), "cannot be read"),
    "index below": (lambda x: damaged(x, "indices", -1), "cannot be read"),
    "pointer below": (lambda x: damaged(x, "indptr", -2), "cannot be read"),
}


def damaged(x, part, value):
    x = x.copy()
    getattr(x, part)[3] = value
    return x


def in_x(form, bench):
    adata = bench.adata
    if isinstance(found := form(adata.X), pd.DataFrame):
        found = found.to_numpy()
    adata.X = found
    return adata


def in_layer(form, bench):
    adata = bench.adata
    found = form(adata.X)
    adata.X = None
    if isinstance(found, pd.DataFrame):
        found = found.set_axis(adata.obs_names, axis=0).set_axis(adata.var_names, axis=1)
    adata.layers["form"] = found
    return adata


def in_raw(form, bench):
    adata = bench.adata
    adata.X = form(adata.X)
    adata.raw = adata.copy()
    adata.X = np.full((N, G), 0.5)
    return adata


PLACES = {
    "X": (in_x, {}),
    "layer": (in_layer, {"layer": "form"}),
    "raw": (in_raw, {"use_raw": True}),
}
"""Where counts are, and how they are asked for there."""


def read_new(bench, adata, **where):
    found = GroupedCounts.from_anndata(adata, "group", **where)
    return found.x.astype(float), found.schema.genes, found.group_n


def read_known(bench, adata, **where):
    return bench.mgvi.latents(bench.mgvi.read(adata, **where))


def expression(bench, adata, **where):
    return bench.mgvi.normalized_expression(bench.mgvi.read(adata, **where), "z")


READERS = {"new": read_new, "known": read_known, "expression": expression}


def canonical(reader, bench, change=None, key=None):
    """Return what a reader says of the canonical cells, or of changed ones."""
    if change is None:
        return bench.once(reader, lambda: READERS[reader](bench, bench.adata))
    return READERS[reader](bench, change(bench.adata))


def same_forms():
    for (form, make), (place, (put, where)) in product(SAME.items(), PLACES.items()):
        for reader in READERS if place == "X" else ("new", "known"):
            yield Case(
                "form of counts",
                f"{form} in {place}, {reader}",
                partial(put, make),
                partial(READERS[reader], **where),
                partial(canonical, reader),
            )


def other_forms():
    for (form, (make, names)), (place, (put, where)) in product(OTHER.items(), PLACES.items()):
        for reader in ("new", "known"):
            call = partial(READERS[reader], **where)
            yield Case(
                "form of counts",
                f"{form} in {place}, {reader}",
                partial(put, make),
                call,
                None,
                names,
            )


VALUES = {
    "nan": (np.nan, "not finite"),
    "inf": (np.inf, "not finite"),
    "minus inf": (-np.inf, "not finite"),
    "minus one": (-1.0, "negative"),
    "a half": (0.5, "fractional"),
    "nearly one": (1 - 1e-9, "fractional"),
    "tiny": (1e-8, "fractional"),
    "1e9": (1e9, "too large"),
    "1e300": (1e300, "too large"),
    "minus 1e9": (-1e9, "negative"),
}
WHOLE = {
    "minus one": (-1, "negative"),
    "2**40": (2**40, "too large"),
    "2**62": (2**62, "too large"),
}
CONTAINERS = {
    "dense": np.asarray,
    "Fortran": np.asfortranarray,
    "CSR": sparse.csr_matrix,
    "CSC": sparse.csc_matrix,
    "csr_array": sparse.csr_array,
}


def with_value(value, container, kind, x):
    values = x.toarray().astype(kind)
    values[7, 5] = value
    return CONTAINERS[container](values)


def bad_values():
    for kind, values in (("float64", VALUES), ("int64", WHOLE)):
        for name, container, place in product(values, CONTAINERS, PLACES):
            value, says = values[name]
            put, where = PLACES[place]
            make = partial(with_value, value, container, kind)
            for reader in ("new", "known") if place == "X" else ("known",):
                yield Case(
                    "value of a count",
                    f"{name} in {container} {kind} in {place}, {reader}",
                    partial(put, make),
                    partial(READERS[reader], **where),
                    names=f"{says}.*cell7.*gene5",
                )


def good_values():
    """Yield counts that are unusual, and right."""
    for value, container in product((0, 1, 1e6, 1e8), CONTAINERS):

        def change(adata, value=value):
            x = adata.X.toarray().astype(float)
            x[7, 5] = value
            adata.X = sparse.csr_matrix(x)
            return adata

        for reader in READERS:
            yield Case(
                "value of a count",
                f"{value:g} in {container}, {reader}",
                partial(in_x, partial(with_value, value, container, "float64")),
                READERS[reader],
                partial(canonical, reader, change=change),
            )


def rounded(adata):
    adata.X = adata.X.tocsr()
    return adata


def corrected(x):
    """Return counts as tools leave them that correct for ambient RNA."""
    x = x.copy().astype(float)
    x.data[::2] += np.resize([0.3, -0.2, 0.1, -0.4], len(x.data[::2]))
    return x


def with_rounding(bench, adata, **more):
    found = GroupedCounts.from_anndata(adata, "group", round_counts=True, **more)
    return found.x.astype(float), found.schema.genes, found.group_n


def rounding():
    forms = {
        "CSR": corrected,
        "CSC": lambda x: sparse.csc_matrix(corrected(x)),
        "dense": lambda x: dense(corrected(x)),
        "CSR of halves": lambda x: split_in_two(corrected(x)),
        "whole": lambda x: x,
        "int64": lambda x: x.astype(int),
    }
    for (form, make), (place, (put, where)) in product(forms.items(), PLACES.items()):
        call = partial(with_rounding, **where)
        equals = partial(canonical, "new")
        yield Case("rounding", f"{form} in {place}", partial(put, make), call, equals)
    logs = {
        "log1p": np.log1p,
        "shares": lambda x: x.multiply(1 / x.sum(1)).tocsr(),
        "minus": np.negative,
    }
    for name, make in logs.items():
        yield Case("rounding", name, partial(in_x, make), with_rounding, None, "adata.X")


def at(rows, columns, adata):
    return adata[rows][:, columns]


def parts(change, bench):
    return change(bench.adata)


def counts_of(bench, adata, **more):
    found = GroupedCounts.from_anndata(adata, "group", **more)
    return found.x.astype(float), found.schema.groups, found.group_n


def no_cells(bench, adata):
    return GroupedCounts.from_anndata(adata, "group", drop_empty=True)


def emptied(cells_, bench):
    adata = bench.adata
    x = adata.X.tolil()
    x[cells_] = 0
    adata.X = x.tocsr()
    return adata


def shapes():
    order = np.random.default_rng(0).permutation(G)
    some = np.random.default_rng(1).permutation(N)[:20]
    views = {
        "slice": lambda a: a[3:30],
        "reversed": lambda a: a[::-1],
        "mask": lambda a: a[np.arange(N) % 3 != 1],
        "positions": lambda a: a[some],
        "names": lambda a: a[a.obs_names[some]],
        "genes in another order": lambda a: a[:, order],
        "view of a view": lambda a: a[some][:, order][::2],
        "one cell": lambda a: a[5],
        "two cells": lambda a: a[[5, 30]],
        "one group": lambda a: a[a.obs["group"] == "b"],
    }
    for name, change in views.items():

        def copied(adata, change=change):
            return change(adata).copy()

        readers = ("known", "expression") if len(change(_canonical)) < 13 else READERS
        for reader in readers:
            yield Case(
                "view",
                f"{name}, {reader}",
                partial(parts, change),
                READERS[reader],
                partial(canonical, reader, change=copied),
            )
    yield Case(
        "view",
        "one cell, new",
        partial(parts, views["one cell"]),
        read_new,
        None,
        "'group'.*one group",
    )
    yield Case(
        "view",
        "two cells, new",
        partial(parts, views["two cells"]),
        read_new,
        None,
        "fewer than 2 cells.*a, c",
    )
    yield Case(
        "view",
        "one group, new",
        partial(parts, views["one group"]),
        read_new,
        None,
        "'group'.*one group.*'b'",
    )
    for reader in ("new", "known"):
        yield Case(
            "view", f"no cell, {reader}", lambda b: b.adata[:0], READERS[reader], None, "no cell"
        )
    yield Case("view", "no gene, new", lambda b: b.adata[:, :0], read_new, None, r"0 gene\(s\)")
    yield Case("view", "one gene, new", lambda b: b.adata[:, :1], read_new, None, r"1 gene\(s\)")
    yield Case(
        "view", "no gene, known", lambda b: b.adata[:, :0], read_known, None, "lack 14.*gene0"
    )
    for reader in ("new", "known"):
        yield Case(
            "view",
            f"empty cells, {reader}",
            partial(emptied, [3, 8]),
            READERS[reader],
            None,
            "cell3, cell8",
        )
    for name, some_cells in {"all": range(N), "all but one": range(1, N)}.items():
        given = partial(emptied, list(some_cells))
        yield Case("view", f"{name} empty, dropped", given, no_cells, None, "none of the|'group'")
    yield Case(
        "view",
        "a group empty, dropped",
        partial(emptied, list(range(12))),
        partial(counts_of, drop_empty=True),
        lambda b: counts_of(b, b.adata[12:]),
    )
    yield Case(
        "view",
        "a gene without counts",
        lambda b: with_silent_gene(b.adata, sparse.csc_matrix),
        read_known,
        lambda b: read_known(b, with_silent_gene(b.adata, sparse.csr_matrix)),
    )


def with_silent_gene(adata, form):
    x = adata.X.tolil()
    x[:, 4] = 0
    adata.X = form(x)
    return adata


_canonical = cells()


def backed(form, mode, bench):
    """Return the cells of a file that is opened in backed mode."""
    adata = bench.adata
    adata.layers["form"] = form(adata.X)
    adata.X = form(adata.X)
    adata.raw = adata
    adata.write_h5ad(bench.folder / "cells.h5ad")
    return ad.read_h5ad(bench.folder / "cells.h5ad", backed=mode)


def some_backed(form, change, bench):
    return change(backed(form, "r", bench))


def on_disk():
    forms = {"CSR": lambda x: x, "CSC": sparse.csc_matrix, "dense": dense}
    for (form, make), mode, reader in product(forms.items(), ("r", "r+"), READERS):
        name = f"{form} {mode}, {reader}"
        given = partial(backed, make, mode)
        yield Case("on disk", name, given, READERS[reader], partial(canonical, reader))
    for (form, make), place in product(forms.items(), ("layer", "raw")):
        call = partial(read_known, **PLACES[place][1])
        given = partial(backed, make, "r")
        yield Case("on disk", f"{form} in {place}", given, call, partial(canonical, "known"))
    views = {
        "slice": lambda a: a[3:30],
        "mask": lambda a: a[np.arange(N) % 3 != 1],
        "positions": lambda a: a[[1, 4, 9]],
        "shuffled": lambda a: a[[9, 1, 30]],
        "reversed": lambda a: a[::-1],
        "genes reversed": lambda a: a[:, ::-1],
    }
    for (form, make), (name, change) in product(forms.items(), views.items()):

        def copied(adata, change=change):
            return change(adata).copy()

        given, equals = (
            partial(some_backed, make, change),
            partial(canonical, "known", change=copied),
        )
        refusal = "load the whole file into memory"
        yield Case("on disk", f"{form}, {name}", given, read_known, equals, refusal)


CASES = [
    *same_forms(),
    *other_forms(),
    *bad_values(),
    *good_values(),
    *rounding(),
    *shapes(),
    *on_disk(),
]
