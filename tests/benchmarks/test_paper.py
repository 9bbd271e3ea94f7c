"""The paper's benchmark in small: what it writes, that it resumes, and what it refuses."""

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks import paper, paper_scores
from pyro_mgvi.baselines import Fitted
from pyro_mgvi.datasets import clear_recipe


def arguments(out, *more):
    few = ["--methods", "MGVI", "scVI + MGFA 5+5", "--rankings", "likelihood ratio"]
    return ["--quick", "--epochs", "1", "--jobs", "1", "--out", str(out), *few, *more]


@pytest.mark.slow
def test_writes_everything_and_resumes(tmp_path, capsys):
    out = tmp_path / "run"
    paper.main(arguments(out))
    table = pd.read_csv(out / "figure3.csv")
    assert list(table) == ["method", "seed", "metric", "value"]
    assert not table.duplicated(["method", "seed", "metric"]).any()
    assert set(table.method) == {"ceiling", "chance", "MGVI", "scVI + MGFA 5+5"}
    mine = table[table.method == "MGVI"].set_index(["metric", "seed"]).value
    for metric in ("type ARI", "group silhouette", "program ARI, group2", "CKA of seeds, t_group1"):
        assert {0, 1} == set(mine[metric].index)
    assert mine["null: private -> type, group1"].index == [0]
    oracle = table[(table.method == "ceiling") & (table.metric == "program ARI, group1")].value
    assert oracle.item() > 0.9
    genes = pd.read_csv(out / "figure4.csv")
    assert set(genes.ranking) == {"likelihood ratio"} and genes.n.max() == 200
    assert (genes.fraction <= genes.ceiling + 1e-9).all()
    assert set(genes.method) == {"MGVI"}  # the other one has no likelihood
    text = (out / "table.md").read_text()
    assert "likelihood ratio, group2, top 100" in text
    assert "| ceiling |" in text and " ± " in text and text in capsys.readouterr().out
    assert all((out / f"figure{i}.png").stat().st_size > 10_000 for i in (2, 3, 4))

    lost, kept = (out / "runs" / f"MGVI.{seed}.json" for seed in (1, 0))
    before, text_before = kept.stat().st_mtime_ns, json.loads(lost.read_text())
    lost.unlink()
    paper.main(arguments(out, "--resume"))
    assert kept.stat().st_mtime_ns == before
    assert json.loads(lost.read_text())["scores"]["type ARI"] == text_before["scores"]["type ARI"]


@pytest.mark.slow
def test_takes_cells_that_were_simulated_elsewhere(tmp_path, capsys):
    adata = clear_recipe(0, n_cells=200, n_shared_genes=100, n_program_genes=100)
    adata.var = adata.var[["is_program", "DEFacP1", "DEFacP2", "DEFacP3", "DEFacP4"]]
    adata.write_h5ad(tmp_path / "other.h5ad")
    few = ["--methods", "GMDF", "iNMF", "Separate NMF", "--seeds", "1", "--null-seeds", "0"]
    more = ["--rankings", "--jobs", "1", "--out", str(tmp_path / "run")]
    paper.main(["--data", str(tmp_path / "other.h5ad"), *few, *more])
    assert "## other\n" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "run" / "figure3.csv").set_index(["method", "metric"]).value
    assert table["ceiling", "program ARI, group1"] > 0.8  # which needs no factors of types
    assert ("ceiling", "type ARI") not in table.index
    for name in ("GMDF", "iNMF", "Separate NMF"):
        assert 0 <= table[name, "private -> type, group2"] <= 1
    # iNMF has one set of scores for both: its private latent tells what the shared one tells.
    assert table["iNMF", "shared -> type"] == pytest.approx(
        table["iNMF", "private -> type, group1"], abs=0.15
    )


