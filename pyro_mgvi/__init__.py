"""Shared and group-specific variation in grouped single-cell counts, as a Pyro program."""

from importlib.metadata import version

from pyro_mgvi.additive import AdditiveDecoder
from pyro_mgvi.calibration import CrossFit, cross_fit
from pyro_mgvi.data import GroupedCounts, Minibatch
from pyro_mgvi.decoders import JointDecoder, LogLinearDecoder
from pyro_mgvi.diagnostics import diagnose
from pyro_mgvi.divergence import divergence
from pyro_mgvi.elbo import WassersteinTraceELBO
from pyro_mgvi.encoders import SeparateEncoders, SharedTrunk
from pyro_mgvi.errors import DataError, MGVIError, ModelFileError, SettingsError, TrainingError
from pyro_mgvi.expression import differential_expression, expression_draws
from pyro_mgvi.genes import rank_genes
from pyro_mgvi.guide import Guide
from pyro_mgvi.latents import Latent, pairwise, private, shared, subsets
from pyro_mgvi.likelihoods import NB, ZINB, Gaussian, Poisson, ZeroInflatedNegativeBinomial
from pyro_mgvi.mgvi import MGVI
from pyro_mgvi.model import Model
from pyro_mgvi.planting import start_anew
from pyro_mgvi.presets import PAPER, Preset
from pyro_mgvi.priors import Absent, Davison, Dirac, SameAsOwn
from pyro_mgvi.programs import BasisDecoder
from pyro_mgvi.start import Start
from pyro_mgvi.training import TrainingPlan

__version__ = version("pyro-mgvi")

__all__ = [
    "MGVI",
    "NB",
    "PAPER",
    "ZINB",
    "Absent",
    "AdditiveDecoder",
    "BasisDecoder",
    "CrossFit",
    "DataError",
    "Davison",
    "Dirac",
    "Gaussian",
    "GroupedCounts",
    "Guide",
    "JointDecoder",
    "Latent",
    "LogLinearDecoder",
    "MGVIError",
    "Minibatch",
    "Model",
    "ModelFileError",
    "Poisson",
    "Preset",
    "SameAsOwn",
    "SeparateEncoders",
    "SettingsError",
    "SharedTrunk",
    "Start",
    "TrainingError",
    "TrainingPlan",
    "WassersteinTraceELBO",
    "ZeroInflatedNegativeBinomial",
    "cross_fit",
    "diagnose",
    "differential_expression",
    "divergence",
    "expression_draws",
    "pairwise",
    "private",
    "rank_genes",
    "shared",
    "start_anew",
    "subsets",
]
