"""Designs: levels, names and terms, against closed forms over combinations of columns."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pyro_mgvi import SettingsError, pairwise, per, private, shared, subsets
from pyro_mgvi.core import Design, Latents
from pyro_mgvi.core.design import as_terms, is_identity, term_blocks
from pyro_mgvi.core.latents.text import as_text, parse
from pyro_mgvi.data.names import named_groups
from pyro_mgvi.errors import DataError, DataWarning

TISSUES, DRUGS = ("Ileum", "Colon"), ("ctrl", "stim")
CROSSED = Design(("tissue", "drug"), tuple(product(TISSUES, DRUGS)))
NESTED = Design(
    ("condition", "donor"), tuple(("ctrl" if i < 3 else "stim", f"d{i}") for i in range(5))
)


def crossed(*sizes):
    names = [tuple(f"{'abc'[k]}{i}" for i in range(n)) for k, n in enumerate(sizes)]
    return Design(tuple("abc"[: len(sizes)]), tuple(product(*names)))


def test_groups_are_named_by_their_levels():
    assert CROSSED.groups == ("Ileum_ctrl", "Ileum_stim", "Colon_ctrl", "Colon_stim")
    assert list(CROSSED) == list(CROSSED.groups) and len(CROSSED) == 4
    assert Design.of(("a", "b")).groups == ("a", "b") and Design.of(CROSSED) is CROSSED
    tricky = Design(("x", "y"), (("a_b", "c"), ("a", "b_c")))
    assert tricky.groups == ("a_b.c", "a.b_c")
    ends = ("", "_", ".", " x ", " | ", "; ")
    worst = Design(("x", "y"), tuple((f"a{e}", f"{f}b") for e, f in product(ends, ends)))
    with pytest.raises(SettingsError, match=r"look the same.*rename"):
        _ = worst.groups


def test_levels_of_columns_and_of_their_combinations():
    assert CROSSED.levels("drug")["stim"] == ("Ileum_stim", "Colon_stim")
    assert CROSSED.levels(("drug", "tissue"))["stim_Ileum"] == ("Ileum_stim",)
    assert CROSSED.columns_of(("Colon_stim", "Ileum_stim")) == ("drug",)
    assert CROSSED.columns_of(("Colon_stim",)) == ("tissue", "drug")
    assert CROSSED.columns_of(("Colon_stim", "Ileum_ctrl")) == ()
    assert NESTED.columns_of(("ctrl_d1",)) == ("donor",)
    assert NESTED.nested("donor", "condition") and not NESTED.nested("condition", "donor")
    assert Design(CROSSED.keys, CROSSED.levels_gc[:3]).absent(CROSSED.keys) == [("Colon", "stim")]


@given(st.lists(st.integers(2, 3), min_size=2, max_size=3), st.integers(0, 2), st.integers(0, 999))
@settings(max_examples=30, deadline=None)
def test_averaging_takes_one_column_out_of_additive_offsets(sizes, column, seed):
    """Whatever combinations are missing, as long as the others tell the levels apart."""
    design, rng = crossed(*sizes), np.random.default_rng(seed)
    column %= len(sizes)
    effects = [torch.from_numpy(rng.normal(size=(n, 4))).float() for n in sizes]
    kept = [i for i in range(len(design)) if i == 0 or rng.random() < 0.8]
    part = Design(design.keys, tuple(design.levels_gc[i] for i in kept))
    rank = torch.linalg.matrix_rank
    effects_of = [torch.cat(each.main_effects, 1).double() for each in (design, part)]
    assume(rank(effects_of[0]) == rank(effects_of[1]))  # no level is missing or stands alone
    assume(not any(part.nested(x, y) for x, y in product(part.keys, part.keys) if x != y))
    at = [[int(level[1:]) for level in levels] for levels in part.levels_gc]
    offset = torch.stack([sum(e[i] for e, i in zip(effects, each)) for each in at])
    wanted = torch.stack(
        [
            sum(e.mean(0) if k == column else e[i] for k, (e, i) in enumerate(zip(effects, each)))
            for each in at
        ]
    )
    averaged = part.averaging((part.keys[column],)) @ offset
    torch.testing.assert_close(averaged, wanted, rtol=1e-4, atol=1e-4)


def test_nested_columns_are_averaged_together_and_levels_count_alike():
    weight_bb = NESTED.averaging(("condition",))
    wanted = torch.tensor([1 / 6, 1 / 6, 1 / 6, 1 / 4, 1 / 4]).expand(5, 5)
    torch.testing.assert_close(weight_bb, wanted)
    torch.testing.assert_close(NESTED.averaging(), torch.full((5, 5), 0.2))


def test_terms_are_levels_and_what_latents_say_beside_them():
    one = Latents(["z:2", "t:2", pairwise(1)], ("a", "b", "c"))
    assert is_identity(one.terms) and len(one.term_blocks) == 1
    additive = Latents((shared(2), private(2)), CROSSED)
    assert additive.terms.int().tolist() == [[1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 0, 1]]
    more = Latents((shared(2), per("drug", 2), per(("tissue", "drug"), 2)), CROSSED)
    assert more.terms.shape == (4, 8) and len(more.term_blocks) == 3
    nested = Latents((shared(2), private(2)), NESTED)
    assert nested.terms.shape == (5, 7)
    again = term_blocks(CROSSED, [family.owners for family in additive.specific])
    assert all(torch.equal(a, b) for a, b in zip(again, additive.term_blocks, strict=True))


@given(st.integers(2, 4), st.integers(2, 4), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_additive_offsets_are_sums_of_terms(n, k, seed):
    terms_bt = torch.cat(crossed(n, k).main_effects, 1)
    term_tg = torch.from_numpy(np.random.default_rng(seed).normal(size=(n + k, 3))).float()
    offset_bg = terms_bt.float() @ term_tg
    for weight_b in (None, torch.arange(1.0, n * k + 1)):
        found = terms_bt.float() @ as_terms(offset_bg, terms_bt, weight_b)
        torch.testing.assert_close(found, offset_bg, rtol=1e-4, atol=1e-4)
    identity = torch.eye(n, dtype=torch.bool)
    assert torch.equal(as_terms(offset_bg[:n], identity), offset_bg[:n])


def test_latents_of_levels():
    families = (shared(10), per("tissue", 4), per("drug", 3), per(("tissue", "drug"), 2))
    latents = Latents(families, CROSSED)
    assert [copy.key for copy in latents.copies] == [
        "z", "t_tissue_Ileum", "t_tissue_Colon", "t_drug_ctrl", "t_drug_stim",
        *(f"t_tissue_drug_{group}" for group in CROSSED),
    ]  # fmt: skip
    by_key = {copy.key: copy for copy in latents.copies}
    assert by_key["t_drug_stim"].groups == ("Ileum_stim", "Colon_stim")
    assert by_key["t_drug_stim"].owners == "drug stim" and by_key["z"].owners == "all groups"
    assert by_key["t_drug_stim"].columns == ("drug",) and by_key["z"].columns == ()
    assert latents.membership("t_tissue").int().tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]
    assert Latents(latents.families, CROSSED).families == latents.families
    usual = Latents((shared(10), private(10)), CROSSED)
    assert [family.name for family in usual] == ["z", "t_tissue", "t_drug"]
    assert usual.families == Latents((shared(10), per("tissue"), per("drug")), CROSSED).families
    odd = Latents((shared(2), per("cell type", 2)), Design(("cell type",), (("a/b",), ("c",))))
    assert [copy.key for copy in odd.copies] == ["z", "t_cell_type_a_b", "t_cell_type_c"]


@pytest.mark.parametrize(
    "latents, message",
    [
        (per("age", 2), "per\\('age'\\) is of no column.*'tissue', 'drug'.*group_key"),
        ("per:tissue+tissue:2", "names a column twice"),
        ("per:tissue:x", "not understood"),
        (per("drug", 2, name="z"), "overlap"),
    ],
)
def test_bad_latents_of_levels(latents, message):
    with pytest.raises(SettingsError, match=message):
        Latents([shared(2), latents], CROSSED)


def test_per_takes_names_of_columns():
    for columns in ((), (3,), ("a", 3)):
        with pytest.raises(SettingsError, match="per takes the name of a column"):
            per(columns, 2)


def test_an_interaction_with_an_outer_column_is_the_inner_one():
    with pytest.raises(SettingsError, match=r"each level of 'donor' is within one of 'condition'"):
        Latents((shared(2), per(("condition", "donor"), 2)), NESTED)


def test_combinations_that_do_not_occur_are_named():
    part = Design(CROSSED.keys, CROSSED.levels_gc[:3])
    Latents((shared(2), private(2)), part)  # additive terms need none
    with pytest.warns(DataWarning, match="no cell is of Colon with stim.*what each level adds can"):
        latents = Latents((shared(2), per(CROSSED.keys, 2)), part)
    assert latents["t_tissue_drug"].n_copies == 3


def test_texts_stand_for_latents_of_levels():
    for spec in ("per:tissue:4", "per:tissue+drug:2"):
        latent = parse(spec).over(CROSSED)
        assert parse(as_text(latent, CROSSED.groups)).over(CROSSED.groups).owners == latent.owners
    odd = Design((r"a+b:c\d", "e"), (("x", "u"), ("y", "u"), ("x", "v")))
    assert parse(r"per:a\+b\:c\\d:2").over(odd).owners == (("x_u", "x_v"), ("y_u",))


def test_names_mean_groups_levels_and_owners_of_copies():
    latents = Latents((shared(2), per("tissue", 2), per("drug", 2)), CROSSED)
    assert named_groups(latents, "Ileum_stim").codes.tolist() == [1]
    for name in ("stim", "t_drug_stim"):
        found = named_groups(latents, name)
        assert found.codes.tolist() == [1, 3] and found.columns == ("drug",)
        assert found.own(np.array([0, 1, 2, 3])).tolist() == [False, True, False, True]
    with pytest.raises(DataError, match=r"'lung' is unknown.*Ileum_ctrl.*Colon.*stim"):
        named_groups(latents, "lung")
    twice = Design(("before", "after"), (("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")))
    latents = Latents((shared(2), private(2)), twice)
    with pytest.raises(DataError, match=r"several sets of groups.*t_before_a.*t_after_a"):
        named_groups(latents, "a")
    assert named_groups(latents, "t_after_a").codes.tolist() == [0, 2]


def test_names_of_copies_mean_their_owners_where_groups_are_donors():
    condition = {"ctrl": ["d1", "d2"], "stim": ["d3"]}
    latents = Latents((shared(2), subsets("condition", condition, 2)), ("d1", "d2", "d3"))
    for name in ("ctrl", "condition_ctrl"):
        found = named_groups(latents, name)
        assert found.codes.tolist() == [0, 1] and found.latents == ("condition",)
        assert found.columns == ()


@given(st.data())
@settings(max_examples=60)
def test_no_combination_is_called_as_a_level_is(data):
    level = st.lists(st.sampled_from(["drug", "late", "low"]), min_size=1, max_size=2).map("_".join)
    rows = data.draw(st.lists(st.tuples(level, level), min_size=1, max_size=5, unique=True))
    design = Design(("a", "b"), tuple(rows))
    levels = {each for row in rows for each in row}
    assert not levels & set(design.groups) and len(set(design.groups)) == len(rows)
    assert [*design.levels("a")] == [*dict.fromkeys(row[0] for row in rows)]
