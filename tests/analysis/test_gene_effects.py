"""Effects of dimensions against loadings and formulas, and their scores on unseen cells."""

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.models import moved_decoder
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from pyro_mgvi import MGVI, CrossFit, DataError, LogLinearDecoder, SettingsError
from pyro_mgvi.analysis.gene_effects import unseen
from pyro_mgvi.analysis.gene_effects.table import _p_values
from pyro_mgvi.analysis.gene_effects.unseen import _fold_scores, shrunk
from pyro_mgvi.datasets import clear_recipe


def wide(table, key):
    """Return the effects of a latent, genes x dims in the order of its dimensions."""
    chosen = table[table["latent"] == key]
    return chosen.pivot(index="gene", columns="dimension", values="effect")


def spread(mgvi, adata, key, mine):
    """Return the standard deviation of the cells' posteriors taken together."""
    data = mgvi.read(adata)
    batch = data.rows(np.flatnonzero(mine))
    copy = next(copy for copy in mgvi.families.copies if copy.key == key)
    with torch.no_grad():
        loc, scale = mgvi.guide.moments(batch.counts, batch.covariates)[copy.latent]
    loc, scale = (part[copy.index].numpy().astype(float) for part in (loc, scale))
    return np.sqrt(loc.var(0) + (scale**2).mean(0))


def test_the_effect_of_a_log_linear_decoder_is_its_loading(adata):
    mgvi, _ = moved_decoder(adata, LogLinearDecoder)
    table = mgvi.programs(adata, ["z", "t_group2"], calibration=False)
    group2 = (adata.obs["group"] == "group2").to_numpy()
    for key, mine in (("z", np.ones(120, bool)), ("t_group2", group2)):
        effect = wide(table, key).loc[list(adata.var_names)].to_numpy()
        loading = mgvi.loadings(key).to_numpy() * spread(mgvi, adata, key, mine) / np.log(2)
        sign = table[table["latent"] == key].groupby("dimension")["orientation"].first()
        loading = loading * sign.to_numpy()
        np.testing.assert_allclose(effect - effect.mean(0), loading - loading.mean(0), atol=1e-4)


def test_the_effect_of_any_decoder_is_that_of_its_expression(trained, adata):
    """Written out for the joint decoder: a hidden layer beside linear terms and offsets."""
    mine = (adata.obs["group"] == "group2").to_numpy()
    batch = trained.read(adata).rows(np.flatnonzero(mine))
    d, groups = trained.model.decoder, len(trained.schema.groups)
    code = trained.schema.groups.index("group2")
    step = torch.tensor(spread(trained, adata, "t_group2", mine) / 2).float()
    table = trained.programs(adata, "t_group2", calibration=False)
    effect = wide(table, "t_group2").loc[list(adata.var_names)]
    with torch.no_grad():
        moments = trained.guide.moments(batch.counts, batch.covariates)
        (z,), t = moments["z"][0], moments["t"][0]
        own = d.offset[code] + z @ d.response.unflatten(0, (groups, -1))[code]
        for dim in effect.columns:
            sides = []
            for way in (1, -1):
                moved = t[code].clone()
                moved[:, dim - 1] += way * step[dim - 1]
                copies = [moved if g == code else torch.zeros_like(moved) for g in range(groups)]
                inputs = torch.cat([z, *copies], -1)
                rate = d.heads[0](torch.relu(d.trunk(inputs))) + inputs @ d.linear + own
                sides.append(rate.double().log_softmax(-1).numpy() / np.log(2))
            by_hand = (sides[0] - sides[1]).mean(0)
            rows = table[table["dimension"] == dim]
            np.testing.assert_allclose(
                effect[dim], rows["orientation"].iloc[0] * by_hand, atol=1e-4
            )
            mean = 1e4 * trained.normalized_expression(adata)[mine].mean()
            information = mean * (np.log(2) * by_hand) ** 2
            assert rows["gene"].iloc[0] == information.idxmax() and rows["effect"].iloc[0] > 0
            assert rows["information"].is_monotonic_decreasing
            found = rows.set_index("gene").loc[information.index]
            np.testing.assert_allclose(found["information"], information, rtol=1e-2, atol=1e-6)
            np.testing.assert_allclose(found["mean"], mean, rtol=1e-4)


