"""What a dataset must look like to be used with a model: names, not data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Schema:
    """Names of genes, groups, batches and covariates.

    Attributes
    ----------
    group_key, layer, batch_key, covariate_keys
        Where to look in an AnnData.
    genes, groups, batches
        Names, in the order of the codes.
    categories
        Levels of each categorical covariate.
    moments
        Mean and standard deviation of each continuous covariate.
    drop_empty
        Leave out cells without a single count instead of refusing them.
    """

    group_key: str
    layer: str | None
    batch_key: str | None
    covariate_keys: tuple[str, ...]
    genes: tuple[str, ...]
    groups: tuple[str, ...]
    batches: tuple[str, ...]
    categories: dict[str, tuple[str, ...]]
    moments: dict[str, tuple[float, float]]
    drop_empty: bool = False

    @property
    def n_covariates(self) -> int:
        """Number of columns of the covariate matrix."""
        n_batch = len(self.batches) if self.batch_key is not None else 0
        return n_batch + sum(map(len, self.categories.values())) + len(self.moments)

    def __repr__(self) -> str:
        batch = "" if self.batch_key is None else f", batch {self.batch_key!r}"
        return (
            f"Schema({len(self.genes):,} genes, group {self.group_key!r}: {list(self.groups)}"
            f"{batch}, covariates {list(self.covariate_keys)})"
        )
