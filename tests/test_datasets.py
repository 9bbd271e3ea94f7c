"""Public data: the tests write files of the same format, and serve them from this machine."""

import gzip
import http.server
import threading
import tracemalloc

import numpy as np
import pytest
from scipy import sparse

from pyro_mgvi import MGVI, DataError, SettingsError, datasets
from pyro_mgvi.datasets.intestine import HABER_FIELDS, HABER_FILE, haber_intestine, prepare
from pyro_mgvi.datasets.umi_table import read_umi_table

REGIONS = ("Duodenum", "Ileum", "Jejunum")
TYPES = ("EP", "Enterocyte", "Enteroendocrine", "Goblet", "Paneth", "Stem", "TA", "Tuft")


def names(n_cells: int) -> list[str]:
    """Return cell names; barcodes repeat between regions, and some hold an underscore."""
    return [
        f"{'B1_' if i % 5 == 0 else ''}ACGT{i // 3}_{REGIONS[i % 3]}_Mouse{i % 2}_{TYPES[i % 8]}"
        for i in range(n_cells)
    ]


def counts(n_cells: int, n_genes: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.poisson(rng.gamma(0.3, 2.0, n_genes), (n_cells, n_genes))


def text(x_ng, cells, corner=None, quote="", genes=None) -> str:
    genes = [f"Gene{g}" for g in range(x_ng.shape[1])] if genes is None else genes
    header = [f"{quote}{cell}{quote}" for cell in cells]
    lines = [header if corner is None else [corner, *header]]
    lines += [[f"{quote}{gene}{quote}", *map(str, x)] for gene, x in zip(genes, x_ng.T)]
    return "\n".join("\t".join(line) for line in lines) + "\n"


@pytest.fixture
def write(tmp_path):
    def write(content: str, name: str = HABER_FILE):
        path = tmp_path / name
        path.write_bytes(
            gzip.compress(content.encode()) if name.endswith(".gz") else content.encode()
        )
        return path

    return write


@pytest.mark.parametrize("corner", [None, "", "gene"])
@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("name", [HABER_FILE, "plain.txt"])
def test_both_headers_give_the_same_cells(write, corner, quote, name):
    x_ng, cells = counts(11, 7), names(11)
    genes = ["NA", "1-Mar", "nan", *(f"Gene{g}" for g in range(4))]
    adata = read_umi_table(write(text(x_ng, cells, corner, quote, genes), name), HABER_FIELDS, 3)
    np.testing.assert_array_equal(adata.X.toarray(), x_ng)
    assert sparse.issparse(adata.X) and adata.X.format == "csr" and adata.X.dtype == np.int32
    assert list(adata.obs_names) == cells and list(adata.var_names) == genes
    assert list(adata.obs.columns) == list(HABER_FIELDS)
    assert adata.obs["barcode"].iloc[0] == "B1_ACGT0" and adata.obs["barcode"].iloc[1] == "ACGT0"
    assert list(adata.obs["region"]) == [REGIONS[i % 3] for i in range(11)]
    assert list(adata.obs["cell_type"].cat.categories) == sorted(TYPES)


def refused(content: str, write, match: str, name: str = HABER_FILE):
    path = write(content, name)
    with pytest.raises(DataError, match=match) as caught:
        read_umi_table(path, HABER_FIELDS, 2)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "bad", ["ACGT_Ileum_Stem", "ACGT", "ACGT__Mouse1_Stem", "_Ileum_Mouse1_Stem"]
)
def test_a_cell_name_without_its_four_parts_is_named(write, bad):
    refused(text(counts(3, 4), [*names(2), bad]), write, f"1 cell name.*{bad!r}")


@pytest.mark.parametrize("value", ["1.5", "-1", "", "many", "nan", "inf", "1e99", "3000000000"])
def test_a_value_that_is_no_count_is_named(write, value):
    x_ng = counts(4, 5).astype(object)
    x_ng[2, 3] = value
    cells = names(4)
    refused(text(x_ng, cells), write, f"for gene 'Gene3' in cell {cells[2]!r}, which is no count")


def test_other_malformed_tables_are_refused(write):
    x_ng, cells = counts(4, 5), names(4)
    refused(text(x_ng, [*cells[:3], cells[0]]), write, f"1 cell.* twice: {cells[0]}")
    twice = [f"Gene{g}" for g in (0, 1, 2, 3, 1)]
    refused(text(x_ng, cells, genes=twice), write, "1 gene.* twice: Gene1")
    refused("<html>not found</html>\n", write, "not a tab-separated table", "page.txt")
    refused("", write, "not a tab-separated table", "empty.txt")
    refused(text(x_ng, names(6)), write, "names 6 cells, its second holds 4 counts")
    whole = text(x_ng, cells).splitlines()
    refused("\n".join([*whole[:4], whole[4] + "\t7"]), write, "not a table|counts for")
    refused("\n".join([*whole[:4], whole[4].rpartition("\t")[0]]), write, "no count|counts for")
    with pytest.raises(DataError, match="does not exist"):
        read_umi_table("nowhere.txt", HABER_FIELDS)


