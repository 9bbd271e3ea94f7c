"""The report's words on samples are those of the design and of the effects."""

import numpy as np
import pandas as pd
import pytest
from helpers.html_reader import Reader, number

from pyro_mgvi import MGVI, DataWarning, GroupedCounts
from pyro_mgvi.report import render
from pyro_mgvi.report.result import Result
from pyro_mgvi.report.sections.samples import samples

DESIGNS = {
    "nested": lambda group, number: f"{group}.{number}",
    "paired": lambda group, number: f"d{number}",
    "mixed": lambda group, number: f"{group}.{number}" if number == 3 else f"d{number}",
}


def cells_of(adata, design, n=4):
    adata = adata.copy()
    number_n = adata.obs.groupby("group", observed=True).cumcount() % n
    named = [DESIGNS[design](g, i) for g, i in zip(adata.obs["group"], number_n)]
    adata.obs["donor"] = named
    return adata


def section_of(adata, **settings):
    mgvi = MGVI.from_anndata(adata, "group", latents=["z:2", "t:2"], sample_key="donor", **settings)
    mgvi.fit(adata, max_epochs=1, progress=False)
    mgvi.write_latents(adata)
    return mgvi, samples(Result.read(adata, mgvi))


def texts_of(section):
    """Return the words of paragraphs, and then those on q-values."""
    words = [block.text for block in section.blocks if block.kind in ("paragraph", "hint")]
    return words + [s for b in section.blocks if b.kind == "verdict" for s in b.sentences]


def tables_of(section):
    (row,) = [block for block in section.blocks if block.kind == "row"]
    return [item.frame for item in row.items]


@pytest.mark.parametrize(
    ("design", "said"),
    [
        ("nested", "12 samples, each in one group only (nested)"),
        ("paired", "4 samples, each in several groups (paired"),
        ("mixed", "6 samples, of which 3 are in several groups"),
    ],
)
@pytest.mark.filterwarnings("ignore:sample_key 'donor'")
def test_the_design_is_told(adata, design, said):
    cells = cells_of(adata, design)
    _, section = section_of(cells)
    texts = texts_of(section)
    assert said in texts[0]
    assert any("speak of new samples, not only of these" in text for text in texts)
    assert not any("cannot be told" in text for text in texts)  # three in each, or in all
    by_group = tables_of(section)[0]
    counts = pd.crosstab(cells.obs["donor"], cells.obs["group"])
    assert by_group["samples"].tolist() == (counts > 0).sum().tolist()
    assert by_group["cells, most"].tolist() == counts.max().tolist()


def test_the_genes_are_those_in_which_samples_differ_most(adata):
    mgvi, section = section_of(cells_of(adata, "nested"))
    effect_sg = mgvi.sample_effects() / np.log(2)
    spread_g = np.sqrt((effect_sg**2).mean())
    table = tables_of(section)[1]
    assert table["gene"].tolist() == spread_g.nlargest(10).index.tolist()
    np.testing.assert_allclose(table["differ by"], spread_g.nlargest(10))
    first = effect_sg[table["gene"][0]]
    assert table["lowest in"][0] == first.idxmin() and table["highest in"][0] == first.idxmax()
    assert table["lowest"][0] == first.min() and table["highest"][0] == first.max()
    assert f"differ most in {', '.join(table['gene'][:5])}" in texts_of(section)[1]


def test_too_few_samples_are_named_as_the_ranking_has_it(adata):
    with pytest.warns(DataWarning, match="fewer than 3"):
        _, section = section_of(cells_of(adata, "nested", n=2))
    assert "of a group are needed" in texts_of(section)[-1]
    assert "group1, group2, group3 cannot be told" in texts_of(section)[-1]


def test_without_effects_it_says_so_and_without_samples_there_is_no_section(adata):
    _, section = section_of(cells_of(adata, "nested"), sample_effects=False)
    assert any("no effects of samples" in text for text in texts_of(section))
    assert len(tables_of(section)) == 1
    plain = adata.copy()
    mgvi = MGVI.from_anndata(plain, "group", latents=["z:2"])
    mgvi.write_latents(plain)
    assert samples(Result.read(plain, mgvi)) is None


@pytest.mark.slow
def test_the_page_has_the_section(adata):
    cells = cells_of(adata, "nested")
    mgvi, _ = section_of(cells)
    page = render(cells, mgvi, diagnosed=True, max_epochs=1, progress=False)
    assert "genes have q &lt; 0.1 (for new samples)" in page
    reader = Reader(page)
    table = reader.table("gene", "differ by")
    spread_g = np.sqrt((mgvi.sample_effects() ** 2).mean()) / np.log(2)
    np.testing.assert_allclose(
        table["differ by"].map(number), spread_g[table["gene"]].to_numpy(), rtol=0.06
    )


def test_without_the_model_the_section_says_what_to_run(adata):
    cells = cells_of(adata, "nested")
    data = GroupedCounts.from_anndata(cells, "group", sample_key="donor")
    mgvi = MGVI.from_counts(data, latents=["z:2"])
    mgvi.write_latents(cells)
    (block,) = samples(Result.read(cells)).blocks
    assert block.kind == "hint" and "--sample-key donor" in block.command
