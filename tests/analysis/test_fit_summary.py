"""The summary of a fit: convergence on synthetic histories, what it counts, and its advice."""

from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.cells import make
from helpers.fitting import fitted, untrained

from pyro_mgvi import MGVI, FitSummary, TrainingPlan
from pyro_mgvi.analysis.fit_summary.convergence import FALL, Convergence
from pyro_mgvi.analysis.fit_summary.hints import crowded, hints, next_step
from pyro_mgvi.training.objective import continued


def falling(n, by):
    """Losses near 1000 that fall by a share of them in ten epochs, over the last two thirds."""
    last = round(2 * n / 3)
    curve = np.full(n, 1000.0)
    curve[: n - last] += np.linspace(200, 0, n - last) ** 1.5
    curve[n - last :] -= 100 * by * (np.arange(last) - last // 2)
    return curve


@pytest.mark.parametrize("n", [12, 18, 30, 60, 300])
def test_a_loss_that_still_falls_is_not_converged(n):
    found = Convergence.of(falling(n, 0.01))
    assert found.converged is False
    np.testing.assert_allclose(found.fall, 0.01, rtol=0.01)
    assert Convergence.of(falling(n, 0.9 * FALL)).converged
    assert not Convergence.of(falling(n, 1.1 * FALL)).converged
    assert Convergence.of(np.linspace(1000, 1010, n)).converged  # it rises: the best was before


@pytest.mark.parametrize("n", [12, 18, 30, 60])
def test_noise_is_no_trend_and_hides_none(n):
    flat = [Convergence.of(falling(n, 0.0) + 2 * noise).converged for noise in noises(n)]
    steep = [Convergence.of(falling(n, 0.02) + 2 * noise).converged for noise in noises(n)]
    assert np.mean(flat) > 0.95 and np.mean(steep) < 0.05


def noises(n):
    return np.random.default_rng(0).normal(size=(200, n))


def test_a_single_bad_epoch_does_not_matter_and_few_epochs_tell_nothing():
    spoilt = falling(30, 0.0)
    spoilt[-1] -= 100
    assert Convergence.of(spoilt).converged
    spoilt = falling(30, 0.01)
    spoilt[-4] += 100
    assert Convergence.of(spoilt).converged is False
    for n in range(6):
        assert Convergence.of(np.linspace(9, 1, n)).converged is None


def test_fit_returns_what_it_found(adata):
    mgvi = untrained(adata)
    state = torch.get_rng_state()
    found = mgvi.fit(adata, TrainingPlan(max_epochs=3, batch_size=32), progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    assert isinstance(found, FitSummary)
    assert found.groups == dict(adata.obs["group"].value_counts().sort_index())
    assert found.epochs == 3 and found.converged is None
    kept = mgvi.history.loc[mgvi.history["kept"], "validation"].item()
    assert f"{kept:.2f} nats per cell" in found.loss and "all epochs" in found.stopped
    latents = found.latents.set_index("latent")
    for copy in mgvi.families.copies:
        row = latents.loc[copy.key]
        own = adata.obs["group"].isin(copy.groups)
        assert row["cells"] == own.sum() and row["dimensions"] == copy.dim
        assert row["in_use"] == int(mgvi.model.active.of(copy).sum())
        assert bool(row["genes"]) == (row["in_use"] > 0 and not copy.shared)
    pd.testing.assert_frame_equal(mgvi.summary(adata).latents, found.latents)
    text = str(found)
    assert repr(found) == text and "3 epochs" in text and "next: " in text and "t_group2" in text


def test_the_size_of_a_latent_is_its_divergence_in_nats(adata):
    """Normal posteriors from a standard normal prior, written out."""
    mgvi = fitted(adata)
    data = mgvi.read(adata)
    batch = data.rows(np.arange(120))
    with torch.no_grad():
        moments = mgvi.guide.moments(batch.counts, batch.covariates)
    nats = mgvi.summary(adata).latents.set_index("latent")["nats"]
    for copy in mgvi.families.copies:
        own = np.isin(data.group_n, [mgvi.schema.groups.index(g) for g in copy.groups])
        used = mgvi.model.active.of(copy).numpy()
        loc, scale = (part[copy.index].numpy()[own][:, used] for part in moments[copy.latent])
        kl = 0.5 * (loc**2 + scale**2 - 1) - np.log(scale)
        np.testing.assert_allclose(nats[copy.key], kl.sum(1).mean(), rtol=1e-3, atol=1e-5)


def test_only_some_cells_of_each_group_are_looked_at(adata, monkeypatch):
    mgvi = fitted(adata)
    monkeypatch.setattr("pyro_mgvi.analysis.fit_summary.summary.CELLS", 30)
    monkeypatch.setattr("pyro_mgvi.analysis.fit_summary.summary.LEAST", 8)
    seen = []
    posteriors = type(mgvi).posteriors

    def counted(self, data, *arguments, **settings):
        seen.append(np.bincount(data.group_n, minlength=3).max())
        return posteriors(self, data, *arguments, **settings)

    monkeypatch.setattr(type(mgvi), "posteriors", counted)
    assert mgvi.summary(adata).latents["cells"].tolist()[0] == 120
    assert seen and max(seen) <= 10


def test_why_training_ended(adata):
    mgvi = fitted(adata)
    epochs = np.arange(1, 31)
    mgvi.plan = TrainingPlan(max_epochs=60, search=None, patience=15)
    loss = falling(30, 0.0)
    for best, expected in ((15, "15 epochs without a better loss"), (29, "hurried to its end")):
        mgvi.history = pd.DataFrame(
            {"epoch": epochs, "validation": loss, "training": 1, "kept": epochs == best}
        )
        found = mgvi.summary(adata)
        assert expected in found.stopped and found.converged, best
        assert f"{loss[best - 1]:.2f} nats per cell" in found.loss
    mgvi.history = continued(mgvi.history.assign(validation=falling(30, 0.1)), mgvi.history)
    found = mgvi.summary(adata)  # of the last training, not of both together
    assert found.epochs == 60 and "hurried to its end" in found.stopped and found.converged
    mgvi.history = mgvi.history.iloc[30:].drop(columns="kept")  # as in a model of an old format
    assert f"{loss.min():.2f} nats per cell" in mgvi.summary(adata).loss
    mgvi.history["kept"] = np.arange(30) == 28
    mgvi.interrupted = True
    found = mgvi.summary(adata)
    assert found.stopped.startswith("interrupted by") and found.converged is None
    mgvi.interrupted = False
    mgvi.history["validation"] = falling(30, 0.02)
    assert "max_epochs=120" in mgvi.summary(adata).next_step
    assert "not converged: raise max_epochs" in str(mgvi.summary(adata))
    mgvi.history = pd.DataFrame()
    assert mgvi.summary(adata).stopped.startswith("trained by a loop")


def test_cells_with_far_more_counts_than_others_are_named():
    x = np.random.default_rng(0).poisson(8.0, (240, 40))
    mgvi = MGVI.from_anndata(make(x, tissue=["a", "b"] * 120), "tissue", latents=["z:2", "t:1"])
    usual = mgvi.read(make(x, tissue=["a", "b"] * 120))
    assert not list(hints(mgvi, usual, usual))
    x[[23, 40], 5] = 1_000_000
    broken = mgvi.read(make(x, tissue=["a", "b"] * 120))
    (said,) = hints(mgvi, broken, broken)
    assert said.startswith("2 of 240 cells looked at have more than 20 times the counts")
    assert said.endswith("leave them out; the first is adata.obs_names[23]")


def test_doubtful_data_are_named():
    rng = np.random.default_rng(0)
    groups = ["big"] * 190 + ["little"] * 10
    counts = rng.poisson(3.0, (200, 5)) + 1.0
    counts[:190] *= 9
    donor = [f"{group}{i % 2}" for i, group in enumerate(groups)]
    cells = make(counts, tissue=groups, donor=donor)
    with pytest.warns(UserWarning, match="nested"):
        mgvi = MGVI.from_anndata(cells, "tissue", batch_key="donor", latents=["z:2", "t:1"])
    said = list(hints(mgvi, mgvi.read(cells), mgvi.read(cells)))
    assert "big holds 95% of the cells" in said[0]
    assert "fewer than 100 cells" in said[1] and "little (10)" in said[1]
    assert "each batch (donor) is within one group" in said[2]
    assert "the median cell has" in said[3] and "big has" in said[4] and len(said) == 5
    fine = make(np.full((400, 5), 100.0), tissue=["a", "b"] * 200, donor=["x", "x", "y", "y"] * 100)
    mgvi = MGVI.from_anndata(fine, "tissue", batch_key="donor", latents=["z:2", "t:1"])
    assert not list(hints(mgvi, mgvi.read(fine), mgvi.read(fine)))


def test_advice_follows_what_was_found():
    assert "mgvi.programs" in next_step(True, 60, ["t_a"], True)
    assert "mgvi.rank_genes" in next_step(True, 60, [], True)
    assert "max_epochs=120" in next_step(False, 60, ["t_a"], True)
    assert "too short" in next_step(None, 60, [], True)
    assert "mgvi.programs" in next_step(None, 60, ["t_a"], False)


def test_a_notebook_shows_names_as_they_are(adata):
    named = adata.copy()
    named.obs["group"] = named.obs["group"].cat.rename_categories({"group1": "<b>a&"})
    named.var_names = [f"<i>{gene}" for gene in named.var_names]
    found = fitted(named).summary(named)
    tags = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append(tag)
    parser.feed(found._repr_html_())
    assert "table" in tags and not {"b", "i"} & set(tags)


def test_a_shared_latent_whose_dimensions_are_all_in_use_may_lack_room(adata):
    mgvi = MGVI.from_anndata(adata, "group", latents=["z:10", "t:5"])
    (said,) = crowded(mgvi)
    assert said.startswith("10 of the 10 dimensions of z are in use") and "z:20" in said
    closed = torch.zeros(1, 10, dtype=torch.bool)
    closed[0, :2] = True
    mgvi.model.active.close({"z": closed})
    assert not list(crowded(mgvi))
    alone = MGVI.from_anndata(adata, "group", latents=["z:10"])
    assert not list(crowded(alone))  # no other latent takes what it has no room for


def test_a_crowded_latent_is_said_of_a_training_that_converged(adata):
    mgvi = MGVI.from_anndata(adata, "group", latents=["z:2", "t:2"])
    mgvi.fit(adata, max_epochs=2, progress=False)
    assert not [hint for hint in mgvi.summary(adata).hints if "dimensions of z" in hint]
    mgvi.plan = TrainingPlan(max_epochs=60)
    mgvi.history = pd.DataFrame({"validation": np.full(60, 100.0), "epoch": 1 + np.arange(60)})
    found = mgvi.summary(adata)
    assert found.converged and [hint for hint in found.hints if "2 of the 2 dimensions" in hint]
