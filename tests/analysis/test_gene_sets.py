"""Gene sets of dimensions and rankings: read, scored and tested against the other genes."""

from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, ttest_ind

from pyro_mgvi import MGVI, DataError, SettingsError, enrichment, read_gene_sets
from pyro_mgvi.analysis.gene_sets.enrichment import sets_among
from pyro_mgvi.analysis.gene_sets.scores import gene_scores
from pyro_mgvi.datasets import clear_recipe

needs_decoupler = pytest.mark.skipif(
    find_spec("decoupler") is None,
    reason="decoupler comes with the extra [enrich]",
)
GENES = [f"gene{i}" for i in range(60)]


def programs_table(z_g, effect_g=None, latent="t_stim", dimension=1):
    """Return a table of one dimension, as ``programs`` returns it."""
    effect_g = np.ones(60) if effect_g is None else effect_g
    columns = {"effect": effect_g, "mean": 1.0, "information": effect_g**2, "orientation": 1}
    key = {"latent": latent, "dimension": dimension, "gene": GENES}
    return pd.DataFrame(key | columns | {"z_score": z_g, "q_value": np.nan})


def test_sets_are_read_from_a_dictionary_and_from_a_file(tmp_path):
    sets = {"one": ("A", "B", "C"), "other": ("C", "D")}
    assert read_gene_sets({"one": ["A", "B", "A", " C "], "other": iter("CD")}) == sets
    path = tmp_path / "sets.gmt"
    path.write_text("one\tsaid\tA\tB\tC\tA\t\n\nother\t\tC\tD\n")
    assert read_gene_sets(path) == read_gene_sets(str(path)) == sets
    text = "\ufeffone\tsaid\u2028so\x85\tA\tB\tC\r\nother\t\x0c\tC\tD\r\n"  # as Windows has it
    path.write_bytes(text.encode())
    assert read_gene_sets(path) == sets


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("one\tsaid\n", "line 1 of .*sets.gmt is no gene set"),
        ("one\tsaid\tA\n\nA,B,C\n", "line 3"),
        ("one\tsaid\tA\none\tsaid\tB\n", "two gene sets named one"),
        ("\n", "there is no gene set"),
    ],
)
def test_a_file_that_is_no_gmt_is_refused_by_line(text, message, tmp_path):
    (tmp_path / "sets.gmt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_gene_sets(tmp_path / "sets.gmt")


@pytest.mark.parametrize(
    ("sets", "error", "message"),
    [
        ({}, DataError, "there is no gene set"),
        ({"one": "ISG15"}, DataError, "one must be a list of gene names, not 'ISG15'"),
        ({"one": ["A", 3]}, DataError, "one holds what is no name of a gene: 3"),
        ({1: ["A"], "1": ["B"], "2": ["C"]}, DataError, "two gene sets are called 1, as text"),
        ("no/such.gmt", DataError, "cannot be read from no"),
        (["A"], SettingsError, "gene_sets must be a path"),
    ],
)
def test_what_is_no_gene_set_is_refused(sets, error, message):
    with pytest.raises(error, match=message):
        read_gene_sets(sets)


def test_genes_are_scored_by_unseen_cells_or_by_what_they_tell():
    z_g, effect_g = np.linspace(-3, 3, 60), np.linspace(2, -1, 60)
    (seen,) = gene_scores(programs_table(z_g, effect_g))
    assert seen.key == {"latent": "t_stim", "dimension": 1} and seen.ranked_by == "z_score"
    np.testing.assert_array_equal(seen.score_g[GENES], z_g)
    (told,) = gene_scores(programs_table(np.nan, effect_g))
    assert told.ranked_by == "information"
    np.testing.assert_allclose(told.score_g[GENES], effect_g)  # the information is its square
    ranking = pd.DataFrame(
        {"bayes_factor": [8.0, 2.0, -5.0], "log_fold_change": [1.0, -2.0, 3.0], "z_score": np.nan},
        index=["A", "B", "C"],
    )
    (by_ratio,) = gene_scores(ranking)
    assert by_ratio.score_g.to_dict() == {"A": 4.0, "B": -2.0, "C": 0.0} and not by_ratio.key
    (by_cells,) = gene_scores(ranking.assign(z_score=[2.0, 3.0, -1.0]))
    assert by_cells.score_g.to_dict() == {"A": 2.0, "B": -3.0, "C": 0.0}
    within = pd.concat({"B cells": ranking, "T cells": -ranking}, names=["label", "gene"])
    for table in (within, within.reset_index()):  # as it is, and as a file has it
        first, second = gene_scores(table)
        assert (first.key, second.key) == ({"label": "B cells"}, {"label": "T cells"})
        assert first.score_g.to_dict() == by_ratio.score_g.to_dict()
        assert second.score_g.to_dict() == {"A": 0.0, "B": 0.0, "C": -np.sqrt(10)}


def test_tables_of_other_kinds_are_refused():
    table = programs_table(np.ones(60))
    for wrong, message in (
        (table.drop(columns="information"), "neither one of programs nor a ranking"),
        (table.assign(gene="A"), "names genes twice: A"),
        (table.to_numpy(), "not a ndarray"),
    ):
        with pytest.raises(DataError, match=message):
            enrichment(wrong, {"one": GENES[:9]})


@pytest.mark.parametrize("column", ["latent", "dimension", "gene"])
def test_rows_without_a_name_are_refused(column):
    table = programs_table(np.arange(60.0))
    table[column] = table[column].astype(object)
    table.loc[3, column] = np.nan
    with pytest.raises(DataError, match=rf"1 row\(s\) .* no {column}: .*keep_default_na=False"):
        gene_scores(table)


def ranking_table(**columns):
    """Return a ranking without z-scores, with other columns in place of its own."""
    given = {"bayes_factor": np.arange(60.0), "log_fold_change": -1.0, "z_score": np.nan}
    return pd.DataFrame(given | columns, index=pd.Index(GENES, name="gene"))


def test_a_label_that_a_file_has_lost_is_asked_for(tmp_path):
    table = pd.concat({"NA": ranking_table(), "T": ranking_table()}, names=["label"])
    table.to_csv(tmp_path / "ranking.csv")
    with pytest.raises(DataError, match=r"60 row\(s\) of the table have no label"):
        gene_scores(pd.read_csv(tmp_path / "ranking.csv"))
    kept = pd.read_csv(tmp_path / "ranking.csv", keep_default_na=False, na_values=[""])
    for again, score in zip(gene_scores(kept), gene_scores(table)):
        assert again.key == score.key
        pd.testing.assert_series_equal(again.score_g, score.score_g)


def test_an_infinite_score_is_refused_by_gene_and_a_missing_one_is_none():
    scores = np.arange(60.0)
    scores[7] = np.inf
    wrong = {
        "z_score": programs_table(scores),
        "information": programs_table(np.nan).assign(information=scores),
        "bayes_factor": ranking_table(bayes_factor=scores),
    }
    for column, table in wrong.items():
        with pytest.raises(DataError, match=f"the {column} of gene gene7 is not finite"):
            gene_scores(table)
    scores[7] = np.nan  # of a gene that the group has not got
    (found,) = gene_scores(ranking_table(bayes_factor=scores))
    assert found.score_g["gene7"] == 0 and found.score_g["gene8"] == -4


def test_sets_without_genes_of_the_table_are_refused_with_both_kinds_of_names():
    table = programs_table(np.ones(60))
    with pytest.raises(DataError, match=r"such as GENE1, GENE2, GENE3, .* such as gene0, gene1"):
        enrichment(table, {"one": ["GENE1", "GENE2", "GENE3"]})
    with pytest.raises(DataError, match="one has 4; pass other sets, or change min_genes"):
        enrichment(table, {"one": GENES[:4]})
    with pytest.raises(DataError, match="one has 60"):
        enrichment(table, {"one": GENES})  # nothing to compare with
    with pytest.raises(SettingsError, match="max_genes must be at least 5"):
        enrichment(table, {"one": GENES[:9]}, max_genes=3)


@pytest.mark.slow
@needs_decoupler
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**20), sizes=st.lists(st.integers(5, 40), min_size=1, max_size=6))
def test_the_score_is_a_t_test_of_the_set_against_all_other_genes(seed, sizes):
    rng = np.random.default_rng(seed)
    z = pd.Series(rng.standard_t(3, 60) * (rng.random(60) > 0.2), GENES)  # 0 is a score like any
    sets = {f"set{i}": list(rng.choice(GENES, n, replace=False)) for i, n in enumerate(sizes)}
    found = enrichment(programs_table(z.to_numpy()), sets).set_index("gene_set")
    truth = {name: ttest_ind(z[genes], z.drop(genes)) for name, genes in sets.items()}
    for name, genes in sets.items():
        assert found.loc[name, "score"] == pytest.approx(truth[name].statistic, rel=1e-6, abs=1e-9)
        assert found.loc[name, "genes"] == len(genes)
        towards = (z[genes] * np.sign(truth[name].statistic)).sort_values(ascending=False)
        named = found.loc[name, "first_genes"].split(", ")
        assert named == list(towards[towards > 0].index[:8])
    q_s = false_discovery_control([truth[name].pvalue for name in sets])
    np.testing.assert_allclose(found.loc[list(sets), "q_value"], q_s, rtol=1e-6)
    assert found["score"].abs().is_monotonic_decreasing