def test_other_cells_do_not_matter_and_closed_dimensions_are_left_out(trained, adata):
    alone = adata[(adata.obs["group"] == "group1").to_numpy()].copy()
    everything = trained.programs(adata, calibration=False)
    pd.testing.assert_frame_equal(
        everything[everything["latent"] == "t_group1"].reset_index(drop=True),
        trained.programs(alone, "t_group1", calibration=False),
        rtol=1e-4,
    )
    assert set(everything["latent"]) <= {"t_group1", "t_group2", "t_group3"}
    assert everything[["z_score", "q_value"]].isna().all(axis=None)
    half = torch.tensor([[False, True], [True, True], [True, True]])
    trained.model.active.close({"t": half})
    left = trained.programs(adata, calibration=False)
    assert set(zip(left["latent"], left["dimension"])) == {("t_group1", 1)}
    trained.model.active.close({"t": ~half})
    none = trained.programs(adata)  # nothing to test: nothing is refitted
    assert len(none) == 0 and list(none.columns) == list(left.columns)
    with pytest.raises(DataError, match="no cell owns t_group2: it belongs to group2"):
        trained.programs(alone, "t_group2", calibration=False)
    with pytest.raises(SettingsError, match="unknown latent"):
        trained.programs(adata, "u", calibration=False)


def noise(seed=0, n=400, genes=60):
    """Return cells of two groups without any structure."""
    adata = clear_recipe(seed, n_cells=n, n_shared_genes=genes - 10, n_program_genes=10)
    adata.X = np.random.default_rng(seed).poisson(3.0, adata.shape).astype(np.float32)
    return adata


def shaken(adata, seed, latents=("z:2", "t:2")):
    """Return a model whose encoders say something about every gene, and are never trained."""
    mgvi = MGVI.from_anndata(adata, "group", latents=latents, seed=seed)
    torch.manual_seed(seed)
    for parameter in mgvi.guide.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return mgvi


def test_a_gene_is_hidden_from_the_encoder_that_places_the_cells_it_is_tested_on(monkeypatch):
    adata = noise()
    mgvi = shaken(adata, 1)
    data = mgvi.read(adata)
    own = data.subset(np.flatnonzero(data.group_n == 0))
    copy = mgvi.families.copies_of("t")[0]
    map_kd = np.vstack([np.zeros(2), np.eye(2)])
    z_dg = _fold_scores(mgvi, own, copy, map_kd, seed=0)
    assert z_dg.std() < 1.25 and abs(z_dg.mean()) < 0.25  # 120 scores, standard normal
    see = mgvi.posterior
    monkeypatch.setattr(mgvi, "posterior", lambda batch, seen_g=None: see(batch))
    assert _fold_scores(mgvi, own, copy, map_kd, seed=0).std() > 1.6


@pytest.mark.slow
def test_a_dimension_that_no_refit_has_found_has_no_gene():
    adata = noise()
    mgvi, refits = shaken(adata, 1), [shaken(adata, seed) for seed in (2, 3)]
    same, others = (CrossFit(pair, np.arange(400) % 2, 0) for pair in ((mgvi, mgvi), tuple(refits)))
    z = mgvi.programs(adata, calibration=same)["z_score"]
    assert (z != 0).sum() > 200 and 0.85 < z.std() < 1.15  # of 240, standard normal
    assert (mgvi.programs(adata, calibration=others)["z_score"] == 0).all()  # other directions
    closed = {"t": torch.ones(2, 2, dtype=torch.bool)}
    for refit in refits:
        refit.model.active.close(closed)
    halves = CrossFit(tuple(refits), np.arange(400) % 2, 0)
    table = mgvi.programs(adata, calibration=halves)
    assert (table["z_score"] == 0).all() and (table["q_value"] == 1).all()
    shared = mgvi.programs(adata, "z", calibration=halves)
    assert shared["q_value"].isna().all() and len(shared) == 2 * 60
    few = adata[np.r_[0:60, 200:260]].copy()
    fewer = CrossFit(tuple(refits), np.arange(120) % 2, 0)
    assert mgvi.programs(few, calibration=fewer)["q_value"].isna().all()
    with pytest.raises(DataError, match="refits are of 400 cells"):
        mgvi.programs(few, calibration=halves)


