"""Directions that a model has not got: planted structure, and noise."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.sparse_programs import sparse_programs, with_a_small_group

from pyro_mgvi import MGVI, Latents, SearchSettings, private, shared, subsets
from pyro_mgvi.analysis.metrics import program_score
from pyro_mgvi.training.search.directions import find_directions
from pyro_mgvi.training.search.residuals import Residuals


def found_by_key(*args, **settings):
    return {copy.key: found for copy, found in find_directions(*args, **settings).items()}


@pytest.fixture(scope="module")
def partly_trained():
    adata = sparse_programs(0)
    mgvi = MGVI.from_anndata(adata, "group")
    mgvi.fit(adata, max_epochs=8, progress=False)
    return mgvi, adata


@pytest.mark.slow
def test_a_sparse_program_is_found_in_its_group_and_named(partly_trained):
    mgvi, adata = partly_trained
    data = mgvi.read(adata)
    state = torch.random.get_rng_state()
    found = find_directions(mgvi, data)
    assert torch.equal(torch.random.get_rng_state(), state)
    copy = mgvi.families.copies_of("t")[0]
    assert copy.key == "t_group1"
    direction = found[copy][0]
    own = (adata.obs["group"] == "group1").to_numpy()
    np.testing.assert_array_equal(direction.cells, np.flatnonzero(own))
    assert float(direction.score_n.std()) == pytest.approx(1, abs=1e-3)
    ideal, _ = program_score(adata, "group1")
    assert abs(np.corrcoef(direction.score_n, np.ravel(ideal))[0, 1]) > 0.8
    factors = np.log(adata.var["DEFacP1"] / adata.var["DEFacP2"]).to_numpy()
    top = direction.loading_g.abs().topk(10).indices.numpy()
    assert (factors[top] != 0).mean() >= 0.8 and adata.var["is_program"].to_numpy()[top].all()
    agree = np.sign(factors[top]) * np.sign(direction.loading_g.numpy()[top])
    assert abs(agree.sum()) == np.count_nonzero(factors[top])  # one sign throughout
    again = find_directions(mgvi, data)[copy][0]
    assert torch.equal(again.loading_g, direction.loading_g)
    only = {"z": torch.tensor([False]), "t": torch.tensor([False, True])}
    chosen = find_directions(mgvi, data, copies=only)
    assert set(chosen) <= {mgvi.families.copies_of("t")[1]}


@pytest.mark.slow
def test_noise_has_no_directions_of_one_group():
    for seed in range(3):
        adata = sparse_programs(seed)
        rng = np.random.default_rng(seed)
        adata.obs["group"] = rng.permutation(adata.obs["group"].to_numpy())
        mgvi = MGVI.from_anndata(adata, "group")
        mgvi.fit(adata, max_epochs=10, progress=False)  # as when fit searches
        found = find_directions(mgvi, mgvi.read(adata))
        assert not set(mgvi.families.copies_of("t")) & set(found), seed


def test_what_cannot_be_compared_with_others_is_not_searched():
    adata = with_a_small_group()
    mgvi = MGVI.from_anndata(adata, "group")
    found = found_by_key(mgvi, mgvi.read(adata))
    assert set(found) == {"z"}  # group1's types are no program of group1


def planted(code, programs, n_cells=400, n_genes=40):
    """Return residuals of a group: noise, and each program's genes with a score of its own."""
    rng = np.random.default_rng(code)
    r_ng = rng.normal(size=(n_cells, n_genes))
    for loading_of in programs:
        score_n = rng.normal(size=n_cells)
        for genes, loading in loading_of.items():
            r_ng[:, genes] += loading * score_n[:, None]
    r_ng = torch.tensor(r_ng / r_ng.std(0), dtype=torch.float32)
    return Residuals(r_ng, torch.ones(n_genes), np.arange(n_cells) + code * n_cells)


@pytest.fixture
def found_in(monkeypatch):
    """Return what is found for each copy in given residuals of each group."""

    def found(latents, residuals, settings=None):
        monkeypatch.setattr(
            "pyro_mgvi.training.search.directions.residuals_of_groups", lambda *_: residuals
        )
        sizes = [len(group.cells) for group in residuals.values()]
        data = SimpleNamespace(group_n=np.repeat(list(residuals), sizes))
        return found_by_key(SimpleNamespace(families=latents), data, settings=settings)

    return found


def genes_of(direction):
    return set(direction.loading_g.nonzero()[:, 0].tolist())


@pytest.mark.parametrize("own", [True, False])
def test_a_group_s_program_that_agrees_with_another_s_is_found(own, found_in):
    """Genes of two owners' programs, taken for both, are not missing in the search for one."""
    both, a_only = {range(8): 0.9}, {range(16, 22): 0.9, range(10, 16): 0.9}
    b_only = {range(16, 22): 0.9, range(22, 30): 0.25 if own else 0.0}
    groups = {0: [both, a_only], 1: [both, b_only], 2: []}
    residuals = {code: planted(code, programs) for code, programs in groups.items()}
    families = (shared(2), private(2), subsets("pair", [("a", "b")], 2))
    directions = found_in(Latents(families, ("a", "b", "c")), residuals)
    found = {key: [genes_of(each) for each in listed] for key, listed in directions.items()}
    assert set(range(8)) in found["pair"] and set(range(16, 22)) in found["pair"]
    assert [genes for genes in found["t_a"] if set(range(10, 16)) <= genes]
    assert not set(range(8)) & set().union(*found["t_a"], *found.get("t_b", []))
    if own:
        (genes,) = found["t_b"]
        assert len(genes & set(range(22, 30))) >= 6 and genes <= set(range(16, 30))
    else:  # nothing but what the pair has
        assert "t_b" not in found


def test_a_shared_direction_does_not_stand_for_a_group_s_own(found_in):
    """Stronger in one group, it would pass for that group's, and hide what is really its own."""
    common, own = range(0, 30), range(30, 40)
    programs = {0: [{common: 1.6}, {own: 0.75}], 1: [{common: 0.8}]}
    residuals = {code: planted(code, each, 600) for code, each in programs.items()}
    latents = Latents((shared(2), private(2)), ("a", "b"))
    found = found_in(latents, residuals)
    (of_all,) = found["z"]
    assert set(common) <= genes_of(of_all)
    assert "t_b" not in found
    (of_one,) = found["t_a"]
    assert genes_of(of_one) == set(own)
    without_the_rule = SearchSettings(same_score=1.0)  # the shared one is it
    first = found_in(latents, residuals, without_the_rule)["t_a"][0]
    assert set(common) <= genes_of(first)
