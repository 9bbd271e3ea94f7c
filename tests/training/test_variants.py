"""Variants on planted truth: a program of two of three groups, and batches inside groups."""

import numpy as np
import pytest
from scipy import sparse

from pyro_mgvi import MGVI, DataError, private, shared, subsets
from pyro_mgvi.analysis.metrics import kmeans_ari, probe
from pyro_mgvi.datasets.simulate import SplatParams, clear_recipe, grouped

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def paired():
    """Three groups of 500 cells; two of them share a program, and each has two of its own."""
    params = SplatParams(lib_loc=10.0), SplatParams(lib_loc=7.0, de_prob=0.4, de_fac_loc=0.2)
    pair = ("group1", "group2")
    adata = grouped(0, *params, 1500, 800, 150, groups=3, pairs=[pair])
    latents = (shared(10), private(10), subsets("pair", [pair], 5))
    mgvi = MGVI.from_anndata(adata, "group", latents=latents, seed=1)
    mgvi.fit(adata, progress=False)
    return adata, mgvi, mgvi.latents(adata)


def test_a_program_of_two_groups_is_found_in_their_pair_latent(paired):
    adata, _, found = paired
    own = (adata.obs["group"] != "group3").to_numpy()
    program = adata.obs["pair_group1+group2"][own].astype(str)
    assert kmeans_ari(found["pair"][own], program) > 0.9  # the ideal score reaches 0.99
    assert found["pair"][~own].isna().all(axis=None)
    assert probe(found["z"][own], program) < 0.65  # seeds 0 to 4: 0.68, 0.61, 0.60, 0.61, 0.59
    assert kmeans_ari(found["z"], adata.obs["celltype"]) > 0.98


def test_it_is_absent_from_what_the_private_latents_carry(paired):
    adata, mgvi, _ = paired
    drawn = mgvi.latents(adata, draw=0)
    for group in ("group1", "group2"):
        mine = (adata.obs["group"] == group).to_numpy()
        program = adata.obs["pair_group1+group2"][mine].astype(str)
        assert probe(drawn[f"t_{group}"][mine], program) < 0.6  # chance 0.5


@pytest.mark.parametrize("group", ["group1", "group2"])
def test_the_pair_s_latent_alone_ranks_its_genes_first(paired, group):
    adata, mgvi, _ = paired
    table = mgvi.rank_genes(adata, group, latents=["pair"], calibration=False)
    factors = [adata.var[f"DEFacpair_group1+group2_{copy}"] for copy in (1, 2)]
    planted = adata.var_names[factors[0] != factors[1]]  # of 950 genes
    found = table.index[:20].isin(planted)
    assert found[:10].all() and found.sum() >= 18, table.head(20)  # 19 and 20 measured


@pytest.fixture(scope="module")
def batches():
    """Two groups with two batches each: in the second, each gene is caught less often."""
    adata = clear_recipe(0, n_cells=1000, n_shared_genes=300, n_program_genes=100)
    rng = np.random.default_rng([0, 1])  # not the simulator's, which drew the groups from seed 0
    second = rng.random(adata.n_obs) < 0.5
    x = adata.X.toarray()
    x[second] = rng.binomial(x[second], rng.uniform(0.4, 1.0, adata.n_vars))
    adata.X = sparse.csr_matrix(x)
    adata.obs["donor"] = np.where(second, "d2", "d1")
    return adata


def test_a_registered_batch_leaves_the_shared_latent(batches):
    mgvi = MGVI.from_anndata(batches, "group", batch_key="donor")
    mgvi.fit(batches, progress=False)
    z = mgvi.latents(batches)["z"]
    assert probe(z, batches.obs["donor"]) < 0.6  # chance 0.5; 1.00 if it is not registered
    assert kmeans_ari(z, batches.obs["celltype"]) >= 0.98
    report = mgvi.diagnose(batches, max_epochs=1, progress=False)
    assert "donor" in set(report.probes["target"]) and "leaks the donor" not in str(report)


def test_the_report_says_that_an_unregistered_batch_is_visible(batches):
    mgvi = MGVI.from_anndata(batches, "group")
    mgvi.fit(batches, max_epochs=30, progress=False)
    assert probe(mgvi.latents(batches)["z"], batches.obs["donor"]) > 0.9
    report = str(mgvi.diagnose(batches, batch="donor", max_epochs=1, progress=False))
    assert "z: leaks the donor" in report and "register it as batch_key" in report
    with pytest.raises(DataError, match="batch 'plate' is not a column"):
        mgvi.diagnose(batches, batch="plate")
