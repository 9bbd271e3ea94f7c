"""Who shares what, from counts to latents: planted programs, none, and what is refused."""

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_mgvi import MGVI, SettingsError, discover, private, shared
from pyro_mgvi.analysis.discovery.discovery import Discovery, latents_of, verdicts
from pyro_mgvi.core import Latents
from pyro_mgvi.data.cells.marks import marks
from pyro_mgvi.datasets import SplatParams, grouped
from pyro_mgvi.training.search.residuals import Direction

GROUPS = ("a", "b", "c")


def cells(owners, n_cells=900, weights=None, seed=0):
    """Types, a shift of each group, and programs of some of them."""
    program = SplatParams(lib_loc=7.0, lib_scale=1e-3, de_prob=0.4, de_fac_loc=0.3)
    sizes = dict(n_cells=n_cells, n_shared_genes=150, n_program_genes=50, n_types=3, n_programs=1)
    types = SplatParams(lib_loc=9.0)
    return grouped(
        seed, types, program, **sizes, groups=GROUPS, group_weights=weights, pairs=owners
    )


@pytest.fixture(scope="module")
def planted():
    adata = cells([("a", "b"), ("c",)])
    return adata, MGVI.from_anndata(adata, "group", latents="discover")


@pytest.mark.slow
def test_each_planted_program_is_found_in_just_its_groups(planted):
    adata, mgvi = planted
    table = mgvi.discovery.table
    told = {copy.groups for copy in mgvi.families.copies}
    assert told == {GROUPS, ("a", "b"), ("c",)}
    for owners in (("a", "b"), ("c",)):
        key = f"t_{'+'.join(owners)}"
        rows = table[table["latent"] == key]
        assert rows["program"].nunique() == 1
        assert set(rows.loc[rows["verdict"] == "varies", "group"]) == set(owners)
        assert (rows.loc[rows["verdict"] == "varies", "q_value"] < 0.05).all()
        genes = rows["genes"].iloc[0].split(", ")
        assert (adata.var.loc[genes, "kind"] == f"pair_{'+'.join(owners)}").all()
    assert key in repr(mgvi) and "program 1: " in repr(mgvi.discovery)
    own = private(5, name="own")
    both = MGVI.from_anndata(adata, "group", latents=(*mgvi.discovery.latents, own))
    assert {"own_c", "t_c"} <= {copy.key for copy in both.families.copies}
    with pytest.raises(SettingsError, match=r"private\(5, name='own'\)"):
        MGVI.from_anndata(adata, "group", latents=(*mgvi.discovery.latents, private(5)))


@pytest.mark.slow
def test_the_search_of_a_fit_starts_at_what_was_discovered(planted):
    adata, mgvi = planted
    setup = mgvi.training_setup(adata, max_epochs=11)
    assert set(setup.known) == {("a", "b"), ("c",)}
    placed = setup._placed_in(setup.known["c",])[0]
    assert (setup.data.group_n[placed.cells] == 2).all() and len(placed.cells) > 200
    other = adata[::-1].copy()
    assert mgvi.discovery.directions(mgvi.read(other)) == {}  # positions are of other cells
    assert MGVI.from_anndata(adata, "group").training_setup(adata, max_epochs=11).known == {}


@pytest.mark.slow
def test_without_programs_there_is_the_shared_latent_alone():
    adata = cells([], seed=1)
    mgvi = MGVI.from_anndata(adata, "group", latents="discover")
    assert [copy.key for copy in mgvi.families.copies] == ["z"]
    found = mgvi.discovery
    assert all(set(rows["latent"]) == {"z"} for _, rows in found.table.groupby("program"))


@pytest.mark.slow
def test_a_group_of_few_cells_is_not_asked():
    adata = cells([("a",)], weights=[1, 1, 0.05])
    found = discover(MGVI.from_anndata(adata, "group"), adata, progress=False)
    few = found.table[found.table["group"] == "c"]
    assert len(few) and (few["verdict"] == "too few cells").all() and few["q_value"].isna().all()
    assert ("a",) in {owners for owners, _ in found.programs.values()}


def test_too_few_cells_altogether_say_nothing(adata, mgvi):
    found = mgvi.discover(adata, progress=False)
    assert len(found.table) == 0 and repr(found) == "Discovery(no program)"
    assert [latent.name for latent in found.latents] == ["z"]
    again = MGVI.from_anndata(adata, "group", latents=found)
    assert again.discovery is found and [copy.key for copy in again.families.copies] == ["z"]


def test_what_cannot_be_discovered_is_refused(adata, mgvi):
    alone = MGVI.from_anndata(adata, "group", latents=private(2))
    with pytest.raises(SettingsError, match="needs a shared latent"):
        alone.discover(adata)
    for rate in (0.0, 1.0, 2.0):
        with pytest.raises(SettingsError, match="rate must be between 0 and 1"):
            mgvi.discover(adata, rate=rate)


def test_copies_are_named_by_their_groups_or_by_how_many_they_are():
    groups = tuple("abcdef")
    owners = [("a",), tuple("abcd"), tuple("abce"), ("a",), groups]
    found = latents_of([shared(4)], owners, groups)
    assert Latents(found, groups).families[1].keys == ("t_a", "t_4_groups_1", "t_4_groups_2")
    assert found[1].dim == 3  # two programs of a, and one for what else is found
    assert latents_of([shared(4)], [groups], groups)[1:] == ()


def test_a_verdict_needs_evidence_either_way():
    q, absent = np.array([0.04, 0.04, 0.5, 0.5]), np.array([0.5, 0.04, 0.04, 0.5])
    said = ["varies", "varies", "absent", "undecided"]
    np.testing.assert_array_equal(verdicts(q, absent, 0.05), said)


def test_words_name_the_groups_and_those_that_are_undecided():
    columns = ["program", "group", "verdict", "genes"]
    rows = [[1, "a", "varies", "IL1B, CCL3"], [1, "b", "absent", "IL1B, CCL3"],
            [1, "c", "undecided", "IL1B, CCL3"], [2, "a", "varies", "MKI67"],
            [2, "b", "varies", "MKI67"], [2, "c", "varies", "MKI67"]]  # fmt: skip
    found = Discovery(pd.DataFrame(rows, columns=columns), (), {}, np.zeros(3, int))
    assert repr(found) == (
        "program 1: a (undecided: c); IL1B, CCL3\nprogram 2: all 3 groups; MKI67"
    )


def test_directions_are_for_the_same_cells_and_genes_in_the_same_order(adata):
    mgvi = MGVI.from_anndata(adata, "group", latents=["z:2"])
    data = mgvi.read(adata)
    direction = Direction(torch.ones(60), torch.ones(20), np.arange(20))
    found = Discovery(pd.DataFrame(), (), {1: (("group1",), direction)}, marks(data))
    assert found.directions(mgvi.read(adata.copy())) == {("group1",): [direction]}
    swapped = np.arange(120)
    group = adata.obs["group"].to_numpy()
    swapped[[0, np.flatnonzero(group == group[0])[1]]] = np.flatnonzero(group == group[0])[[1, 0]]
    others = [
        mgvi.read(adata[swapped].copy()),  # each cell has the group that it had
        MGVI.from_anndata(adata[:, ::-1].copy(), "group").read(adata[:, ::-1].copy()),
        MGVI.from_anndata(adata[:, :50].copy(), "group").read(adata[:, :50].copy()),
        mgvi.read(adata[:50].copy()),
    ]
    assert [found.directions(other) for other in others] == [{}] * 4
