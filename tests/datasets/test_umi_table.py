"""Tables of UMI counts as text are read cell by cell, or refused with what is wrong."""

import tracemalloc
from functools import partial

import numpy as np
import pytest
from helpers.umi_text import REGIONS, TYPES, counts, names, text, write_table
from scipy import sparse

from pyro_mgvi import DataError
from pyro_mgvi.datasets.intestine import HABER_FIELDS, HABER_FILE
from pyro_mgvi.datasets.umi_table import read_umi_table


@pytest.fixture
def write(tmp_path):
    return partial(write_table, tmp_path)


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


@pytest.mark.slow
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
