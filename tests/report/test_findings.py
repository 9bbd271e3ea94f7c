"""The findings are those of the fit, and nothing is claimed that the fit does not say."""

import numpy as np
import pandas as pd
import pytest
from helpers.html_reader import Reader
from hypothesis import given
from hypothesis import strategies as st

import pyro_mgvi
from pyro_mgvi.report.blocks import Doubts, Hint, Paragraph, Verdict
from pyro_mgvi.report.findings import findings, where_it_varies
from pyro_mgvi.report.probes import Probe, probes
from pyro_mgvi.report.rankings import Rankings
from pyro_mgvi.report.result import Result


def blocks(result, kind, read=()):
    told = findings(result, Rankings.of(result), read).blocks
    return [block for block in told if isinstance(block, kind)]


def test_private_latents_are_told_with_the_genes_of_the_summary(fitted):
    adata, mgvi = fitted
    result = Result.read(adata, mgvi, labels=["celltype"])
    (verdict,) = blocks(result, Verdict)
    for group in result.groups:
        first = mgvi.rank_genes(adata, group, calibration=False).index[:5]
        assert f"{', '.join(first)} in {group}" in blocks(result, Paragraph)[1].text
    told = pyro_mgvi.MGVI.summary(mgvi, adata).latents.set_index("latent")
    private = [key for key in told.index if key != "z"]
    assert len(verdict.sentences) == len(private) == 3
    by_nats = sorted(private, key=lambda key: -told.at[key, "nats"])
    for key, sentence in zip(by_nats, verdict.sentences):
        row = told.loc[key]
        assert sentence.startswith(f"{key} (of {row['owns']}): {row['in_use']} of 2 dimensions")
        assert row["genes"].split(",")[0] in sentence


def test_what_is_empty_is_not_told_as_found(fitted):
    adata = fitted[0].copy()
    for key in [key for key in adata.obsm if key.startswith("X_mgvi_t")]:
        values = np.array(adata.obsm[key])
        values[np.isfinite(values)] = 0.0
        adata.obsm[key] = values
    result = Result.read(adata)
    assert "No private latent is in use" in blocks(result, Paragraph)[0].text
    assert blocks(result, Verdict) == []
    assert "--model MODEL" in blocks(result, Hint)[-1].command


def test_a_latent_that_tells_the_groups_is_said_to_mix_badly(fitted):
    adata = fitted[0].copy()
    noise = np.random.default_rng(0).normal(size=(120, 3))
    shift = adata.obs["group"].cat.codes.to_numpy()[:, None] * np.array([[20.0, 0.0, 0.0]])
    for values, mixed in ((noise, True), (noise + shift, False)):
        adata.obsm["X_mgvi_z"] = values
        result = Result.read(adata, labels=["celltype"])
        read = tuple(probes(result))
        text = blocks(result, Paragraph, read)[0].text
        assert ("The groups mix well in z" in text) == mixed
        doubts = [s for block in blocks(result, Doubts, read) for s in block.sentences]
        assert any("z tells the groups apart" in s for s in doubts) != mixed


def test_probes_are_read_as_the_latent_is_owned(fitted):
    result = Result.read(fitted[0], labels=["celltype"])
    shared, private = (next(c for c in result.latents.copies if c.shared == s) for s in (1, 0))
    assert Probe(shared, "group", 0.3, 0.3).reading("group") == "no"
    assert Probe(shared, "group", 0.9, 0.3).reading("group") == "yes: a leak"
    assert Probe(shared, "celltype", 0.9, 0.2).reading("group") == "yes"
    assert Probe(private, "celltype", 0.9, 0.2).reading("group").endswith("if celltype is shared")
    every = Probe(shared, "group", 0.9, 0.3, elsewhere=False)  # as all cells own it
    assert every.reading("group") == "yes: a leak"
    own = Probe(private, "celltype", 0.9, 0.2, elsewhere=False)
    assert own.reading("group") == "yes: of labels that only its cells have"


def test_labels_of_one_group_alone_are_no_leak_into_its_latent(fitted):
    adata = fitted[0].copy()
    t = adata.obsm["X_mgvi_t_plain"][:, 0]  # which will tell every column made of it
    side = np.where(t > np.nanmedian(t), "high", "low")
    mine = np.isfinite(t)
    adata.obs["alone"] = np.where(mine, side, "other")
    adata.obs["both"] = np.where(mine, side, np.where(np.arange(120) % 2, "high", "low"))
    for column, leaks in (("alone", False), ("both", True)):
        result = Result.read(adata, labels=[column])
        read = tuple(probes(result))
        (found,) = (p for p in read if p.copy.key == "t_plain" and p.column == column)
        assert found.tells and found.elsewhere == leaks
        said = " ".join(s for block in blocks(result, Doubts, read) for s in block.sentences)
        assert (f"t_plain ({column})" in said) == leaks


@given(st.integers(0, 10**6))
def test_the_share_between_labels_is_the_correlation_ratio(seed):
    rng = np.random.default_rng(seed)
    label_n = np.repeat([0, 1, 2], 15)
    values = rng.normal(size=45) + label_n * rng.uniform(1, 4)
    overall = values.mean()
    between = sum(15 * (values[label_n == k].mean() - overall) ** 2 for k in range(3))
    share = between / ((values - overall) ** 2).sum()
    text = where_it_varies(values[:, None], pd.Series(label_n).map(str), "type")
    if share >= 0.1:
        assert text.startswith(f"{100 * share:.0f}\N{NO-BREAK SPACE}% of its variance")
    else:
        assert text.startswith("It varies within labels of type")


def test_it_is_said_within_which_labels_a_latent_varies():
    label_n = np.repeat(["a", "b", "c", "rare"], [50, 50, 50, 5])
    scale = np.array([{"a": 0.1, "b": 0.1, "c": 3.0, "rare": 9.0}[name] for name in label_n])
    values = scale * np.tile([-1.0, 1.0], 78)[:155]
    text = where_it_varies(values[:, None], pd.Series(label_n), "type")
    assert text == "It varies within labels of type, most in c."
    assert where_it_varies(values[:, None], pd.Series(["same"] * 155), "type") == ""


@pytest.mark.slow
def test_the_page_opens_with_the_findings(page):
    reader = Reader(page)
    assert next(a["id"] for tag, a in reader.tags if tag == "section") == "findings"
    assert reader.texts["h3"][0] == "What is doubtful"
