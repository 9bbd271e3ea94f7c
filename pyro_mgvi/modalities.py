"""Models of several modalities: what a MuData and a likelihood for each say of the components."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from pyro_mgvi.core import Decoder, Encoder, InitialValues, Latent, Likelihood, modality
from pyro_mgvi.core.interfaces import DataKind
from pyro_mgvi.data import Schema
from pyro_mgvi.data.modalities.counts import counts_of_mudata
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.likelihoods import ModalityLikelihoods
from pyro_mgvi.model.component_checks import building, check_class
from pyro_mgvi.model.own_weight import OwnWeight
from pyro_mgvi.networks import ModalityDecoders, ModalityEncoders
from pyro_mgvi.training.program import LATENTS

OF_ONE = 5  # dimensions of a modality's own latent, by default


def of_mudata(
    mdata: Any,
    group_key: str | Sequence[str],
    modalities: Mapping[str, Callable[..., Likelihood]],
    layers: Mapping[str, str] | None,
    batch_key: str | None,
    covariate_keys: Sequence[str],
    drop_empty: bool,
    sample_key: str | None,
    latents: Latent | str | Iterable[Latent | str] | None,
    encoder: Callable[..., Encoder],
    decoder: Callable[..., Decoder],
    own_weight: OwnWeight | None,
    foreign_sample: int | None,
    seed: int,
) -> tuple[Schema, InitialValues, dict[str, Any]]:
    """Return what a model of a MuData is built with.

    Cells may lack modalities, all cells of a group or some: what is absent is not zero. A cell is
    taken to have a modality if it has a count in it; each modality's total is observed. Of one
    modality, the model is that of :meth:`MGVI.from_anndata <pyro_mgvi.MGVI.from_anndata>`.

    Parameters
    ----------
    mdata
        The MuData, with raw counts in the ``X`` of each modality, or in a layer.
    modalities
        A likelihood for each modality that the model is to be of, by its name.
    group_key, layers, batch_key, covariate_keys, drop_empty, sample_key
        As for :func:`~pyro_mgvi.data.modalities.counts.counts_of_mudata`.
    latents
        By default ``shared(10)`` and ``private(10)``, which reach all modalities, and
        ``modality(name, 5)`` for each.
    encoder, decoder
        Class of the encoders and decoders: one for each set of modalities that latents reach, and
        for each modality.
    own_weight, foreign_sample, seed
        As for :class:`~pyro_mgvi.training.program.Program`.

    Raises
    ------
    DataError, SettingsError
        Naming what is at fault in the data or the settings.
    """
    if not isinstance(modalities, Mapping):
        raise SettingsError(
            f"modalities={modalities!r}: give a likelihood for each, as in {{'rna': ZINB}}"
        )
    modalities = dict(modalities)
    for likelihood in modalities.values():
        check_class("likelihood", likelihood)
    where = group_key, list(modalities), layers, batch_key, covariate_keys, drop_empty, sample_key
    data = counts_of_mudata(mdata, *where)
    initial = data.initial_values(DataKind.COUNTS)
    settings: dict[str, Any] = {"own_weight": own_weight, "foreign_sample": foreign_sample}
    if initial.modalities is None:
        (likelihood,) = modalities.values()
        settings |= {"encoder": encoder, "decoder": decoder, "likelihood": likelihood}
        return data.schema, initial, {**settings, "latents": latents or LATENTS, "seed": seed}
    with building():
        built = ModalityLikelihoods(initial, modalities)
    outputs = [each.n_outputs for each in built.each]
    own = tuple(modality(name, OF_ONE) for name in modalities)
    settings |= {
        "latents": (*LATENTS, *own) if latents is None else latents,
        "encoder": partial(ModalityEncoders, encoder=encoder),
        "decoder": partial(ModalityDecoders, decoder=decoder, outputs=outputs),
        "likelihood": partial(ModalityLikelihoods, likelihoods=modalities),
        "observed_library": True,
        "seed": seed,
    }
    return data.schema, initial, settings