@pytest.mark.slow
@needs_decoupler
def test_each_dimension_is_tested_alone_and_a_file_gives_the_same(tmp_path):
    rng = np.random.default_rng(0)
    z_g = rng.standard_normal(60)
    z_g[:10] += 3
    parts = (
        programs_table(z_g),
        programs_table(-z_g, dimension=2),
        programs_table(0.0, dimension=3),
    )
    table = pd.concat(parts).sample(frac=1, random_state=0)
    sets = {"up": GENES[:10], "rest": GENES[30:45], "absent": ["X"]}
    found = enrichment(table, sets)
    by = found.set_index(["dimension", "gene_set"])
    assert set(by.index) == {(k, name) for k in (1, 2, 3) for name in ("up", "rest")}
    assert by.loc[(1, "up"), "score"] > 5 and by.loc[(1, "up"), "q_value"] < 1e-4
    assert by.loc[(2, "up"), "score"] == pytest.approx(-by.loc[(1, "up"), "score"])
    assert (by.loc[3, "score"] == 0).all() and (by.loc[3, "q_value"] == 1).all()  # not found again
    assert by.loc[(1, "rest"), "q_value"] > 0.1
    table.to_csv(tmp_path / "programs.csv", index=False)
    pd.testing.assert_frame_equal(enrichment(pd.read_csv(tmp_path / "programs.csv"), sets), found)
    assert list(enrichment(table.iloc[:0], sets).columns) == list(found.columns)


