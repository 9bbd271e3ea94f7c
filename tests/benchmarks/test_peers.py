"""The scores of peers: planted structure, chance, and the page."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from benchmarks.peers import sets
from benchmarks.peers.methods import Found
from benchmarks.peers.page import losses, table
from benchmarks.peers.scores import held_out, scaled_probe, scores, within

CELLS = 400


@pytest.fixture
def planted():
    """Three labels in two groups, a program within each group, and their true latents."""
    rng = np.random.default_rng(0)
    label, group, program = (rng.integers(n, size=CELLS) for n in (3, 2, 2))
    noise = rng.normal(size=(3, CELLS, 2))
    z = 6 * np.eye(3)[label][:, :2] + noise[0]
    t = 4 * program[:, None] + noise[1]
    obs = {"label": label, "group": group, "program": 10 * group + program}
    names = [f"cell{i}" for i in range(CELLS)]
    adata = AnnData(np.ones((CELLS, 2)), obs=pd.DataFrame(obs, index=names).astype(str))
    return adata, z, t, group


def own(t, group):
    return {str(g): np.where((group == g)[:, None], t, np.nan) for g in (0, 1)}


def test_the_truth_has_the_best_scores(planted):
    adata, z, t, group = planted
    found = scores(adata, Found(z, own(t, group)))
    assert found["label ARI"] > 0.9 and found["label probe"] > 0.9
    assert found["mixing"] > 0.85 and found["harmonic mean"] > 0.9
    assert found["program in t"] > 0.85
    assert found["label in t"] < 0.15 and found["program in z"] < 0.15


def test_a_latent_that_tells_the_group_is_not_mixed(planted):
    adata, z, _, group = planted
    told = np.column_stack([z, 6 * group])
    found = scores(adata, Found(told, {}))
    assert found["mixing"] < 0.1 and found["harmonic mean"] < 0.2
    assert within(z, adata.obs["group"].to_numpy(), adata.obs["label"].to_numpy()) < 0.15
    assert "label in t" not in found  # there is none


def test_what_latents_say_of_genes_that_no_method_has_seen(planted):
    adata, z, t, group = planted
    rng = np.random.default_rng(2)
    rate = np.exp(0.5 * t @ rng.normal(size=(2, 60)) / 4 + 3)
    var = pd.DataFrame({"held_out": np.arange(60) < 20}, index=[f"gene{i}" for i in range(60)])
    cells = AnnData(rng.poisson(rate).astype(float), obs=adata.obs, var=var)
    whole, without = (held_out(cells, Found(z, x)) for x in (own(t, group), {}))
    assert whole["held-out genes"] > 5 * without["held-out genes"]
    assert whole["held-out genes"] > 0.8 * whole["held-out genes, all others"] > 0.1
    assert whole["held-out genes, of components"] > 0.9


def test_an_empty_latent_says_nothing(planted):
    adata, _, t, group = planted
    found = scores(adata, Found(np.zeros((CELLS, 3)), own(0 * t, group)))
    assert found["label in t"] == found["program in t"] == 0.0
    assert found["label probe"] < 0.1
    assert scaled_probe(np.zeros((CELLS, 0)), adata.obs["label"].to_numpy()) == 0.0


def test_genes_are_chosen_within_groups(monkeypatch):
    rng = np.random.default_rng(1)
    group = np.repeat(["a", "b"], 100)
    depth = np.full((200, 1), 1000.0)
    share = np.full((200, 5), 0.2)
    share[group == "b", 0] = 0.3  # differs between the groups alone
    share[:, 1] = rng.permutation(np.repeat([0.1, 0.4], 100))  # varies within them
    counts = rng.poisson(depth * share / share.sum(1, keepdims=True))
    adata = AnnData(counts.astype(float))
    monkeypatch.setattr(sets, "GENES", 1)
    assert sets.most_variable(adata, group).tolist() == [1]


def test_the_page_says_where_ours_loses_and_marks_the_best():
    rows = pd.DataFrame(
        [
            {"data": d, "method": m, "seed": s, "metric": "harmonic mean", "value": v}
            for d, m, s, v in [
                ("x", "MGVI", 0, 0.5), ("x", "MGVI", 1, 0.7), ("x", "PCA", 0, 0.8),
                ("y", "MGVI", 0, 0.9), ("y", "PCA", 0, 0.1),
            ]
        ]
    )  # fmt: skip
    assert losses(rows)[1:] == ["- x: PCA 0.80, ours 0.60"]
    text = table(rows, more=True)
    assert "| MGVI | 0.60 (0.20) | **0.90** |" in text and "| PCA | **0.80** | 0.10 |" in text


@pytest.mark.slow
def test_the_command_runs_scores_and_resumes(tmp_path):
    command = [sys.executable, "-m", "benchmarks.peers", "--quick", "--methods", "PCA"]
    for _ in range(2):
        run = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
    rows = pd.read_csv(tmp_path / "peers.csv")
    assert set(rows["method"]) == {"PCA"} and not rows.duplicated(["method", "metric"]).any()
    assert "# Ours beside peers" in (tmp_path / "peers.md").read_text()
