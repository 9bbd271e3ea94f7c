"""What can be asked of a model is answered of one whose samples have effects, too."""

import anndata as ad
import numpy as np
import pytest
import torch
from helpers.fitting import LATENTS, PLAN, fitted, same, untrained
from scipy import sparse

from pyro_mgvi import MGVI, NB, SharedTrunk, TrainingPlan
from pyro_mgvi.cli.main import main
from pyro_mgvi.criticism import compare, held_out, predictive_checks, to_arviz
from pyro_mgvi.data.stores import on_disk
from pyro_mgvi.datasets import two_modalities
from pyro_mgvi.errors import ChainDiagnosticsWarning, SettingsError

KEYS = {"sample_key": "donor", "likelihood": NB}


def with_donors(adata, n=4):
    """Return a copy with so many donors in each group."""
    copy = adata.copy()
    number = copy.obs.groupby("group", observed=True).cumcount() % n
    copy.obs["donor"] = [f"{g}.{i}" for g, i in zip(copy.obs["group"], number)]
    return copy


@pytest.fixture(scope="module")
def donors(adata):
    return with_donors(adata)


@pytest.fixture(scope="module")
def trained(donors):
    return fitted(donors, **KEYS)


def test_it_is_saved_and_loaded(trained, donors, tmp_path):
    trained.save(tmp_path / "model")
    loaded = MGVI.load(tmp_path / "model")
    assert loaded.schema == trained.schema and len(loaded.schema.samples) == 12
    assert same(loaded.latents(donors), trained.latents(donors))
    np.testing.assert_array_equal(loaded.sample_effects(), trained.sample_effects())
    expression = [m.normalized_expression(donors) for m in (loaded, trained)]
    np.testing.assert_array_equal(*expression)
    again, once = (m.training_setup(donors, PLAN).data.initial_values() for m in (loaded, trained))
    assert torch.equal(again.sample_groups_sb, once.sample_groups_sb)


def test_a_training_that_was_cut_off_ends_the_same(donors, tmp_path):
    whole = untrained(donors, **KEYS)
    whole.fit(donors, PLAN, checkpoint=tmp_path / "run", progress=False)
    (tmp_path / "run" / "epoch_3.pt").unlink()
    resumed = untrained(donors, **KEYS)
    resumed.fit(donors, PLAN, checkpoint=tmp_path / "run", progress=False)
    assert same(resumed.latents(donors), whole.latents(donors))
    np.testing.assert_array_equal(resumed.sample_effects(), whole.sample_effects())
    other = donors.copy()
    other.obs["donor"] = other.obs["donor"].to_numpy()[::-1]
    renamed = untrained(other, **KEYS)
    with pytest.raises(SettingsError, match=r"other .*labels of cells"):
        renamed.fit(other, PLAN, checkpoint=tmp_path / "run", progress=False)


def test_losses_of_an_epoch_say_what_the_effects_cost(trained):
    history = trained.history
    assert (history["train_sample_effect"] > 0).all()
    parts = [c for c in history if c.startswith("validation_")]
    assert "validation_sample_effect" not in parts  # it says nothing about held-out cells
    np.testing.assert_allclose(history[parts].sum(axis=1), history["validation"])


def test_criticism_takes_the_effects_at_their_means(trained, donors):
    score = held_out(trained, donors[:20], n_draws=10, progress=False)
    assert np.isfinite(score.log_marginal_n).all()
    plain = fitted(donors, likelihood=NB)
    table = compare({"with": trained, "without": plain}, donors[:20], n_draws=4, progress=False)
    assert set(table.index) == {"with", "without"}
    predictive_checks(trained, donors, n_draws=20, progress=False)
    with pytest.warns(ChainDiagnosticsWarning):
        genes = list(donors.var_names[:5])
        data = to_arviz(trained, donors, n_draws=2, genes=genes, progress=False)
    effects = data["constant_data"]["sample_effect"]
    assert effects.dims == ("sample", "gene") and list(effects["sample"]) == list(
        trained.schema.samples
    )
    np.testing.assert_array_equal(effects, trained.sample_effects().iloc[:, :5])


