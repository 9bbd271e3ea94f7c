"""Weight of the divergence of the copies that a cell owns, by evidence."""

from __future__ import annotations

from collections.abc import Mapping

from pyro_mgvi.core.copies import Latents
from pyro_mgvi.core.initial_values import InitialValues
from pyro_mgvi.core.latents import Latent
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.support.values import number

WEIGHT = 0.81  # by evidence, see benchmarks/notes/RESULTS.md

OwnWeight = float | Mapping[str, float]


def default_weight(latent: Latent, groups: tuple[str, ...], initial: InitialValues) -> float:
    """Return the weight of the owners' divergence: it grows with the noise that a copy could fit.

    That is the square root of the largest eigenvalue of pure noise, 1 + sqrt(genes / cells)
    (Marchenko and Pastur 1967), with the number of cells that own a copy. So variation is cheaper
    where more groups share it, and noise of few cells is left to the likelihood.

    Of several modalities, those genes count that a latent reaches.
    """
    owners = float((latent.membership(groups).float() @ initial.n_group_b).mean())
    n_genes: float = initial.n_genes
    if initial.modalities is not None:
        n_genes = sum(
            size
            for name, size in zip(initial.modalities.names, initial.modalities.sizes)
            if latent.reaches(name)
        )
    elif initial.measured_bg is not None:  # that some owner of a copy has
        reached_sg = latent.membership(groups).float() @ initial.measured_bg.float() > 0
        n_genes = float(reached_sg.sum(1).float().mean())
    noise: float = (n_genes / max(owners, 1.0)) ** 0.5
    return WEIGHT * (1 + noise)


def own_weights(
    given: OwnWeight | None, latents: Latents, initial: InitialValues
) -> dict[str, float]:
    """Return the weight of each latent: what is given, or the default.

    Parameters
    ----------
    given
        One weight for all latents, or one for each of some.
    latents, initial
        From which the others follow.

    Raises
    ------
    SettingsError
        If a weight is of no latent, or negative.
    """
    weights = {x.name: default_weight(x, latents.groups, initial) for x in latents}
    weights |= given_weights(given, latents)
    return weights


def given_weights(given: OwnWeight | None, latents: Latents) -> dict[str, float]:
    """Return the weights that are given, checked, as plain numbers by latent."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        given = {latent.name: given for latent in latents}
    known = [latent.name for latent in latents]
    unknown = [name for name in given if name not in known]
    if unknown:
        raise SettingsError(f"own_weight names unknown latent(s) {unknown}")
    return {name: number(f"own_weight of {name}", x, least=0.0) for name, x in given.items()}
