"""The mouse intestine: tests write files of its format, and serve them from this machine."""

import gzip
import hashlib
import http.server
import threading
from functools import partial

import numpy as np
import pytest
from helpers.umi_text import REGIONS, counts, names, text, write_table

from pyro_mgvi import MGVI, DataError, SettingsError
from pyro_mgvi.datasets import intestine
from pyro_mgvi.datasets.intestine import HABER_FILE, haber_intestine, prepare


@pytest.fixture
def write(tmp_path):
    return partial(write_table, tmp_path)


def test_the_copy_is_read_until_the_text_changes(write, monkeypatch):
    x_ng, cells = counts(12, 6), names(12)
    path = write(text(x_ng, cells))
    first = haber_intestine(path, whole=False)
    assert {p.name for p in path.parent.iterdir()} == {
        HABER_FILE, HABER_FILE.replace(".txt.gz", ".mgvi.h5ad")
    }  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(intestine, "read_umi_table", lambda *_: pytest.fail("read the text again"))
        for place in (path, path.parent, str(path)):
            again = haber_intestine(place, whole=False)
            np.testing.assert_array_equal(again.X.toarray(), x_ng)
            assert again.obs.equals(first.obs) and again.uns["source"] == first.uns["source"]
    write(text(x_ng + 1, cells))
    np.testing.assert_array_equal(haber_intestine(path, whole=False).X.toarray(), x_ng + 1)
    path.with_name(HABER_FILE.replace(".txt.gz", ".mgvi.h5ad")).write_text("damaged")
    np.testing.assert_array_equal(haber_intestine(path, whole=False).X.toarray(), x_ng + 1)


def test_a_part_of_the_file_is_no_dataset_unless_asked(write, monkeypatch):
    path = write(text(counts(24, 6), names(24)))
    for _ in range(2):  # neither from the text nor from the copy
        with pytest.raises(DataError, match=r"'cells': 24.*11665.*whole=False"):
            haber_intestine(path)
        haber_intestine(path, whole=False)
    monkeypatch.setitem(intestine.HABER_SHAPE, "cells", 24)
    assert haber_intestine(path).n_obs == 24


def test_a_folder_that_cannot_be_written_gives_the_data_and_a_warning(write, monkeypatch):
    path = write(text(counts(12, 6), names(12)))

    def refuse(*args, **kwargs):
        raise PermissionError("read-only")

    monkeypatch.setattr(intestine.tempfile, "TemporaryDirectory", refuse)
    with pytest.warns(UserWarning, match="read anew: read-only"):
        assert haber_intestine(path, whole=False).n_obs == 12


class Server(http.server.BaseHTTPRequestHandler):
    """Serves ``content`` as GEO does, or only its first ``cut`` bytes."""

    content, cut = b"", None

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.send_header("Content-Encoding", "x-gzip")  # as some servers call a .gz file
        self.end_headers()
        self.wfile.write(self.content[: self.cut])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    pytest.importorskip("pooch", reason="needs the extra [tutorials]")
    handler = type("Handler", (Server,), {})
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    address = f"http://127.0.0.1:{web.server_address[1]}/{HABER_FILE}"
    monkeypatch.setattr(intestine, "HABER_URL", address)
    yield handler
    web.shutdown()
    web.server_close()


def test_it_is_downloaded_whole_or_not_at_all(server, tmp_path, monkeypatch):
    x_ng = counts(60, 80)
    server.content = gzip.compress(text(x_ng, names(60)).encode())
    server.cut = len(server.content) // 2
    monkeypatch.setenv("PYRO_MGVI_DATA", str(tmp_path / "new"))
    path = tmp_path / "new" / HABER_FILE
    with pytest.raises(DataError, match=f"could not be downloaded.*put it at {path}"):
        haber_intestine(whole=False)
    assert list(path.parent.iterdir()) == []
    server.cut = None
    adata = haber_intestine(whole=False)
    assert path.read_bytes() == server.content
    assert adata.uns["source"]["sha256"] == hashlib.sha256(server.content).hexdigest()
    np.testing.assert_array_equal(adata.X.toarray(), x_ng)


def test_a_file_that_is_there_is_not_downloaded_again(server, tmp_path):
    server.content = b"not asked for"
    write_table(tmp_path, text(counts(6, 5), names(6)))
    assert haber_intestine(tmp_path, whole=False).n_obs == 6


def test_offline_it_names_the_file_and_its_place(tmp_path, monkeypatch):
    pytest.importorskip("pooch", reason="needs the extra [tutorials]")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(intestine, "HABER_URL", f"http://127.0.0.1:9/{HABER_FILE}")  # nobody's port
    with pytest.raises(DataError, match="could not be downloaded") as caught:
        haber_intestine(tmp_path)
    assert str(tmp_path / HABER_FILE) in str(caught.value)
    assert f"http://127.0.0.1:9/{HABER_FILE}" in str(caught.value)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())
    with pytest.raises(DataError, match=r"none\.txt\.gz does not exist: download http"):
        haber_intestine(tmp_path / "none.txt.gz")


def test_without_the_extra_it_says_what_to_install(tmp_path, monkeypatch, adata):
    monkeypatch.setitem(__import__("sys").modules, "pooch", None)
    monkeypatch.setitem(__import__("sys").modules, "scanpy", None)
    with pytest.raises(SettingsError, match=r"pyro-mgvi\[tutorials\].*put it at"):
        haber_intestine(tmp_path)
    with pytest.raises(SettingsError, match=r"scanpy.*pyro-mgvi\[tutorials\]"):
        prepare(adata, 10)


@pytest.mark.slow
def test_the_variable_genes_are_kept_as_counts(write):
    pytest.importorskip("scanpy", reason="needs the extra [tutorials]")
    rng = np.random.default_rng(0)
    up = np.arange(0, 200, 10)  # these follow the region, at the same mean; others are noise
    rate_ng = np.tile(rng.uniform(3, 30, 200), (90, 1))
    rate_ng[:, up] *= np.where(np.arange(90) % 3 == 1, 2.6, 0.2)[:, None]
    x_ng = rng.poisson(rate_ng)
    adata = haber_intestine(write(text(x_ng, names(90))), whole=False)
    small = prepare(adata, 20)
    assert list(small.var_names) == [f"Gene{g}" for g in up]
    np.testing.assert_array_equal(small.X.toarray(), x_ng[:, up])
    assert adata.n_vars == 200 and not len(adata.var.columns)
    assert set(MGVI.from_anndata(small, "region").schema.groups) == set(REGIONS)
    with pytest.raises(SettingsError, match="within 1 and 200"):
        prepare(adata, 201)