def test_other_results_are_there(trained, donors):
    ranking = trained.rank_genes(donors, "group1", calibration=False)
    assert np.isfinite(ranking["bayes_factor"]).all()
    found = trained.differential_expression(donors, "group1", "group2", n_draws=10)
    assert len(found) == donors.n_vars
    assert np.isfinite(trained.effect_sizes(donors)).all()
    mean, std = trained.expression_draws(donors, n_draws=3)
    assert np.isfinite(mean).all().all() and (std > 0).any().any()
    assert "t_group1" in str(trained.summary(donors))
    assert trained.estimate(donors, max_epochs=2).epochs == 2
    assert len(trained.programs(donors, calibration=False))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:no q-value:pyro_mgvi.errors.DataWarning")
def test_refits_and_discovery_know_the_samples(donors):
    mgvi = fitted(donors, **KEYS)
    table = mgvi.rank_genes(donors, "group1")
    assert table.attrs["q_value_of"] == "new samples"
    assert "t_group1" in str(mgvi.diagnose(donors, progress=False))
    mgvi.discover(donors, progress=False)


def test_counts_in_a_file_and_in_memory_give_the_same(donors, tmp_path, monkeypatch):
    stored = donors.copy()
    stored.X = sparse.csr_matrix(stored.X)
    stored.write_h5ad(tmp_path / "cells.h5ad")
    monkeypatch.setattr(on_disk, "IN_MEMORY", 0)
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    one, other = (untrained(cells, **KEYS).read(cells) for cells in (backed, stored))
    cells = np.array([3, 77, 20])
    assert one.buffer is not None  # the counts are still in their file
    ours, theirs = (data.rows(cells) for data in (one, other))
    assert torch.equal(ours.sample, theirs.sample) and torch.equal(ours.counts, theirs.counts)


def test_other_parts_and_several_columns(donors):
    mgvi = fitted(donors, encoder=SharedTrunk, observed_library=True, foreign_sample=2, **KEYS)
    assert np.isfinite(mgvi.sample_effects()).all().all()
    copy = donors.copy()
    copy.obs["half"] = np.where(np.arange(copy.n_obs) // 4 % 2, "a", "b")
    keys = ("group", "half")
    crossed = MGVI.from_anndata(copy, keys, sample_key="donor", latents=LATENTS)
    crossed.fit(copy, PLAN, progress=False)
    of_group = crossed.sample_effects().groupby(lambda name: name.split(".")[0])
    assert of_group.mean().abs().max().max() < 1e-6


def test_several_modalities():
    mdata = two_modalities(n_cells=120, n_genes=40, n_proteins=20)
    number = mdata.obs.groupby("group", observed=True).cumcount() % 4
    mdata.obs["donor"] = [f"d{i}" for i in number]
    mgvi = MGVI.from_mudata(mdata, "group", {"rna": NB, "prot": NB}, sample_key="donor")
    mgvi.fit(mdata, TrainingPlan(max_epochs=2), progress=False)
    assert mgvi.sample_effects().shape == (4, 60) and (mgvi.sample_effects() != 0).any().all()


@pytest.mark.slow
def test_the_command_line(donors, tmp_path):
    donors.write_h5ad(tmp_path / "cells.h5ad")
    for option, n in ((), 12), (("--no-sample-effects",), 0):
        model = tmp_path / f"model{n}"
        fit = ["fit", str(tmp_path / "cells.h5ad"), "--group-key", "group", "--sample-key", "donor"]
        fit += ["--epochs", "2", "--quiet", "--model", str(model), "--latents", "z:3", "t:2"]
        fit += ["--out", str(tmp_path / f"out{n}.h5ad")]
        assert main([*fit, *option]) == 0
        assert len(MGVI.load(model).schema.samples) == n
