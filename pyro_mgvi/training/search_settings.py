"""Settings of the search, all that decides its results in one place."""

from __future__ import annotations

from dataclasses import dataclass

from pyro_mgvi.training.validation import at_least, whole


@dataclass(frozen=True)
class SearchSettings:
    """What is done once in training beside gradient steps, and by which thresholds.

    Attributes
    ----------
    epoch
        After how many epochs the search takes place. The learning rate decays to zero at this
        epoch, restarts, and decays to zero at the last.
    idle
        A dimension that says less about a cell (nats) may be started at a direction, and is
        closed if it belongs to some groups only.
    max_cells
        Cells of each group that are looked at, at most.
    max_residuals
        Residuals kept in memory, over all groups.
    largest_residual
        Residuals are cut off here (standard deviations).
    max_genes
        Genes that are searched, at most: those in which a change shows best.
    least_cells
        Cells of a group, at least, for it to be searched.
    least_genes
        Genes of a direction, at least.
    margin
        Pairs of genes above this share of the threshold are tested exactly.
    max_pairs
        Pairs tested exactly, at most.
    refinements
        Rounds in which a direction is refined by all genes that follow it.
    same_score
        A direction of some groups whose scores correlate more than this with those of a shared
        one is the shared one.
    same_genes
        Directions that share more than this fraction of genes count as the same.
    start_cells
        Cells from which an encoder's start is computed.
    clusters
        Clusters of the shared latents, within which the groups' offsets are compared.

    Raises
    ------
    SettingsError
        If a value is out of range.
    """

    epoch: int = 10
    idle: float = 0.5
    max_cells: int = 4000
    max_residuals: float = 5e7
    largest_residual: float = 10.0
    max_genes: int = 6000
    least_cells: int = 100
    least_genes: int = 3
    margin: float = 0.8
    max_pairs: int = 20_000
    refinements: int = 5
    same_score: float = 0.95
    same_genes: float = 0.5
    start_cells: int = 2000
    clusters: int = 10

    def __post_init__(self) -> None:
        counts = ("epoch", "max_cells", "max_genes", "least_cells", "least_genes", "max_pairs")
        for name in (*counts, "refinements", "start_cells", "clusters"):
            whole(self, name, least=1)
        for name in ("idle", "max_residuals", "largest_residual", "margin", "same_score"):
            at_least(self, name, 0.0)
        at_least(self, "same_genes", 0.0)
