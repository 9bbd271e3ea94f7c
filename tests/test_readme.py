"""The README's code runs as it stands, on cells of regions and of a treatment."""

import pytest
from helpers.documents import cells_of_regions, python_blocks, run

BLOCKS = python_blocks("README.md")


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


@pytest.mark.parametrize("heading", [heading for heading in BLOCKS if heading != "For biologists"])
def test_the_code_of_a_section_runs(heading, adata_of_the_readme):
    run(BLOCKS[heading], adata_of_the_readme)
