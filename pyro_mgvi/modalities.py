"""Models of several modalities: what a MuData and a likelihood for each say of the components."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Self

from pyro_mgvi.analysis.discovery import DISCOVER
from pyro_mgvi.core import Decoder, Encoder, Latent, Likelihood, modality
from pyro_mgvi.core.interfaces import DataKind
from pyro_mgvi.data.modalities.counts import counts_of_mudata
from pyro_mgvi.errors import SettingsError
from pyro_mgvi.likelihoods import ModalityLikelihoods
from pyro_mgvi.model.component_checks import building, check_class
from pyro_mgvi.model.own_weight import OwnWeight
from pyro_mgvi.networks import (
    JointDecoder,
    ModalityDecoders,
    ModalityEncoders,
    SeparateEncoders,
)
from pyro_mgvi.training.program import LATENTS, Program

OF_ONE = 5  # dimensions of a modality's own latent, by default


class OfMuData(Program):
    """A program that is built from a MuData, too."""

    @classmethod
    def from_mudata(
        cls,
        mdata: Any,
        group_key: str | Sequence[str],
        modalities: Mapping[str, Callable[..., Likelihood]],
        *,
        layers: Mapping[str, str] | None = None,
        batch_key: str | None = None,
        covariate_keys: Sequence[str] = (),
        drop_empty: bool = False,
        sample_key: str | None = None,
        sample_effects: bool = True,
        feature_masks: Mapping[str, str] | None = None,
        latents: Latent | str | Iterable[Latent | str] | None = None,
        encoder: Callable[..., Encoder] = SeparateEncoders,
        decoder: Callable[..., Decoder] = JointDecoder,
        own_weight: OwnWeight | None = None,
        foreign_sample: int | None = None,
        seed: int = 0,
    ) -> Self:
        """Return an untrained model for modalities of the same cells, such as RNA and proteins.

        Cells may lack modalities, all cells of a group or some: what is absent is not zero, and
        has no influence. A cell is taken to have a modality if it has a count in it. Each modality
        has a likelihood, its own library size, which is observed, and its own decoder; each latent
        sees and explains what it reaches. Of one modality, the model is that of
        :meth:`MGVI.from_anndata <pyro_mgvi.MGVI.from_anndata>`.

        Parameters
        ----------
        mdata
            The MuData, with raw counts in the ``X`` of each modality, or in a layer. Its cells are
            the union of those of its modalities.
        group_key, layers, batch_key, covariate_keys, drop_empty, sample_key, sample_effects,
        feature_masks
            As for :func:`~pyro_mgvi.data.modalities.counts.counts_of_mudata`.
        modalities
            A likelihood of counts for each modality that the model is to be of, by its name.
            Features are called ``modality:name`` where there are several.
        latents
            By default ``shared(10)`` and ``private(10)``, which reach all modalities, and
            ``modality(name, 5)`` for each.
        encoder, decoder
            Class of the encoders and of the decoders: there is one for each set of modalities that
            latents reach, and one for each modality.
        own_weight, foreign_sample, seed
            As for :class:`~pyro_mgvi.training.program.Program`.

        Raises
        ------
        DataError, SettingsError
            Naming what is at fault in the data or the settings.

        Examples
        --------
        >>> from pyro_mgvi import MGVI, NB, ZINB
        >>> from pyro_mgvi.datasets import two_modalities
        >>> mdata = two_modalities(n_cells=60, n_genes=40, n_proteins=20)
        >>> mgvi = MGVI.from_mudata(mdata, "group", {"rna": ZINB, "prot": NB})
        >>> _ = mgvi.fit(mdata, max_epochs=2, progress=False)
        >>> sorted(mgvi.latents(mdata))
        ['prot', 'rna', 't_group1', 't_group2', 'z']
        """
        if not isinstance(modalities, Mapping):
            raise SettingsError(
                f"modalities={modalities!r}: give a likelihood for each, as in {{'rna': ZINB}}"
            )
        if isinstance(latents, str) and latents == DISCOVER:
            raise SettingsError(
                f"latents={DISCOVER!r} is for one modality: name the latents, or find them in one, "
                "as in MGVI.from_anndata(mdata['rna'], ..., latents='discover')"
            )
        modalities = dict(modalities)
        for likelihood in modalities.values():
            check_class("likelihood", likelihood)
        where = group_key, list(modalities), layers, batch_key, covariate_keys, drop_empty
        data = counts_of_mudata(mdata, *where, sample_key, sample_effects, feature_masks)
        initial = data.initial_values(DataKind.COUNTS)
        settings = own_weight, foreign_sample, seed
        if initial.modalities is None:
            (likelihood,) = modalities.values()
            chosen = LATENTS if latents is None else latents
            parts = chosen, encoder, decoder, likelihood
            return cls(data.schema, initial, *parts, False, *settings)
        with building():
            built = ModalityLikelihoods(initial, modalities)
        own = tuple(modality(name, OF_ONE) for name in modalities)
        return cls(
            data.schema,
            initial,
            (*LATENTS, *own) if latents is None else latents,
            partial(ModalityEncoders, encoder=encoder),
            partial(
                ModalityDecoders, decoder=decoder, outputs=[each.n_outputs for each in built.each]
            ),
            partial(ModalityLikelihoods, likelihoods=modalities),
            True,  # the library sizes are observed
            *settings,
        )
