"""Data to try things on: simulations with known truth, and public cells."""

from pyro_mgvi.datasets.blood import kang_pbmc
from pyro_mgvi.datasets.citeseq import pbmc_citeseq
from pyro_mgvi.datasets.intestine import haber_intestine, prepare
from pyro_mgvi.datasets.modalities import two_modalities
from pyro_mgvi.datasets.orthologs import pair_species
from pyro_mgvi.datasets.pancreas import TwoSpecies, baron_pancreas
from pyro_mgvi.datasets.simulate import SplatParams, clear_recipe, grouped, paper_recipe, splat

__all__ = [
    "SplatParams",
    "TwoSpecies",
    "baron_pancreas",
    "clear_recipe",
    "grouped",
    "haber_intestine",
    "kang_pbmc",
    "pair_species",
    "paper_recipe",
    "pbmc_citeseq",
    "prepare",
    "splat",
    "two_modalities",
]
