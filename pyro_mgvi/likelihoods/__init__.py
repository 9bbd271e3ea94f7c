"""What a gene's values are drawn from, given what a decoder says about the cell."""

from pyro_mgvi.likelihoods.families import NB, ZINB, Gaussian, Poisson
from pyro_mgvi.likelihoods.measured import MeasuredGenes, without_absent
from pyro_mgvi.likelihoods.modalities import ModalityLikelihoods, SideBySide
from pyro_mgvi.likelihoods.zinb import ZeroInflatedNegativeBinomial

__all__ = [
    "NB",
    "ZINB",
    "Gaussian",
    "MeasuredGenes",
    "ModalityLikelihoods",
    "Poisson",
    "SideBySide",
    "ZeroInflatedNegativeBinomial",
    "without_absent",
]