def test_each_refit_is_tested_on_the_cells_that_it_has_not_seen(monkeypatch):
    adata, tested = noise(), []
    mgvi, refits = shaken(adata, 1), (shaken(adata, 1), shaken(adata, 1))

    def scores(refit, data, copy, map_kd, seed, progress):
        tested.append((copy.key, refits.index(refit), data.cells))
        return np.zeros((2, 60))

    monkeypatch.setattr(unseen, "_fold_scores", scores)
    fold_n = np.random.default_rng(0).integers(2, size=400)
    mgvi.programs(adata, calibration=CrossFit(refits, fold_n, 0))
    assert len(tested) == 4
    for key, fold, cells in tested:
        own_n = (adata.obs["group"] == key[2:]).to_numpy()
        np.testing.assert_array_equal(cells, np.flatnonzero(own_n & (fold_n == fold)))


def test_a_gene_that_goes_against_its_effect_is_never_called():
    p_g = _p_values(np.array([3.0, -3.0, 3.0, 0.0]), np.array([0.5, -0.5, -0.5, 0.5]))
    np.testing.assert_allclose(p_g, [0.0026998, 0.0026998, 1.0, 1.0], rtol=1e-4)


@pytest.mark.slow
def test_a_refit_counts_for_the_dimensions_that_it_has_found():
    adata = noise()
    mgvi, refit = shaken(adata, 1), shaken(adata, 1)
    refit.model.active.close({"t": torch.tensor([[False, True], [False, True]])})
    half_n = np.arange(400) % 2
    table = mgvi.programs(adata, calibration=CrossFit((refit, refit), half_n, 0))
    z = table.set_index(["dimension", "latent"])["z_score"]
    assert (z[1] != 0).mean() > 0.8 and (z[2] == 0).all()
    table = mgvi.programs(adata, calibration=CrossFit((mgvi, refit), half_n, 0))
    z = table.set_index(["dimension", "latent"])["z_score"]
    assert 0.8 < z[1].std() < 1.2 and 0.8 < z[2].std() < 1.2  # of the fold that has found it


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=30))
def test_scores_are_never_moved_away_from_zero(values):
    z_g = np.array(values)
    found = shrunk(z_g)
    assert (np.abs(found) <= np.abs(z_g) + 1e-12).all() and (found * z_g >= 0).all()


def test_the_summary_of_a_dimension_is_what_its_values_say(trained, adata):
    adata = adata.copy()
    key = "t_group2"
    values = trained.latents(adata)[key]
    t = values[f"{key}_1"].to_numpy()
    depth = np.asarray(adata.X.sum(1)).ravel()
    mine = (adata.obs["group"] == "group2").to_numpy()
    middle = np.nanmedian(t)
    adata.obs["side"] = np.where(t > middle, "high", np.where(t <= middle, "low", None))
    adata.obs["age"] = np.where(np.arange(120) % 7, np.arange(120.0) % 11, np.nan)
    adata.obs["same"], adata.obs["complex"] = 1.0, 1j * np.arange(120)
    adata.obs["elsewhere"] = np.where(mine, 0, np.arange(120))
    adata.obs["flag"] = True
    table = trained.program_summary(adata, label_key="side", latents=key).set_index("dimension")
    row, sign = table.loc[1], table.loc[1, "orientation"]
    assert row["cells"] == mine.sum() and "flag_correlation" not in table
    np.testing.assert_allclose(row["standard_deviation"], t[mine].std(), rtol=1e-4)
    np.testing.assert_allclose(
        row["depth_correlation"], sign * spearmanr(t[mine], depth[mine])[0], atol=1e-3
    )
    known = mine & adata.obs["age"].notna().to_numpy()
    expected = sign * spearmanr(t[known], adata.obs["age"][known])[0]
    np.testing.assert_allclose(row["age_correlation"], expected, atol=1e-3)
    assert np.isnan(row["elsewhere_correlation"])
    assert not {"same_correlation", "complex_correlation"} & {*table}
    sides = [t[mine & (adata.obs["side"] == side).to_numpy()] for side in ("high", "low")]
    within = sum(((x - x.mean()) ** 2).sum() for x in sides)
    total = ((t[mine] - t[mine].mean()) ** 2).sum()
    np.testing.assert_allclose(row["labels_explain"], 1 - within / total, atol=1e-4)
    order = sorted(("high", "low"), key=lambda side: -sides[("high", "low").index(side)].std())
    assert [part.split(" (")[0] for part in row["varies_in"].split(", ")] == order
    genes = trained.programs(adata, key, calibration=False).query("dimension == 1")
    told = genes[genes["information"] >= genes["information"].max() / 25]
    up, down = (told["gene"][told["effect"] * way > 0].head(8) for way in (1, -1))
    assert (row["genes_up"], row["genes_down"]) == (", ".join(up), ", ".join(down)) and len(up)
    trained.model.active.close({"t": torch.tensor([[False] * 2, [True, False], [False] * 2])})
    data = trained.read(adata)
    (posterior,) = [x for _, x in trained.posteriors(data.subset(np.flatnonzero(mine)))]
    loc, scale = (part[1, :, 1].double() for part in posterior.moments["t"])
    nats = (loc**2 + scale**2 - 1) / 2 - scale.log()  # from a standard normal
    left = trained.program_summary(adata, latents=key)
    assert left["dimension"].tolist() == [2]
    np.testing.assert_allclose(left["nats"], float(nats.mean()), rtol=1e-4)
    with pytest.raises(DataError, match="label_key 'organ' is not a column"):
        trained.program_summary(adata, label_key="organ")
    with pytest.raises(DataError, match="label_key must be the name of one column"):
        trained.program_summary(adata, label_key=["celltype"])
    counts = trained.read(adata)
    with pytest.raises(DataError, match="a column of obs, which a GroupedCounts has not got"):
        trained.program_summary(counts, label_key="celltype")
    assert "labels_explain" not in trained.program_summary(counts)


