"""The diagnosis in sentences."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from pyro_mgvi.training.program import Program

ACTIVE = 0.01  # variance of posterior means over cells (Burda et al. 2016)
SURE = 3.0  # standard errors by which a latent must be worth more than the shuffled one
LEAK = 0.15  # balanced accuracy above chance that counts as a leak
AGREE = 0.5  # linear CKA below which two refits disagree


def verdict(
    program: Program, dimensions: pd.DataFrame, copies: pd.DataFrame, probes: pd.DataFrame
) -> Iterator[str]:
    """Yield what the tables of a :class:`~pyro_mgvi.analysis.Diagnosis` say of each latent."""
    for copy in program.families.copies:
        row = copies.loc[copy.key]
        active = dimensions.loc[dimensions["latent"] == copy.key, "active"].sum()
        about = f"{copy.key} ({active} of {copy.dim} units active)"
        if not np.isnan(row["worth"]):
            owners = " and ".join(copy.groups)
            error = np.hypot(row["worth_se"], row["shuffled_se"])
            figures = f"{row['worth']:.2f} nats per unseen cell, {row['shuffled']:.2f} shuffled"
            above = row["worth"] - row["shuffled"] > SURE * error
            if above and row["worth"] > SURE * row["worth_se"]:
                yield f"{about}: holds variation that belongs to {owners} ({figures})."
            else:
                yield (
                    f"{about}: the private latents of {owners} hold nothing for unseen cells "
                    f"that the shuffled refit does not also find ({figures}); do not "
                    "interpret them."
                )
        if active and row["agreement"] < AGREE:
            yield f"{copy.key}: two refits disagree (linear CKA {row['agreement']:.2f})."
    schema = program.schema
    shared = {copy.key for copy in program.families.copies if copy.shared}
    registered = ("group", "label", schema.batch_key, *schema.categories)
    columns = probes[["latent", "target", "accuracy", "chance"]]
    for latent, target, accuracy, chance in columns.itertuples(index=False, name=None):
        wanted = target == "label" and latent in shared
        if not wanted and accuracy - chance > LEAK:
            advice = "" if target in registered else "; register it as batch_key"
            yield (
                f"{latent}: leaks the {target} (linear probe {accuracy:.2f}, "
                f"chance {chance:.2f}){advice}."
            )
