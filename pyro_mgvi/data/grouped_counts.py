"""Counts of cells with their group, batch and covariates, and minibatches of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from torch import Tensor

from pyro_mgvi.core.initial_values import InitialValues
from pyro_mgvi.core.interfaces import DataKind
from pyro_mgvi.data.genes.named import GeneChoice
from pyro_mgvi.data.masks import FeatureMasks, only_measured
from pyro_mgvi.data.masks.moments import initial_values
from pyro_mgvi.data.matching import MISSING, matched
from pyro_mgvi.data.minibatch import Minibatch, Minibatched, stratified_split
from pyro_mgvi.data.reading import Read, read_known, read_new
from pyro_mgvi.data.schema import Schema, Source
from pyro_mgvi.data.stores.in_memory import Counts, dense
from pyro_mgvi.data.stores.on_disk import COPIED, OnDisk, chosen_columns, read_ahead, taken
from pyro_mgvi.data.stores.zeros import mostly_zero
from pyro_mgvi.kernels.sparse import is_sparse, to_torch
from pyro_mgvi.support.values import flag

UNPACKED = 2**28  # bytes: up to here, counts that are not mostly zero are made dense for training


class GroupedCounts(Minibatched):
    """Counts of cells with their labels; large ones never dense as a whole. See `from_anndata`.

    Parameters
    ----------
    source
        Counts, cells x genes: CSR, or dense if the caller's are or they are :meth:`unpacked`.
    group_n, batch_n
        Integer codes.
    covariate_nc
        One-hot batch and categorical covariates, standardised continuous ones.
    schema
        Names of genes, groups, batches and covariates.
    cells
        Position of each cell in the AnnData that was read.
    rows
        Which rows of ``source`` these cells are; all by default.
    sample_n, names
        Name of each cell's sample, empty without; and of all cells of that AnnData.
    """

    def __init__(
        self,
        source: Counts | OnDisk,
        group_n: np.ndarray,
        batch_n: np.ndarray,
        covariate_nc: np.ndarray,
        schema: Schema,
        cells: np.ndarray,
        rows: np.ndarray | None = None,
        sample_n: np.ndarray | None = None,
        names: pd.Index | None = None,
    ):
        self._source, self._rows, self.names = source, rows, names
        self.sample_n = np.full(len(group_n), "") if sample_n is None else sample_n
        self.group_n, self.batch_n, self.covariate_nc = group_n, batch_n, covariate_nc
        self.schema, self.cells = schema, cells

    @classmethod
    def from_anndata(
        cls,
        adata: AnnData,
        group_key: str | Sequence[str],
        layer: str | None = None,
        batch_key: str | None = None,
        covariate_keys: Sequence[str] = (),
        drop_empty: bool = False,
        data_kind: DataKind = DataKind.COUNTS,
        use_raw: bool = False,
        round_counts: bool = False,
        sample_key: str | None = None,
        feature_masks: FeatureMasks | None = None,
        sample_effects: bool = True,
        genes: GeneChoice | None = None,
    ) -> GroupedCounts:
        """Read counts and labels from ``adata``, which stays as it is.

        Parameters
        ----------
        adata
            Annotated data, cells x genes, with raw counts in ``X`` or ``layers[layer]``.
        group_key, batch_key, covariate_keys
            Columns of ``obs`` whose names are text: the group of each cell, or several whose
            combinations are groups; (optional) its batch, and covariates, categorical or numeric.
        drop_empty, data_kind, use_raw, round_counts
            Drop cells without a single count; refuse everything but counts, or take any finite
            values; take counts and genes from ``adata.raw``; round fractional counts (SoupX).
        sample_key
            Column of ``obs``: each cell's sample (donor, animal), if errors are to be for new ones.
        feature_masks
            Which genes each group has: :func:`~pyro_mgvi.data.masks.absent_features`.
        sample_effects
            Let each sample of ``sample_key`` shift each gene's expression by a random effect.
        genes
            Which genes to read: names, or what :func:`~pyro_mgvi.choose_genes` returns.

        Raises
        ------
        DataError
            Naming the key, the cells or the genes at fault, and what to do.

        Warns
        -----
        DataWarning
            If batches or covariates can be used, but perhaps not as they were meant.

        Examples
        --------
        >>> import anndata as ad, numpy as np
        >>> adata = ad.AnnData(np.ones((4, 3)), obs={"tissue": ["a", "a", "b", "b"]})
        >>> data = GroupedCounts.from_anndata(adata, "tissue")
        >>> data.schema.groups, data.group_n
        (('a', 'b'), array([0, 0, 1, 1]))
        """
        where = adata, group_key, Source(layer, use_raw, round_counts), batch_key, covariate_keys
        schema, found = read_new(*where, drop_empty, data_kind, sample_key, feature_masks, genes)
        if flag("sample_effects", sample_effects) and sample_key is not None:
            schema = schema.with_samples(found.sample_n)
        return cls._of(found, schema)

    @classmethod
    def for_schema(
        cls,
        adata: AnnData,
        schema: Schema,
        data_kind: DataKind = DataKind.COUNTS,
        source: Source | None = None,
        missing_genes: float = MISSING,
    ) -> GroupedCounts:
        """Read ``adata`` as ``schema`` says: genes in the model's order, known groups only.

        Parameters are those of :meth:`Program.read <pyro_mgvi.training.program.Program.read>`,
        with another ``source`` of the counts than the schema's, if given.

        Raises
        ------
        DataError
            If genes, groups, batches or covariate levels are not the model's, by name.
        """
        found = read_known(adata, schema, data_kind, source or schema.source, missing_genes)
        return cls._of(found, schema)

    @classmethod
    def _of(cls, found: Read, schema: Schema) -> GroupedCounts:
        labels = found.group_n, found.batch_n, found.covariate_nc, schema
        return cls(found.x, *labels, found.cells, None, found.sample_n, found.names)

    @cached_property
    def sample_code_n(self) -> np.ndarray | None:
        """Code of each cell's sample, -1 for one without an effect; None if none has effects."""
        return self.schema.sample_codes(self.sample_n) if (self.sample_n != "").any() else None

    def __len__(self) -> int:
        return len(self.group_n)

    def __repr__(self) -> str:
        return f"GroupedCounts({len(self):,} cells x {self.shape[1]:,} genes; {self.schema})"

    @property
    def shape(self) -> tuple[int, int]:
        """Number of cells and of genes."""
        return len(self), self._source.shape[1]

    @property
    def x(self) -> Counts:
        """Counts of these cells, cells x genes."""
        if self._rows is None and not isinstance(self._source, OnDisk):
            return self._source
        return self.counts(np.arange(len(self)))

    def counts(self, cells: np.ndarray) -> Counts:
        """Return the counts of the cells at these positions."""
        return taken(self._source, cells if self._rows is None else self._rows[cells])

    def matching(self, schema: Schema) -> GroupedCounts:
        """Return these data as ``schema`` codes them: same names, in its order.

        Raises
        ------
        DataError
            If genes, groups, batches or covariates are others, by name.
        """
        if self.schema == schema:
            return self
        order, group_n, batch_n = matched(self.schema, schema, self.group_n, self.batch_n)
        source, rows = chosen_columns(self._source, order), self._rows
        if schema.absent:
            source, rows = source if rows is None else taken(source, rows), None
            source = only_measured(source, group_n, schema.measured_bg)
        covariate_nc = self.covariate_nc
        if schema.batch_key is not None:
            one_hot = np.eye(len(schema.batches), dtype=np.float32)[batch_n]
            covariate_nc = np.hstack([one_hot, covariate_nc[:, len(self.schema.batches) :]])
        labels = group_n, batch_n, covariate_nc, schema
        return GroupedCounts(source, *labels, self.cells, rows, self.sample_n, self.names)

    def with_groups(self, group_n: np.ndarray) -> GroupedCounts:
        """Return the same cells with other groups, as integer codes."""
        labels = group_n, self.batch_n, self.covariate_nc, self.schema, self.cells
        return GroupedCounts(self._source, *labels, self._rows, self.sample_n, self.names)

    @property
    def mostly_zero(self) -> bool:
        """Whether sparse products beat dense ones on these counts."""
        return mostly_zero(self._source, self.schema.several)

    def unpacked(self) -> GroupedCounts:
        """Return the same counts, dense if they are not mostly zero and small enough."""
        too_large = 4.0 * len(self) * self.shape[1] > UNPACKED
        if not is_sparse(self._source) or self.mostly_zero or too_large:  # or on disk
            return self
        labels = self.group_n, self.batch_n, self.covariate_nc, self.schema, self.cells
        return GroupedCounts(dense(self.x), *labels, None, self.sample_n, self.names)

    def rows(
        self,
        cells: np.ndarray,
        index: Tensor | None = None,
        n_cells: int | None = None,
        keep_sparse: bool = False,
    ) -> Minibatch:
        """Return the cells at these positions as tensors; counts sparse if asked for."""
        return self.tensors(self.counts(cells), cells, index, n_cells, keep_sparse)

    def tensors(
        self,
        x: Counts,
        cells: np.ndarray,
        index: Tensor | None,
        n_cells: int | None,
        keep_sparse: bool,
    ) -> Minibatch:
        """Return the cells at these positions as tensors, with their counts ``x``."""
        code_n = self.sample_code_n
        return Minibatch(
            counts=to_torch(x) if keep_sparse else torch.from_numpy(dense(x)),
            group=torch.from_numpy(self.group_n[cells]),
            batch=torch.from_numpy(self.batch_n[cells]),
            covariates=torch.from_numpy(self.covariate_nc[cells]),
            index=index,
            n_cells=n_cells,
            sample=None if code_n is None else torch.from_numpy(code_n[cells]),
        )

    def subset(self, cells: np.ndarray) -> GroupedCounts:
        """Return the cells at these positions as data of their own."""
        if self.buffer is not None and len(cells) > COPIED * self.buffer:
            return self.view(cells)  # too large for a copy
        return self._with(self.counts(cells), cells)

    def view(self, cells: np.ndarray) -> GroupedCounts:
        """Return the cells at these positions without a copy of their counts."""
        return self._with(self._source, cells, cells if self._rows is None else self._rows[cells])

    def _with(
        self, source: Counts | OnDisk, cells: np.ndarray, rows: np.ndarray | None = None
    ) -> GroupedCounts:
        """Return the labels of the cells at these positions, with their counts."""
        parts = self.group_n, self.batch_n, self.covariate_nc, self.cells, self.sample_n
        group_n, batch_n, covariate_nc, of_read, sample_n = (part[cells] for part in parts)
        labels = group_n, batch_n, covariate_nc, self.schema
        return GroupedCounts(source, *labels, of_read, rows, sample_n, self.names)

    def read(self, orders: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, Counts]]:
        """Yield the positions and counts of minibatches."""
        return read_ahead(self._source, self._rows, orders)

    @property
    def buffer(self) -> int | None:
        """Cells to read at a time, of counts that stay in their file; None in memory."""
        return self._source.buffer if isinstance(self._source, OnDisk) else None

    def split(self, fraction: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Return positions of training and held-out cells, stratified by group.

        Each group keeps at least 2 cells for training; a group of under 4 gives none away.

        Raises
        ------
        SettingsError
            If ``fraction`` is not within [0, 0.9].
        """
        return stratified_split(self.group_n, len(self.schema.groups), fraction, seed)

    def initial_values(self, data_kind: DataKind = DataKind.COUNTS) -> InitialValues:
        """Return data-dependent initial values, by moments of the counts or of the values."""
        member_sb = self.schema.sample_groups(self.sample_code_n, self.group_n)
        return initial_values(self, data_kind)._replace(sample_groups_sb=member_sb)