@needs_decoupler
@pytest.mark.slow
def test_planted_sets_are_found_in_the_dimensions_that_hold_them_and_others_are_not():
    adata = clear_recipe(8, n_cells=1000, n_shared_genes=400, n_program_genes=100)
    mgvi = MGVI.from_anndata(adata, "group")
    mgvi.fit(adata, progress=False)
    rng = np.random.default_rng(0)
    sets = {f"random{i}": list(rng.choice(adata.var_names, 20, replace=False)) for i in range(40)}
    for one, other in (("P1", "P2"), ("P3", "P4")):
        ratio = np.log(adata.var[f"DEFac{one}"] / adata.var[f"DEFac{other}"])
        sets[f"{one} up"] = list(ratio.index[ratio > 0.3])
        sets[f"{other} up"] = list(ratio.index[ratio < -0.3])
    found = enrichment(mgvi.programs(adata, calibration=False), sets)
    for latent, own in (("t_group1", ("P1 up", "P2 up")), ("t_group2", ("P3 up", "P4 up"))):
        rows = found[found["latent"] == latent]
        first = rows[rows["dimension"] == rows["dimension"].iloc[0]].head(2)
        assert set(first["gene_set"]) == set(own) and (first["q_value"] < 1e-3).all()
        assert np.sign(first["score"]).sum() == 0  # one program's genes rise as the other's fall
        chance = rows[rows["gene_set"].str.startswith("random")]
        assert (chance["q_value"] < 0.1).mean() < 0.1


def test_features_of_modalities_are_found_by_their_name():
    genes = ["rna:CD4", "rna:MS4A1", "prot:CD4", "rna:X"]
    sets = {"t": ("CD4", "rna:CD4", "CD3E"), "b": ("MS4A1", "prot:CD4")}
    found = sets_among(sets, genes, min_genes=1)
    assert found == {"t": ["rna:CD4", "prot:CD4"], "b": ["rna:MS4A1", "prot:CD4"]}
    with pytest.raises(DataError, match="use names of one kind"):  # a name that has a colon itself
        sets_among({"t": ("DRA", "DRB")}, ["HLA:DRA", "HLA:DRB", "ACTB"], min_genes=1)
