"""The report of a model of several modalities: from Python and a shell, with and without it."""

import re

import numpy as np
import pandas as pd
import pytest
from helpers.html_reader import Reader, number
from helpers.modalities import LIKELIHOODS, fitted_mosaic, mosaic, mudata_of

from pyro_mgvi import MGVI, DataError
from pyro_mgvi.cli.main import main
from pyro_mgvi.report import render, write_report
from pyro_mgvi.report.explorer.genes import observed
from pyro_mgvi.report.findings import findings
from pyro_mgvi.report.rankings import Rankings
from pyro_mgvi.report.result import Result
from pyro_mgvi.report.sections.programs import programs_of

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.fixture(scope="module")
def fitted():
    """Three donors, of which the first has no proteins; labels are in the modalities' obs."""
    return fitted_mosaic(max_epochs=2)  # what is noise is closed later


@pytest.mark.slow
def test_the_page_tells_the_modalities_apart(fitted, tmp_path):
    mdata, mgvi = fitted
    write_report(tmp_path / "r.html", mdata, mgvi, labels=["kind"], progress=False)
    reader = Reader((tmp_path / "r.html").read_text())
    latents = reader.table("latent", "belongs to").set_index("latent")
    assert latents["reaches"].to_dict() == {
        **dict.fromkeys(("z", "t_d0", "t_d1", "t_d2"), "all"),
        "rna": "rna",
        "prot": "prot",
    }
    assert latents.at["prot", "belongs to"] == "all groups with prot"
    for name, part in mdata.mod.items():
        depth = part.to_df().sum(axis=1).groupby(part.obs["donor"]).median().round()
        found = [
            {row[0]: number(row[2]) for row in rows}
            for head, *rows in reader.tables
            if head[-1] == "features per cell"
        ]
        assert depth.to_dict() in found, name


def test_columns_that_nobody_asked_for_are_no_obstacle(fitted):
    mdata, mgvi = fitted
    for whose in ("mdata", "mdata['rna']"):
        changed = mdata.copy()
        obs = (changed if whose == "mdata" else changed["rna"]).obs
        obs["clones"] = [[i % 3] for i in range(len(obs))]
        obs["n"], obs["m"] = "x", "y"
        obs.columns = [*obs.columns[:-1], "n"]
        assert Result.read(changed, mgvi).labels == Result.read(mdata, mgvi).labels
        with pytest.raises(DataError, match=re.escape(f"{whose}.obs has several columns 'n'")):
            Result.read(changed, mgvi, labels=["n"])


def test_programs_are_of_genes_and_of_proteins(fitted):
    mdata, mgvi = fitted
    result = Result.read(mdata, mgvi, labels=["kind"])
    table = programs_of(result, Rankings.of(result), top=3).blocks[1].items[0].frame
    modality = table["gene"].str.partition(":")[0]
    counts = modality.groupby([table["latent"], table["dimension"]]).value_counts()
    used = {copy.key for copy, _, _ in result.copies()} - {"z"}
    assert set(table["latent"]) == used
    for (latent, _, name), n in counts.items():
        assert n == 3 and (name == latent or latent not in LIKELIHOODS)
    assert set(modality[table["latent"] == "t_d1"]) == {"rna", "prot"}
    assert set(modality[table["latent"] == "t_d0"]) == {"rna"}


def test_a_latent_of_one_modality_is_shared_by_all_that_have_it(fitted):
    mdata, mgvi = fitted
    result = Result.read(mdata, mgvi, labels=["kind"])
    shared = {copy.key for copy, _, _ in result.copies() if copy.shared}
    assert shared == {"z", "rna", "prot"}
    said = [block for block in findings(result, Rankings.of(result), ()).blocks]
    text = " ".join(str(block) for block in said)
    assert "of 3 private latents" in text and "prot (of prot alone): " in text


@pytest.mark.slow
def test_the_page_without_the_model_has_the_same_latents(fitted):
    mdata, mgvi = fitted
    full, short = (Reader(render(mdata, model, progress=False)) for model in (mgvi, None))
    for columns in (("latent", "belongs to"), ("latent", "can it tell")):
        pd.testing.assert_frame_equal(full.table(*columns), short.table(*columns))
    assert dict(short.table("setting").to_numpy())["modalities"] == "rna prot"
    assert "RESULT.h5mu" in render(mdata, progress=False)


def test_observed_expression_is_at_the_depth_of_its_modality(fitted):
    mdata, mgvi = fitted
    result = Result.read(mdata, mgvi)
    names = ["rna:rna3", "prot:prot2"]
    found = observed(result, np.arange(60), names)
    for i, (name, part) in enumerate(zip(names, mdata.mod.values())):
        x = part.to_df()
        logs = np.log1p(1e4 * x[name.partition(":")[2]] / x.sum(axis=1))
        assert found["low"][i] == pytest.approx(logs.min(), abs=1e-5)
        assert found["high"][i] == pytest.approx(logs.max(), abs=1e-5)


def test_what_does_not_fit_is_named(fitted):
    mdata, mgvi = fitted
    one = MGVI.from_anndata(mdata.mod["rna"], "donor", latents=["z:2"])
    with pytest.raises(DataError, match="the model is of one AnnData, and the result has several"):
        render(mdata, one, progress=False)
    with pytest.raises(DataError, match=r"'organ' is a column neither of mdata\.obs nor"):
        render(mdata, mgvi, labels=["organ"], progress=False)
    bare = mudata_of({name: part.copy() for name, part in mdata.mod.items()})
    with pytest.raises(DataError, match=r"no uns\['mgvi'\]"):
        render(bare, progress=False)
    with pytest.raises(DataError, match=r"obsm\['X_mgvi_z'\] is missing"):
        render(bare, mgvi, progress=False)


@pytest.mark.slow
def test_a_shell_makes_it_with_a_diagnosis(tmp_path, capsys):
    mosaic(prot="d0").write_h5mu(tmp_path / "in.h5mu")
    source, out, model, page = (str(tmp_path / x) for x in ("in.h5mu", "y.h5mu", "m", "r.html"))
    fit = ["fit", source, "--group-key", "donor", "--out", out, "--model", model, "--epochs", "3"]
    assert main([*fit, "--quiet"]) == 0
    report = ["report", out, "--model", model, "--out", page, "--labels", "kind"]
    assert main([*report, "--diagnose", "--epochs", "1", "--quiet"]) == 0
    reader = Reader((tmp_path / "r.html").read_text())
    assert set(reader.table("latent", "worth")["latent"]) >= {"z", "rna", "prot", "t_d1"}
    programs = ["programs", model, out, "--no-q", "--out", str(tmp_path / "p.csv"), "--quiet"]
    assert main(programs) == 0
    found = pd.read_csv(tmp_path / "p.csv")
    of_one = found[found["latent"] == "prot"]["gene"]
    assert len(of_one) and of_one.str.startswith("prot:").all()
