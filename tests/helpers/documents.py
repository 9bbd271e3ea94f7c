"""The Python code and the commands in README and docs, run as they stand."""

import re
import shlex
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]


def python_blocks(document):
    """Return the blocks of Python code of each section that has some, by its heading."""
    text = (ROOT / document).read_text(encoding="utf-8")
    blocks = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE):
        found = re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
        if found:
            blocks[section.splitlines()[0]] = found
    assert text.count("```python") == sum(map(len, blocks.values())), "a block is not found"
    return blocks


def commands(document):
    """Return the arguments of each line of shell code that begins with our command."""
    text = (ROOT / document).read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [line[1:] for line in lines if line[:1] == ["pyro-mgvi"]]


def cells_of_regions(adata, *names):
    """Return a copy whose groups are regions of these names, of two donors and five patients."""
    adata = adata.copy()
    groups = dict(zip(adata.obs["group"].cat.categories, names, strict=True))
    adata.obs["region"] = adata.obs["group"].cat.rename_categories(groups)
    adata.obs["donor"] = np.where(np.arange(adata.n_obs) % 2, "d1", "d2")
    adata.obs["patient"] = [f"p{i % 5}" for i in range(adata.n_obs)]
    return adata


def run(blocks, adata):
    """Run the blocks of a section one after the other, and return what they named."""
    space = {"__name__": "a_document", "adata": adata}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"block {number} of the section", "exec"), space)
    return space
