"""Tables of UMI counts as text, of the format that GEO keeps."""

import gzip

import numpy as np

from pyro_mgvi.datasets.intestine import HABER_FILE

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


def write_table(folder, content, name=HABER_FILE):
    """Write the text, by gzip if the name says so, and return where."""
    path = folder / name
    path.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    return path
