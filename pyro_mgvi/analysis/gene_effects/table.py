"""The genes of each dimension as a table."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from anndata import AnnData

from pyro_mgvi.analysis.cross_fit import CrossFit, cross_fit
from pyro_mgvi.analysis.efficient_scores import discovery_rates
from pyro_mgvi.analysis.gene_effects.effects import Effects, dims_in_use, effects, owners
from pyro_mgvi.analysis.gene_effects.unseen import unseen_scores
from pyro_mgvi.analysis.new_samples import SAME
from pyro_mgvi.core.copies import Copy
from pyro_mgvi.core.interfaces import DataKind
from pyro_mgvi.data import GroupedCounts
from pyro_mgvi.data.masks.notes import notes_of
from pyro_mgvi.errors import DataError
from pyro_mgvi.support.values import flag
from pyro_mgvi.training.program import Program

COLUMNS = (
    *("latent", "dimension", "gene", "effect", "mean", "information"),
    *("orientation", "z_score", "q_value"),
)


def programs(
    mgvi: Program,
    adata: AnnData | GroupedCounts,
    latents: Iterable[str] | str | None = None,
    calibration: CrossFit | bool = True,
    progress: bool = True,
) -> pd.DataFrame:
    """Return what each dimension in use does to each gene, with any decoder.

    Parameters
    ----------
    mgvi
        A trained :class:`~pyro_mgvi.MGVI`.
    adata
        Annotated data (or :class:`~pyro_mgvi.GroupedCounts`).
    latents
        Families (``"t"``) or copies (``"t_Ileum"``); by default all that some groups only own, and
        those that reach some of several modalities.
    calibration
        Where ``z_score`` and ``q_value`` come from: True fits the model twice more, on halves of
        the cells of ``adata`` (as long as one or two trainings); refits that are there already
        (:func:`~pyro_mgvi.cross_fit`) are used; False gives neither. Halves may be too small to
        find a weak program again: ``cross_fit(mgvi, adata, folds=5)`` gives larger parts.
    progress
        Show progress bars: of the refits, and of what takes seconds.

    Returns
    -------
    A row per latent, dimension and gene, the most telling gene of a dimension first, with the
    columns ``latent``; ``dimension``, from 1, as in the columns of ``latents()``; ``gene``;
    ``effect``, the change of the gene's log2 expected expression when the dimension moves by one
    standard deviation, mean over the cells that own it, other latents kept (of its expected
    value, for transformed data); ``mean``, its expected counts per 10,000 (or value) in these
    cells; ``information``, what its count in a cell tells of the dimension, the mean times the
    squared change of its logarithm (Fisher's, of a Poisson count): rare genes with a large fold
    change tell little; ``orientation``, 1 or -1: a sign of a dimension means nothing, so effects
    are those of the dimension times it, for which the first gene rises; ``z_score``, how a gene's
    counts in cells that the refits have not seen follow the dimension, hidden from their encoders,
    about standard normal if they do not; and ``q_value`` (Benjamini and Hochberg within a
    dimension) of z-scores in the direction of the effect; a gene that goes the other way has a
    p-value of 1. A dimension that no refit has found again has z-scores of 0. Both are NaN for
    shared dimensions, whose null would have to hold all that cell types do, for values other than
    counts, and where there are too few cells; they speak of new cells of these samples
    (``attrs["q_value_of"]``), whether the model knows samples or not. An effect counts what the
    model fits to noise, too; ``z_score`` does not.

    Raises
    ------
    SettingsError
        If a latent is unknown.
    DataError
        If no cell owns one of them.

    Examples
    --------
    >>> from pyro_mgvi import MGVI
    >>> from pyro_mgvi.datasets.simulate import clear_recipe
    >>> adata = clear_recipe(seed=0, n_cells=120, n_shared_genes=60, n_program_genes=20)
    >>> mgvi = MGVI.from_anndata(adata, group_key="group", latents=["z:2", "t:1"])
    >>> table = programs(mgvi, adata, "t_group1", calibration=False)
    >>> len(table), bool(table["effect"].iloc[0] > 0)
    (80, True)
    """
    copies = chosen_copies(mgvi, latents)
    if not isinstance(calibration, CrossFit):
        calibration = flag("calibration", calibration)
    data = mgvi.read_for_results(adata)
    testable = mgvi.data_kind is DataKind.COUNTS and any(
        not mgvi.families.everyones(copy) and len(dims_in_use(mgvi, copy)) for copy in copies
    )
    if calibration is True and testable:
        calibration = cross_fit(mgvi, data, progress=progress)
    refits = calibration if testable and isinstance(calibration, CrossFit) else None
    if refits is not None:
        refits.check(data, mgvi)
    parts: list[pd.DataFrame] = []
    notes: dict[str, str] = {}
    for copy in copies:
        own = owned(mgvi, data, copy)
        found = effects(mgvi, data.subset(own), copy, progress=progress)
        notes |= notes_of(mgvi.schema, copy.groups)
        z_dg = np.full(found.effect_dg.shape, np.nan)
        if refits is not None and not mgvi.families.everyones(copy) and len(found.dims):
            z_dg = unseen_scores(refits, data, own, found, progress)
            z_dg[:, ~found.measured_g] = np.nan
        parts += _tables(found, z_dg, np.array(mgvi.schema.genes))
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))
    table.attrs |= {"q_value_of": SAME, **notes}
    return table


def chosen_copies(program: Program, latents: Iterable[str] | str | None) -> tuple[Copy, ...]:
    """Return the copies that names stand for; those of some groups or modalities by default."""
    families = program.families
    if latents is not None:
        return families.resolve(latents)
    return tuple(copy for copy in families.copies if not families.common(copy))


def owned(program: Program, data: GroupedCounts, copy: Copy) -> np.ndarray:
    """Return the positions of the cells that own a copy.

    Raises
    ------
    DataError
        If there is none.
    """
    own = owners(program, data, copy)
    if not len(own):
        raise DataError(
            f"no cell owns {copy.key}: it belongs to {copy.owners}; name other "
            "latents, or pass cells of these groups"
        )
    return own


def _tables(found: Effects, z_dg: np.ndarray, genes: np.ndarray) -> list[pd.DataFrame]:
    """Return the table of each dimension in use."""
    tables = []
    for i, sign in enumerate(found.orientation_d):
        effect_g, z_g = sign * found.effect_dg[i], sign * z_dg[i]
        columns = {
            "latent": found.copy.key,
            "dimension": int(found.dims[i]) + 1,
            "gene": genes,
            "effect": effect_g,
            "mean": found.mean_g,
            "information": found.information_dg[i],
            "orientation": int(sign),
            "z_score": z_g,
            "q_value": discovery_rates(_p_values(z_g, effect_g)),
        }
        order = np.argsort(-found.information_dg[i], kind="stable")
        order = order[found.measured_g[order]]
        tables.append(pd.DataFrame(columns)[list(COLUMNS)].iloc[order])
    return tables


def _p_values(z_g: np.ndarray, effect_g: np.ndarray) -> np.ndarray:
    """Return two-sided p-values of scores in the direction of the effect; 1 of the others."""
    from scipy.stats import norm  # takes half a second to import

    p_g: np.ndarray = 2 * norm.sf(np.abs(z_g))
    return np.where(z_g * effect_g < 0, 1.0, p_g)
