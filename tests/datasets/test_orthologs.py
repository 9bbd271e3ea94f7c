"""Two species joined by a table of orthologs: which genes are one, and what is wrong in words."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from pyro_mgvi import DataError, GroupedCounts
from pyro_mgvi.datasets import pair_species

HUMAN = ["INS", "GCG", "ACTB", "KRT6A", "KRT6B", "MB", "Same"]
MOUSE = ["Gcg", "Ins1", "Ins2", "Actb", "Krt6a", "Sftpc", "Same", "MB"]
TABLE = pd.DataFrame(
    [
        ("GCG", "Gcg"),  # one to one
        ("ACTB", "Actb"),
        ("INS", "Ins1"),  # one to several
        ("INS", "Ins2"),
        ("KRT6A", "Krt6a"),  # several to one
        ("KRT6B", "Krt6a"),
        ("TP53", "Trp53"),  # of neither
        ("MB", "Mb"),  # of one only
    ],
    columns=["human", "mouse"],
)


def cells(genes, n, name, csr=True, seed=0):
    x = np.random.default_rng(seed).poisson(2.0, (n, len(genes))).astype(np.int32)
    obs = pd.DataFrame({"label": ["x"] * n}, index=[f"{name}{i}" for i in range(n)])
    x = sparse.csr_matrix(x) if csr else x
    with warnings.catch_warnings():  # of names that repeat
        warnings.simplefilter("ignore")
        return ad.AnnData(x, obs=obs, var=pd.DataFrame(index=genes), layers={"raw": x.copy()})


def both(csr=True):
    return cells(HUMAN, 5, "h", csr), cells(MOUSE, 4, "m", csr, 1)


def test_one_to_one_orthologs_are_one_gene_and_all_others_two():
    human, mouse = both()
    joined = pair_species(human, mouse, TABLE)
    kinds = joined.var["orthologs"].astype(str).to_dict()
    one, several, none = "one-to-one", "several orthologs", "no ortholog"
    assert kinds == {
        "INS": several, "GCG": one, "ACTB": one, "KRT6A": several, "KRT6B": several, "MB": none,
        "Same": none, "Ins1": several, "Ins2": several, "Krt6a": several, "Sftpc": none,
        "Same-mouse": none, "MB-mouse": none,
    }  # fmt: skip
    in_human = set(joined.var_names[joined.var["in_human"]])
    in_mouse = set(joined.var_names[joined.var["in_mouse"]])
    assert in_human == set(HUMAN)
    assert in_human & in_mouse == {"GCG", "ACTB"}
    assert joined.var.loc["GCG", "mouse"] == "Gcg" and joined.var.loc["INS", "mouse"] == ""
    assert joined.uns["orthologs"]["human"] == {one: 2, several: 3, none: 2}
    assert joined.uns["orthologs"]["mouse"] == {one: 2, several: 3, none: 3}


@pytest.mark.parametrize("csr", [False, True])
def test_counts_are_those_of_each_species(csr):
    human, mouse = both(csr)
    joined = pair_species(human, mouse, TABLE)
    for name, one in {"human": human, "mouse": mouse}.items():
        own = joined[joined.obs["species"] == name]
        for layer in (None, "raw"):
            x = own.layers[layer] if layer else own.X
            x = x.toarray() if sparse.issparse(x) else x
            truth = one.X.toarray() if csr else one.X
            named = joined.var[name].to_numpy()
            for gene, column in zip(one.var_names, truth.T):
                np.testing.assert_array_equal(x[:, named == gene][:, 0], column)
            assert (x[:, named == ""] == 0).all()
    assert joined.obs["label"].tolist() == ["x"] * 9
    assert list(human.var_names) == HUMAN and "species" not in human.obs  # as they were
    masks = {"human": "in_human", "mouse": "in_mouse"}
    data = GroupedCounts.from_anndata(joined, "species", feature_masks=masks)
    assert set(data.schema.absent["human"]) == set(joined.var_names[~joined.var["in_human"]])


def test_names_that_are_alike_mean_nothing():
    human, mouse = cells(["INS", "A"], 3, "h"), cells(["INS", "Ins"], 3, "m")
    table = pd.DataFrame({"human": ["A"], "mouse": ["Ins"]})
    joined = pair_species(human, mouse, table)
    assert list(joined.var_names) == ["INS", "A", "INS-mouse"]
    assert joined.var["in_mouse"].tolist() == [False, True, True]


def test_species_and_key_have_the_names_that_they_are_given():
    human, mouse = both()
    table = TABLE.rename(columns={"human": "man", "mouse": "rat"}).assign(score=1.0)
    joined = pair_species(human, mouse, table, ("man", "rat"), "organism")
    assert joined.obs["organism"].cat.categories.tolist() == ["man", "rat"]
    assert {"in_man", "in_rat", "man", "rat"} <= set(joined.var)


def without_row(row):
    return pd.concat([TABLE, pd.DataFrame([row], columns=TABLE.columns)], ignore_index=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"orthologs": {"human": []}}, "orthologs is a dict: give a DataFrame with the columns"),
        ({"orthologs": TABLE[["human"]]}, "no column 'mouse'; it has human: rename"),
        ({"orthologs": without_row(("GCG", "Gcg"))}, "1 pair.* twice, such as GCG and Gcg"),
        ({"orthologs": without_row(("X", None))}, "1 row.* without a name, such as row 8"),
        ({"orthologs": without_row(("", "X"))}, "1 row.* without a name"),
        ({"orthologs": TABLE.iloc[[6]]}, "no gene of human is in the column 'human'.* TP53"),
        ({"orthologs": TABLE.iloc[2:6]}, "no one-to-one pair of orthologs has both its genes"),
        ({"species": ("human", "human")}, "species must be the names of two"),
        ({"species": "human"}, "species must be the names of two"),
        ({"group_key": "label"}, "obs of human has a column 'label' already"),
        ({"first": cells(["A", "A"], 2, "h")}, "human: duplicate gene names: A"),
        ({"second": cells(MOUSE, 4, "h")}, "names of cells repeat .h0, h1"),
        ({"second": cells([*MOUSE, "Same-mouse"], 4, "m")}, "names of genes repeat.*Same-mouse"),
        ({"first": "human.h5ad"}, "not an AnnData: read it first"),
    ],
)
def test_what_is_wrong_is_said(change, message):
    human, mouse = both()
    arguments = {"first": human, "second": mouse, "orthologs": TABLE} | change
    with pytest.raises(DataError, match=message):
        pair_species(**arguments)
