"""What a gene's values are drawn from, given what a decoder says about the cell."""

from pyro_mgvi.likelihoods.chromatin import Bernoulli
from pyro_mgvi.likelihoods.families import NB, ZINB, Gaussian, Poisson
from pyro_mgvi.likelihoods.measured import MeasuredGenes, without_absent
from pyro_mgvi.likelihoods.modalities import ModalityLikelihoods, SideBySide
from pyro_mgvi.likelihoods.proteins import ProteinNB
from pyro_mgvi.likelihoods.zinb import ZeroInflatedNegativeBinomial

__all__ = [
    "Bernoulli",
    "NB",
    "ZINB",
    "Gaussian",
    "MeasuredGenes",
    "ModalityLikelihoods",
    "Poisson",
    "ProteinNB",
    "SideBySide",
    "ZeroInflatedNegativeBinomial",
    "without_absent",
]