def refused(capsys, *options):
    with pytest.raises(SystemExit) as stop:
        paper.main(list(options))
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_refuses_bad_input_and_leaves_nothing(tmp_path, capsys, monkeypatch):
    out = tmp_path / "run"
    assert "'magic'; known: MGVI" in refused(
        capsys, "--quick", "--out", str(out), "--methods", "magic"
    )
    assert "invalid choice: 'soup'" in refused(capsys, "--recipe", "soup", "--out", "x")
    assert "--epochs must be at least 1" in refused(capsys, *arguments(out, "--epochs", "-1"))
    assert "no file nowhere.h5ad" in refused(
        capsys, "--data", "nowhere.h5ad", "--rankings", "--out", str(out)
    )
    monkeypatch.setattr(paper, "find_spec", lambda name: None)
    error = refused(capsys, "--quick", "--out", str(out))
    assert 'captum, hotspot missing: pip install "pyro-mgvi[benchmark]"' in error
    assert not out.exists()


def test_refuses_a_folder_of_another_run(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert "something else" in refused(capsys, *arguments(tmp_path, "--resume"))
    out = tmp_path / "run"
    out.mkdir()
    record = {"recipe": "clear", "data_seed": 0, "quick": True, "epochs": 1}
    (out / "settings.json").write_text(json.dumps(record))
    assert "go on with --resume" in refused(capsys, *arguments(out))
    error = refused(capsys, *arguments(out, "--resume", "--recipe", "paper"))
    assert "other settings (recipe 'clear')" in error
    assert [path.name for path in out.iterdir()] == ["settings.json"]


@pytest.mark.slow
def test_scores_of_the_truth_reach_the_ceilings():
    adata = clear_recipe(0, n_cells=400, n_shared_genes=100, n_program_genes=150)
    rng = np.random.default_rng(0)
    codes = {key: adata.obs[key].cat.codes.to_numpy() for key in ("celltype", "group", "program")}
    noise = 0.05 * rng.normal(size=(400, 5))
    z = np.eye(5)[codes["celltype"]] + noise
    t = {}
    for code, group in enumerate(adata.obs["group"].cat.categories):
        t[group] = np.eye(4)[codes["program"]] + 0.05 * rng.normal(size=(400, 4))
        t[group][codes["group"] != code] = np.nan
    latents = {"z": z, "t": t}
    found = paper_scores.scores(adata, latents, latents)
    ceiling, chance = paper_scores.references(adata)
    assert all(found[metric] >= value - 1e-9 for metric, value in ceiling.items())
    for metric, value in chance.items():
        if not metric.startswith("null"):
            assert found[metric] == pytest.approx(value, abs=0.12), metric
    leaky = {"z": z + 3 * codes["group"][:, None], "t": t}
    assert paper_scores.scores(adata, leaky, leaky)["shared -> group"] > 0.95


def test_carriers_are_the_genes_that_a_program_of_the_group_changes():
    adata = clear_recipe(0, n_cells=100, n_shared_genes=50, n_program_genes=100)
    genes = paper_scores.carriers(adata, "group1")
    changed = (adata.var[["DEFacP1", "DEFacP2"]] != 1).any(axis=1)
    assert list(genes) == list(adata.var_names[changed]) and 40 < len(genes) < 90
    assert all(gene.startswith("program") for gene in genes)


def test_latents_out_of_use_score_nothing_and_rank_nothing():
    adata = clear_recipe(0, n_cells=100, n_shared_genes=50, n_program_genes=20)
    t = {}
    for group in adata.obs["group"].cat.categories:
        t[group] = np.zeros((100, 3))
        t[group][(adata.obs["group"] != group).to_numpy()] = np.nan
    fitted = Fitted({"z": np.zeros((100, 3)), "t": t}, {"z": np.zeros((100, 3)), "t": t})
    found = paper_scores.scores(adata, fitted.means, fitted.draws)
    assert found["program ARI, group1"] == 0 and found["active private units, group1"] == 0
    assert found["private -> type, group1"] == pytest.approx(0.2)
    assert np.isfinite(list(found.values())).all()
    rows = paper_scores.recovery(adata, fitted, ["integrated gradients", "Hotspot"])
    assert rows == []
