"""What a trained model says: genes, expression, diagnosis, and scores of latents."""

from pyro_mgvi.analysis.cross_fit import CrossFit, cross_fit
from pyro_mgvi.analysis.diagnosis import Diagnosis, diagnose
from pyro_mgvi.analysis.differential import differential_expression
from pyro_mgvi.analysis.expression import expression_draws, normalized_expression
from pyro_mgvi.analysis.latent_values import latents, write_latents
from pyro_mgvi.analysis.loadings import gene_programs, loadings
from pyro_mgvi.analysis.ranking import rank_genes

__all__ = [
    "CrossFit",
    "Diagnosis",
    "cross_fit",
    "diagnose",
    "differential_expression",
    "expression_draws",
    "gene_programs",
    "latents",
    "loadings",
    "normalized_expression",
    "rank_genes",
    "write_latents",
]
