"""The diagnosis in sentences."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from pyro_mgvi.core.interfaces import HasGroupOffsets
from pyro_mgvi.training.program import Program

ACTIVE = 0.01  # variance of posterior means over cells (Burda et al. 2016)
SURE = 3.0  # standard errors by which a latent must be worth more than the shuffled one
LEAK = 0.15  # balanced accuracy above chance that counts as a leak
AGREE = 0.5  # linear CKA below which two refits disagree
CHANGED = 1.5  # fold by which an offset changes a gene, to be counted
EXPRESSED = 0.1  # counts of a gene per cell of usual depth, to be counted


def verdict(
    program: Program,
    dimensions: pd.DataFrame,
    copies: pd.DataFrame,
    probes: pd.DataFrame,
    nested: frozenset[str] = frozenset(),
) -> Iterator[str]:
    """Yield what the tables of a :class:`~pyro_mgvi.analysis.Diagnosis` say of each latent.

    Parameters
    ----------
    program, dimensions, copies, probes
        The model and its tables.
    nested
        Columns whose labels occur in one group each: as a batch they would take what belongs to
        the groups.
    """
    rows: dict[str, pd.Series] = {str(key): row for key, row in copies.iterrows()}
    for copy in program.families.copies:
        row = rows[copy.key]
        active = dimensions.loc[dimensions["latent"] == copy.key, "active"].sum()
        about = f"{copy.key} ({active} of {copy.dim} units active)"
        disagree = active and row["agreement"] < AGREE
        if np.isnan(row["worth"]):
            if disagree:
                yield f"{copy.key}: two refits disagree (linear CKA {row['agreement']:.2f})."
            continue
        figures = f"{row['worth']:.2f} nats per unseen cell, {row['shuffled']:.2f} shuffled"
        if _holds(row):
            parts = ""
            if disagree:
                parts = (
                    f" Two refits find different parts of it (linear CKA {row['agreement']:.2f}): "
                    "there is more than one training finds, so read what several seeds agree on."
                )
            parts += _places(dimensions[dimensions["latent"] == copy.key])
            yield f"{about}: holds variation that belongs to {copy.owners} ({figures}).{parts}"
        else:
            yield (
                f"{about}: the private latents of {copy.owners} hold nothing for unseen cells "
                f"that the shuffled refit does not also find ({figures}); do not "
                f"interpret them.{_shift(program, copy.groups)}"
            )
    schema = program.schema
    families = program.families
    shared = {copy.key for copy in families.copies if families.everyones(copy)}
    registered = (schema.batch_key, *schema.categories)
    columns = probes[["latent", "kind", "target", "accuracy", "chance"]]
    for latent, kind, target, accuracy, chance in columns.itertuples(index=False, name=None):
        wanted = kind == "label" and latent in shared
        if not wanted and accuracy - chance > LEAK:
            advice = ""
            if kind == "nuisance" and target in nested:
                advice = "; each belongs to one group, so it cannot be told from the group"
            elif kind == "nuisance" and target not in registered:
                advice = "; register it as batch_key"
            what = "group within labels or clusters" if kind == "group" else target
            yield (
                f"{latent}: leaks the {what} (linear probe {accuracy:.2f}, "
                f"chance {chance:.2f}){advice}."
            )


def _places(dimensions: pd.DataFrame) -> str:
    """Return which units of a private latent refits hold elsewhere, or nowhere."""
    lost = dimensions[dimensions["active"] & (dimensions["found_again"] < AGREE)]
    moved_d = lost["in_shared"] >= AGREE
    said = ""
    if moved_d.any():
        share = lost.loc[moved_d, "in_shared"].min()
        said += (
            f" Of {_units(lost[moved_d])} the refits' shared latents predict {share:.0%} of the "
            "variance and their own latents less than half: probably shared variation."
        )
    if not moved_d.all():
        said += f" No refit finds {_units(lost[~moved_d])} again: do not interpret it alone."
    return said


def _units(dimensions: pd.DataFrame) -> str:
    """Return the numbers of some units in words."""
    numbers = [str(number) for number in dimensions["dimension"]]
    return f"unit {numbers[0]}" if len(numbers) == 1 else f"units {', '.join(numbers)}"


def _holds(row: pd.Series) -> bool:
    """Return whether a latent is worth something, and more than the shuffled one."""
    error = np.hypot(row["worth_se"], row["shuffled_se"])
    above = row["worth"] - row["shuffled"] > SURE * error
    return bool(above and row["worth"] > SURE * row["worth_se"])


def _shift(program: Program, groups: tuple[str, ...]) -> str:
    """Return how many expressed genes the offset of a group or a level changes, or nothing."""
    decoder = program.model.decoder
    offset = decoder.group_offsets() if isinstance(decoder, HasGroupOffsets) else None
    several = len(program.families.design.keys) > 1
    if offset is None or (len(groups) != 1 and not several) or len(offset) < 2:
        return ""
    own = [program.schema.groups.index(group) for group in groups]
    others = [code for code in range(len(offset)) if code not in own]
    expressed_g = program.guide.input_g > np.log1p(EXPRESSED)
    changed_g = (offset[own].mean(0) - offset[others].mean(0)).abs() > np.log(CHANGED)
    n_changed = int((changed_g & expressed_g).sum())
    return (
        f" What all of its cells have in common is its offset: {n_changed} genes are "
        f"{CHANGED:g}-fold up or down there (rank_genes gives them q-values)."
    )
