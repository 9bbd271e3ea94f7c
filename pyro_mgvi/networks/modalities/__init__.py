"""Networks of several modalities: each latent sees and explains what it reaches."""

from pyro_mgvi.networks.modalities.decoders import ModalityDecoders
from pyro_mgvi.networks.modalities.encoders import ModalityEncoders

__all__ = ["ModalityDecoders", "ModalityEncoders"]
