"""What a dataset must look like to be used with a model: names and places, not data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from pyro_mgvi.core.design import Design
from pyro_mgvi.core.initial_values import InitialValues
from pyro_mgvi.core.modalities import Modalities
from pyro_mgvi.data.checks import some, texts
from pyro_mgvi.errors import DataError
from pyro_mgvi.support.values import flag


@dataclass(frozen=True)
class Source:
    """Where the counts of an AnnData lie.

    Attributes
    ----------
    layer
        A layer, or None for ``X``.
    use_raw
        Counts and genes are those of ``adata.raw``.
    round_counts
        Round fractional counts to whole ones.
    """

    layer: str | None = None
    use_raw: bool = False
    round_counts: bool = False

    @property
    def name(self) -> str:
        """What to call it in an error."""
        if self.use_raw:
            return "adata.raw"
        return "adata.X" if self.layer is None else f"adata.layers[{self.layer!r}]"

    def flags(self) -> dict[str, bool]:
        """Return the switches, by name."""
        return {"use_raw": self.use_raw, "round_counts": self.round_counts}

    def elsewhere(self, layer: str | None, use_raw: bool | None) -> Source:
        """Return this source, or that of another layer (``"X"`` for X) or of ``adata.raw``.

        Raises
        ------
        DataError
            If both are asked for.
        SettingsError
            If ``use_raw`` is neither True nor False.
        """
        if use_raw is not None:
            use_raw = flag("use_raw", use_raw)
        if layer is not None and use_raw:
            raise DataError(f"layer={layer!r} and use_raw=True: choose one of them")
        if use_raw:
            return replace(self, layer=None, use_raw=True)
        if layer is not None:
            return replace(self, layer=layer, use_raw=False)
        return self if use_raw is None else replace(self, use_raw=False)

    def resolved(self, adata: AnnData) -> Source:
        """Return this source as ``adata`` has it: "X" is X, unless a layer has this name.

        Raises
        ------
        DataError
            If it is not there.
        """
        if self.layer is not None and not isinstance(self.layer, str):
            raise DataError(f"layer must be the name of one layer, not {self.layer!r}")
        is_x = self.layer == "X" and "X" not in adata.layers
        found = replace(self, layer=None) if is_x else self
        found.check(adata)
        return found

    def var_names(self, adata: AnnData) -> pd.Index:
        """Return the names of the genes; names are text, so 1 is "1"."""
        names: pd.Index = adata.raw.var_names if self.use_raw else adata.var_names
        return texts(names, "adata.raw.var_names" if self.use_raw else "adata.var_names")

    def var(self, adata: AnnData) -> pd.DataFrame:
        """Return what is known of the genes."""
        table = adata.raw.var if self.use_raw else adata.var
        return table if isinstance(table, pd.DataFrame) else table.to_memory()  # of read_lazy

    def check(self, adata: AnnData) -> None:
        """Refuse a source that is not there, or is two at once."""
        if self.use_raw and self.layer is not None:
            raise DataError(f"layer={self.layer!r} and use_raw=True: choose one of them")
        if self.use_raw and adata.raw is None:
            raise DataError("adata.raw is empty: leave out use_raw, or name a layer")
        if self.layer is not None and self.layer not in adata.layers:
            raise DataError(
                f"layer {self.layer!r} is not in adata.layers; it has: "
                f"{some([key for key in adata.layers if key is not None], 20) or 'none'}"
            )

    @property
    def is_x(self) -> bool:
        """Whether it is ``X`` itself."""
        return self.layer is None and not self.use_raw

    def of(self, adata: AnnData) -> object:
        """Return the matrix as the AnnData has it, perhaps still on disk."""
        if self.use_raw:
            return adata.raw.X
        return adata.X if self.layer is None else adata.layers[self.layer]


@dataclass(frozen=True)
class Modality:
    """One of the modalities of a MuData that a model is of.

    Attributes
    ----------
    name
        Its key.
    n_features
        How many features it has.
    layer
        Where its counts are; None for ``X``.
    """

    name: str
    n_features: int
    layer: str | None = None

    @property
    def source(self) -> Source:
        """Where its counts lie."""
        return Source(self.layer)


def modalities_of(listed: Sequence[Modality]) -> Modalities | None:
    """Return names and sizes of several modalities; None of one, which needs none."""
    if len(listed) < 2:
        return None
    return Modalities(tuple(x.name for x in listed), tuple(x.n_features for x in listed))


@dataclass(frozen=True)
class Schema:
    """Names of genes, groups, batches and covariates.

    Attributes
    ----------
    group_key, layer, batch_key, covariate_keys
        Where to look in an AnnData. Several columns make up the groups if ``group_key`` is a
        tuple.
    genes, groups, batches
        Names, in the order of the codes.
    categories
        Levels of each categorical covariate.
    moments
        Mean and standard deviation of each continuous covariate.
    drop_empty
        Leave out cells without a single count instead of refusing them.
    use_raw
        Counts and genes are those of ``adata.raw``.
    round_counts
        Round fractional counts to whole ones.
    sample_key
        Where the sample (donor, animal) of each cell is, or None. Results may be of others than
        the model was trained on.
    absent
        Genes that a group has not got, by group: absent is not zero. Groups with all genes are not
        named.
    levels_gc
        Level of each column, for each group, if several columns make up the groups.
    modalities
        Those of a MuData, whose features are side by side in ``genes``; empty for an AnnData.
    samples
        Samples that have effects of their own in the model; empty without such effects.
    left_out
        How many genes of the data the model was told to leave out.
    """

    group_key: str | tuple[str, ...]
    layer: str | None
    batch_key: str | None
    covariate_keys: tuple[str, ...]
    genes: tuple[str, ...]
    groups: tuple[str, ...]
    batches: tuple[str, ...]
    categories: dict[str, tuple[str, ...]]
    moments: dict[str, tuple[float, float]]
    drop_empty: bool = False
    use_raw: bool = False
    round_counts: bool = False
    sample_key: str | None = None
    absent: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def measured_bg(self) -> np.ndarray | None:
        """Which group has which gene, boolean (groups, genes); None where all have all."""
        if not self.absent:
            return None
        absent = [set(self.absent.get(group, ())) for group in self.groups]
        return np.array([[gene not in none for gene in self.genes] for none in absent])

    levels_gc: tuple[tuple[str, ...], ...] = ()
    modalities: tuple[Modality, ...] = ()
    samples: tuple[str, ...] = ()
    left_out: int = 0

    def with_samples(self, sample_n: np.ndarray) -> Schema:
        """Return this schema with effects of some cells' samples."""
        return replace(self, samples=tuple(np.unique(sample_n).tolist()))

    def sample_codes(self, sample_n: np.ndarray) -> np.ndarray | None:
        """Return the code of each cell's sample, -1 for one without an effect; None without any."""
        if not self.samples:
            return None
        codes: np.ndarray = pd.Index(self.samples).get_indexer(pd.Index(sample_n))
        return codes.astype(np.int64)

    def sample_groups(self, code_n: np.ndarray | None, group_n: np.ndarray) -> torch.Tensor | None:
        """Return which sample has cells of which group, (samples, groups); None without effects."""
        if code_n is None:
            return None
        member_sb = torch.zeros(len(self.samples), len(self.groups), dtype=torch.bool)
        member_sb[code_n[code_n >= 0], group_n[code_n >= 0]] = True
        return member_sb

    @property
    def several(self) -> Modalities | None:
        """Whose features the genes are, if of more than one modality."""
        return modalities_of(self.modalities)

    @property
    def having(self) -> dict[str, tuple[str, ...]]:
        """The groups that have each of several modalities, by its name."""
        several = self.several
        if several is None:
            return {}
        has_bg = self.measured_bg
        if has_bg is None:
            return dict.fromkeys(several.names, self.groups)
        return {
            name: tuple(g for g, has_g in zip(self.groups, has_bg) if has_g[columns].any())
            for name, columns in several.columns.items()
        }

    @property
    def columns_of_obs(self) -> tuple[str, ...]:
        """Columns of ``obs`` that are read."""
        groups = (self.group_key,) if isinstance(self.group_key, str) else self.group_key
        found = (*groups, self.batch_key, *self.covariate_keys, self.sample_key)
        return tuple(dict.fromkeys(key for key in found if key is not None))

    @property
    def design(self) -> Design:
        """Which level of each column every group has."""
        if isinstance(self.group_key, tuple):
            return Design(tuple(map(str, self.group_key)), self.levels_gc)
        return Design((str(self.group_key),), tuple((group,) for group in self.groups))

    @property
    def source(self) -> Source:
        """Where the counts lie in an AnnData."""
        return Source(self.layer, self.use_raw, self.round_counts)

    @property
    def n_covariates(self) -> int:
        """Number of columns of the covariate matrix."""
        n_batch = len(self.batches) if self.batch_key is not None else 0
        return n_batch + sum(map(len, self.categories.values())) + len(self.moments)

    def blank_values(self) -> InitialValues:
        """Return neutral initial values of the right shapes, before weights are loaded."""
        has_bg = self.measured_bg
        measured_bg = None if has_bg is None else torch.from_numpy(has_bg)
        sizes = len(self.genes), len(self.groups), len(self.batches), self.n_covariates
        return InitialValues.blank(*sizes, measured_bg, self.several, len(self.samples))

    def __repr__(self) -> str:
        batch = "" if self.batch_key is None else f", batch {self.batch_key!r}"
        sample = "" if self.sample_key is None else f", sample {self.sample_key!r}"
        sample += f" ({len(self.samples)} with effects)" if self.samples else ""
        lacking = [f"{len(genes):,} of {group}" for group, genes in self.absent.items()]
        absent = f", absent genes: {', '.join(lacking)}" if lacking else ""
        chosen = f"{len(self.genes):,}"
        chosen += f" of {len(self.genes) + self.left_out:,}" if self.left_out else ""
        return (
            f"Schema({chosen} genes, group {self.group_key!r}: {list(self.groups)}"
            f"{batch}{sample}{absent}, covariates {list(self.covariate_keys)})"
        )
