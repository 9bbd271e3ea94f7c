"""Do q-values hold for new donors? Healthy donors split at random, simulated ones, real effects.

    python -m benchmarks.donors null ONEK1K.h5ad --donors 6 8 --splits 5 --out DIR
    python -m benchmarks.donors effects PIG.h5ad --sample sample --group CFTRKO --out DIR
    python -m benchmarks.donors effects KANG.h5ad --sample donor --group stim --out DIR
    python -m benchmarks.donors simulated --donors 3 5 10 20 --datasets 20 --epochs 20 --out DIR
    python -m benchmarks.donors units --donors 3 5 10 --datasets 200 --out DIR

``null`` draws donors (``obs["donor"]``) and halves them at random: every gene that is called is a
false call. With ``--planted 40``, the counts of as many genes (of 0.2 counts per cell or more) are
thinned to half in the second half's donors, and true calls are counted, too. ``effects`` takes the
groups of ``obs["group"]``. ``simulated`` has so many donors in each of two groups (Splat's cells,
thinned as each donor has it), once where only donors differ, and once with shifted genes and a
program within one group, which no test of donors' sums can see; ``table`` prints its table again.
``units`` takes the test across samples by itself, in simulated sums of samples.

Peers are a Wilcoxon test of cells, a moderated t test of each donor's sums, and DESeq2 (pydeseq2)
where it is installed. Models know no donors, know them without effects, or with them (``--only``).
Rows are written to DIR/donors.csv as they come: what is there is not run again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.donors.methods import HAS_DESEQ, MODELS
from benchmarks.donors.real import effects, null
from benchmarks.donors.simulated import simulated, table
from benchmarks.donors.units import units


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parts = parser.add_subparsers(required=True)
    for part in (null, effects, simulated, table, units):
        add = parts.add_parser(part.__name__, help=part.__doc__)
        if part in (null, effects):
            add.add_argument("data", type=Path)
            add.add_argument("--splits", type=int, default=1, help="of donors; or seeds")
        if part not in (table, units):
            add.add_argument("--epochs", type=int, help="at most; the default of fit otherwise")
            add.add_argument("--only", nargs="+", choices=MODELS, help="models to fit")
        add.add_argument("--out", type=Path, required=True)
        add.set_defaults(run=part)
    choices = parts.choices
    choices["null"].add_argument("--donors", type=int, nargs="+", default=[6, 8, 12, 40])
    choices["null"].add_argument("--planted", type=int, default=0, help="genes with an effect")
    choices["effects"].add_argument("--sample", required=True, help="column of obs")
    choices["effects"].add_argument("--group", required=True, help="to test")
    for name, sizes in (("simulated", [3, 5, 10, 20]), ("units", [3, 5, 10])):
        add, help_ = choices[name], "in each of two groups"
        add.add_argument("--donors", type=int, nargs="+", default=sizes, help=help_)
        add.add_argument("--datasets", type=int, default=1, help="of each size")
    choices["simulated"].set_defaults(only=["rank_genes, sample_key"])
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.run not in (table, units) and not HAS_DESEQ:
        print("without DESeq2: pydeseq2 is not installed, see the extra [benchmark]", flush=True)
    arguments.run(arguments)


if __name__ == "__main__":
    main()