def test_a_calibration_is_refits_or_yes_or_no(trained, adata):
    with pytest.raises(SettingsError, match="calibration must be True or False, not 'yes'"):
        trained.programs(adata, calibration="yes")


@pytest.mark.slow
def test_planted_programs_are_found_with_few_errors_and_none_where_there_are_none(
    planted, nothing_planted
):
    adata = planted.adata
    table = planted.mgvi.programs(adata, calibration=planted.refits)
    assert len(table)
    for latent, rows in table.groupby("latent"):
        factors = [f"DEFac{p}" for p in adata.obs["program"][adata.obs["group"] == latent[2:]]]
        affected = adata.var[list(dict.fromkeys(factors))].nunique(axis=1) > 1
        truth, called = affected[rows["gene"]].to_numpy(), (rows["q_value"] < 0.1).to_numpy()
        assert called.sum() > 20 and truth[called].mean() > 0.85
        assert truth[:20].mean() >= 0.9

    null = nothing_planted
    untrained = shaken(
        null.adata, 0, latents=("z:10", "t:10")
    )  # dimensions of noise, all of them open
    table = untrained.programs(null.adata, calibration=null.refits)
    assert table["dimension"].max() == 10 and (table["q_value"] > 0.05).mean() > 0.99


COUNTED = "depth_of_counts"


@pytest.mark.parametrize(
    "columns, name",
    [
        (["depth"], COUNTED),
        ([COUNTED], "depth"),
        (["depth", COUNTED], f"{COUNTED}_of_counts"),
        ([COUNTED, "depth", f"{COUNTED}_of_counts"], f"{COUNTED}_of_counts_of_counts"),
    ],
)
def test_a_column_called_depth_keeps_its_correlation(adata, columns, name):
    copy, rng = adata.copy(), np.random.default_rng(3)
    for column in columns:
        copy.obs[column] = rng.normal(size=120)
    mgvi = MGVI.from_anndata(copy, "group", latents=["z:1", "t:1"])
    row, z = mgvi.program_summary(copy, latents="z").iloc[0], mgvi.latents(copy)["z"].iloc[:, 0]
    counts = np.asarray(copy.X.sum(1)).ravel()
    for key, values in {**{key: copy.obs[key] for key in columns}, name: counts}.items():
        expected = row["orientation"] * spearmanr(z, values)[0]
        assert row[f"{key}_correlation"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("depth", [1.0, "deep", True])
def test_the_name_of_the_depth_depends_on_the_columns_alone(adata, depth):
    copy = adata.copy()
    copy.obs["depth"] = depth
    mgvi = MGVI.from_anndata(copy, "group", latents=["z:1", "t:1"])
    named = mgvi.program_summary(copy, latents="z").filter(like="_correlation")
    assert list(named) == ["depth_of_counts_correlation"]
