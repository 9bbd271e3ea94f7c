"""Components are tried on two cells when a model is built: what one cannot do is said then."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from pyro_mgvi.core.initial_values import InitialValues
from pyro_mgvi.core.interfaces import (
    DataKind,
    Decoder,
    Encoder,
    Likelihood,
    Moments,
    StartsDimensions,
)
from pyro_mgvi.errors import ComponentWarning, MGVIError, SettingsError
from pyro_mgvi.kernels.exclusive import check_full_precision, exclusive
from pyro_mgvi.model.generative import Model
from pyro_mgvi.model.guide import Guide

N = 2


def check_class(role: str, component: object) -> None:
    """Refuse a name or an object where the class of a component is meant.

    Raises
    ------
    SettingsError
        Saying what to write.
    """
    if isinstance(component, nn.Module):
        name = _name(component)
        raise SettingsError(
            f"{role} is a {name} that is built already: pass the class, {role}={name}, or "
            f"functools.partial({name}, ...) with its settings"
        )
    if not callable(component):
        examples = {"likelihood": "NB", "encoder": "SharedTrunk", "decoder": "LogLinearDecoder"}
        raise SettingsError(
            f"{role}={component!r} is no class: import one from pyro_mgvi and pass it, such as "
            f"{role}={examples[role]} (without quotes)"
        )


def kind_of(likelihood: Callable[..., Likelihood]) -> DataKind:
    """Return what kind of data a likelihood is of, before there are data to build it for.

    Raises
    ------
    SettingsError
        If it builds no :class:`~pyro_mgvi.core.Likelihood`.
    """
    check_class("likelihood", likelihood)
    kind = likelihood.func if isinstance(likelihood, partial) else likelihood
    if isinstance(kind, type) and issubclass(kind, Likelihood):
        return kind.data_kind  # its settings may be of the data's genes: it is not built for others
    with exclusive(), building():
        built = likelihood(InitialValues.blank(n_genes=2, n_groups=2))
    if not isinstance(built, Likelihood):
        raise SettingsError(
            f"likelihood={likelihood!r} builds {type(built).__name__}, which is not derived from "
            "pyro_mgvi.core.Likelihood"
        )
    return built.data_kind


@contextmanager
def building() -> Iterator[None]:
    """Turn what a class says of arguments that it does not take into an error of our own."""
    check_full_precision("cpu")
    if torch.get_default_device().type == "meta":
        raise SettingsError("torch's default device is 'meta', which holds no numbers: leave it")
    try:
        yield
    except MGVIError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:  # the last of torch, of sizes
        reason = " ".join(str(error).split())
        raise SettingsError(
            f"a component cannot be built: {reason}; look at the settings of encoder, decoder and "
            "likelihood"
        ) from error


@torch.no_grad()
def check_components(model: Model, guide: Guide, n_genes: int, n_covariates: int) -> None:
    """Run encoder, decoder and likelihood once on two made-up cells.

    Raises
    ------
    SettingsError
        Naming the component that is not of its base class, gives something of the wrong shape,
        or lacks what training needs.

    Warns
    -----
    ComponentWarning
        If encoder or decoder cannot start a dimension, so that training leaves out the search.
    """
    roles = (guide.encoder, Encoder), (model.decoder, Decoder), (model.likelihood, Likelihood)
    for component, role in roles:
        if not isinstance(component, role):
            raise SettingsError(
                f"{_name(component)} is no {role.__name__}: derive it from pyro_mgvi.core."
                f"{role.__name__}"
            )
    group = torch.arange(N) % len(model.latents.groups)
    covariates = torch.zeros(N, n_covariates, dtype=torch.float32)
    counts = torch.ones(N, n_genes, dtype=torch.float32)
    moments = _encoded(model, guide, counts, covariates, group)
    values = {latent.name: moments[latent.name][0] for latent in model.latents}
    _decoded(model, values, group, covariates, counts)
    unable = cannot_start(model, guide)
    if unable:
        warnings.warn(
            f"the {' and the '.join(unable)} cannot start a dimension at a given direction "
            "(pyro_mgvi.core.StartsDimensions): training leaves out the search for programs that "
            "gradients do not find, and closes no idle dimension before the end",
            ComponentWarning,
            stacklevel=4,
        )


def cannot_start(model: Model, guide: Guide) -> list[str]:
    """Return which encoders and decoders cannot start a dimension, by role and class.

    Those of single modalities, which are parts of another, are asked, too.
    """
    unable = [
        f"{role} {_name(part)}"
        for role, component in (("encoder", guide.encoder), ("decoder", model.decoder))
        for part in component.modules()
        if isinstance(part, (Encoder, Decoder)) and not isinstance(part, StartsDimensions)
    ]
    return [*dict.fromkeys(unable)]


def _encoded(
    model: Model, guide: Guide, counts: Tensor, covariates: Tensor, group: Tensor
) -> Moments:
    name = _name(guide.encoder)
    try:
        moments = guide.moments(counts, covariates, group=group)
    except Exception as error:
        raise SettingsError(f"encoder {name} fails on {N} cells: {error!r}") from error
    shapes: dict[str, tuple[int, ...]] = {x.name: (x.n_copies, N, x.dim) for x in model.latents}
    if "library" in moments:
        shapes["library"] = (N,)
    for latent, shape in shapes.items():
        if latent not in moments:
            raise SettingsError(f"encoder {name} gives nothing for latent {latent!r}")
        axes = "(copies, cells, dims)" if len(shape) == 3 else "(cells,)"
        for what, part in zip(("location", "scale"), moments[latent], strict=True):
            if tuple(part.shape) != shape:
                raise SettingsError(
                    f"encoder {name}: {what} of {latent!r} has shape {tuple(part.shape)}; it must "
                    f"be {axes}, here {shape}"
                )
        if not (moments[latent][1] > 0).all():
            raise SettingsError(f"encoder {name}: a scale of {latent!r} is not positive")
    return moments


def _decoded(
    model: Model, values: dict[str, Tensor], group: Tensor, covariates: Tensor, counts: Tensor
) -> None:
    decoder, likelihood = _name(model.decoder), _name(model.likelihood)
    try:
        parts = model.decode(values, group, covariates)
        model.decoder.log_prior()
    except Exception as error:
        raise SettingsError(f"decoder {decoder} fails on {N} cells: {error!r}") from error
    for part in parts:
        if len(part) != model.likelihood.n_outputs:
            raise SettingsError(
                f"decoder {decoder} gives {len(part)} output(s), likelihood {likelihood} wants "
                f"{model.likelihood.n_outputs}"
            )
        for output in part:
            if tuple(output.shape) != tuple(counts.shape):
                raise SettingsError(
                    f"decoder {decoder}: an output has shape {tuple(output.shape)}; it must be "
                    f"(cells, genes), here {tuple(counts.shape)}"
                )
    size = model.observed_log_library(counts)
    counts = model.only_measured(counts, group)
    try:
        distribution = model.distribution(parts, size, group)
        log_p = distribution.log_prob(counts)
    except MGVIError:
        raise
    except Exception as error:
        raise SettingsError(f"likelihood {likelihood} fails on {N} cells: {error!r}") from error
    if tuple(log_p.shape) != (N,):
        raise SettingsError(
            f"likelihood {likelihood}: log_prob has shape {tuple(log_p.shape)}, not one value per "
            "cell; end univariate distributions with .to_event(1)"
        )
    for what in ("mean", "variance", "sample"):
        try:
            value = distribution.sample() if what == "sample" else getattr(distribution, what)
        except (NotImplementedError, AttributeError) as error:
            raise SettingsError(
                f"likelihood {likelihood}: {type(distribution).__name__} has no {what}, which "
                f"{'predictive checks' if what == 'sample' else 'the search in training'} and "
                "q-values need"
            ) from error
        if tuple(value.shape) != tuple(counts.shape):
            raise SettingsError(
                f"likelihood {likelihood}: {what} has shape {tuple(value.shape)}, not (cells, "
                f"genes), here {tuple(counts.shape)}"
            )
    if model.data_kind is DataKind.COUNTS and not torch.isfinite(log_p).all():
        raise SettingsError(f"likelihood {likelihood}: log_prob of a count of 1 is not finite")


def _name(component: object) -> str:
    return type(component).__name__
