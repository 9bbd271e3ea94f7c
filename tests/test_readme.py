"""The README's code runs as it stands, on cells of regions and of a treatment."""

import pytest
from helpers.documents import cells_of_regions, python_blocks, run

BLOCKS = python_blocks("README.md")
ALONE = [
    pytest.param(block, id=f"{heading}, block {number}")
    for heading, blocks in BLOCKS.items()
    if heading != "For biologists"
    for number, block in enumerate(blocks, 1)
]


@pytest.fixture
def adata_of_the_readme(adata, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    adata = cells_of_regions(adata, "Ileum", "Jejunum", "treated")
    adata.write_h5ad("cells.h5ad")
    return adata


@pytest.mark.slow
def test_biologists_get_latents_and_a_saved_model(adata_of_the_readme, tmp_path):
    space = run(BLOCKS["For biologists"], adata_of_the_readme)
    assert (tmp_path / "region.mgvi" / "weights.pt").exists()
    assert "X_mgvi_t_Ileum" in space["adata"].obsm


@pytest.mark.parametrize("block", ALONE)
def test_a_block_runs_wherever_it_is_pasted(block, adata_of_the_readme):
    run([block], adata_of_the_readme)