@pytest.mark.parametrize("damage", ["cut", "flipped", "header", "magic"])
def test_a_damaged_file_is_refused(write, damage):
    path = write(text(counts(40, 60), names(40)))
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "flipped":
        content[len(content) // 2] ^= 0xFF
    elif damage == "header":
        content = content[:12]
    else:
        content[:2] = b"\xff\xfe"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cut off or damaged|not a text table"):
        read_umi_table(path, HABER_FIELDS)


def test_it_is_never_dense_as_a_whole(write):
    x_ng = np.random.default_rng(0).poisson(0.02, (500, 3000))
    path = write(text(x_ng, names(500)))
    read_umi_table(path, HABER_FIELDS, 100)  # what is imported on the way is not counted
    tracemalloc.start()
    adata = read_umi_table(path, HABER_FIELDS, 100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert adata.X.sum() == x_ng.sum()
    assert peak < x_ng.nbytes / 3, f"{peak} bytes; dense it is {x_ng.nbytes}"


def test_the_copy_is_read_until_the_text_changes(write, monkeypatch):
    x_ng, cells = counts(12, 6), names(12)
    path = write(text(x_ng, cells))
    first = haber_intestine(path, whole=False)
    assert {p.name for p in path.parent.iterdir()} == {
        HABER_FILE, HABER_FILE.replace(".txt.gz", ".mgvi.h5ad")
    }  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(datasets, "read_umi_table", lambda *_: pytest.fail("read the text again"))
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
    monkeypatch.setitem(datasets.HABER_SHAPE, "cells", 24)
    assert haber_intestine(path).n_obs == 24


def test_a_folder_that_cannot_be_written_gives_the_data_and_a_warning(write, monkeypatch):
    path = write(text(counts(12, 6), names(12)))

    def refuse(*args, **kwargs):
        raise PermissionError("read-only")

    monkeypatch.setattr(datasets.tempfile, "TemporaryDirectory", refuse)
    with pytest.warns(UserWarning, match="read anew: read-only"):
        assert haber_intestine(path, whole=False).n_obs == 12


class Server(http.server.BaseHTTPRequestHandler):
    """Serves ``content``: with ranges or without, and cut off after some bytes."""

    content, ranges, cut, asked = b"", True, None, None

    def do_GET(self):
        start = 0
        asked = self.headers.get("Range")
        type(self).asked = [*(self.asked or []), asked]
        if asked and self.ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(self.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(self.content)}")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header(
                "Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
            )
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(self.content) - start))
        self.send_header("Content-Encoding", "x-gzip")  # as some servers call a .gz file
        self.end_headers()
        self.wfile.write(self.content[start : start + (self.cut or len(self.content))])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    pytest.importorskip("pooch", reason="needs the extra [tutorials]")
    handler = type("Handler", (Server,), {})
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(
        datasets, "HABER_URL", f"http://127.0.0.1:{web.server_address[1]}/{HABER_FILE}"
    )
    yield handler
    web.shutdown()
    web.server_close()


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_goes_on(server, tmp_path, monkeypatch, ranges):
    x_ng = counts(60, 80)
    server.content = gzip.compress(text(x_ng, names(60)).encode())
    server.cut, server.ranges = len(server.content) // 2, ranges
    monkeypatch.setenv("PYRO_MGVI_DATA", str(tmp_path / "new"))
    path, part = tmp_path / "new" / HABER_FILE, tmp_path / "new" / f"{HABER_FILE}.part"
    with pytest.raises(DataError, match=rf"kept in {part.name}.*put it at {path}"):
        haber_intestine(whole=False)
    assert [p.name for p in path.parent.iterdir()] == [part.name]
    assert part.read_bytes() == server.content[: server.cut]
    server.cut = None
    adata = haber_intestine(whole=False)
    assert server.asked == [None, f"bytes={len(server.content) // 2}-"]
    assert path.read_bytes() == server.content and not part.exists()
    np.testing.assert_array_equal(adata.X.toarray(), x_ng)


def test_a_part_that_was_whole_is_taken(server, tmp_path):
    server.content = gzip.compress(text(counts(6, 5), names(6)).encode())
    (tmp_path / f"{HABER_FILE}.part").write_bytes(server.content)
    assert haber_intestine(tmp_path, whole=False).n_obs == 6
    (tmp_path / HABER_FILE).unlink()
    (tmp_path / f"{HABER_FILE}.part").write_bytes(server.content + b"more than there is")
    with pytest.raises(DataError, match="416"):
        haber_intestine(tmp_path, whole=False)


def test_offline_it_names_the_file_and_its_place(tmp_path, monkeypatch):
    pytest.importorskip("pooch", reason="needs the extra [tutorials]")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(datasets, "HABER_URL", f"http://127.0.0.1:9/{HABER_FILE}")  # nobody's port
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
