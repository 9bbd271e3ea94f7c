"""Encoders, from counts to latents, and decoders, from latents to expression."""

from pyro_mgvi.networks.additive_decoder import AdditiveDecoder
from pyro_mgvi.networks.basis_decoder import BasisDecoder
from pyro_mgvi.networks.joint_decoder import JointDecoder
from pyro_mgvi.networks.log_linear_decoder import LogLinearDecoder
from pyro_mgvi.networks.modalities import ModalityDecoders, ModalityEncoders
from pyro_mgvi.networks.separate_encoders import SeparateEncoders
from pyro_mgvi.networks.trunk_encoders import SharedTrunk, TrunkEncoder

__all__ = [
    "AdditiveDecoder",
    "BasisDecoder",
    "JointDecoder",
    "LogLinearDecoder",
    "ModalityDecoders",
    "ModalityEncoders",
    "SeparateEncoders",
    "SharedTrunk",
    "TrunkEncoder",
]
