"""What a trained model says: genes, expression, diagnosis, and scores of latents."""

from pyro_mgvi.analysis.cross_fit import CrossFit, cross_fit
from pyro_mgvi.analysis.diagnosis import Diagnosis, diagnose
from pyro_mgvi.analysis.differential import differential_expression, effect_sizes
from pyro_mgvi.analysis.discovery import Discovery, discover
from pyro_mgvi.analysis.expression import expression_draws, normalized_expression
from pyro_mgvi.analysis.fit_summary.summary import FitSummary, summary
from pyro_mgvi.analysis.gene_effects.dimensions import program_summary
from pyro_mgvi.analysis.gene_effects.samples import sample_effects
from pyro_mgvi.analysis.gene_effects.table import programs
from pyro_mgvi.analysis.gene_sets.enrichment import enrichment
from pyro_mgvi.analysis.gene_sets.reading import read_gene_sets
from pyro_mgvi.analysis.latent_values import latents
from pyro_mgvi.analysis.loadings import gene_programs, loadings
from pyro_mgvi.analysis.ranking import rank_genes
from pyro_mgvi.analysis.scverse.own_cells import own
from pyro_mgvi.analysis.scverse.rankings import write_rankings
from pyro_mgvi.analysis.scverse.written import write_latents

__all__ = [
    "CrossFit",
    "Diagnosis",
    "Discovery",
    "FitSummary",
    "cross_fit",
    "diagnose",
    "differential_expression",
    "discover",
    "effect_sizes",
    "enrichment",
    "expression_draws",
    "gene_programs",
    "latents",
    "loadings",
    "normalized_expression",
    "own",
    "program_summary",
    "programs",
    "rank_genes",
    "read_gene_sets",
    "sample_effects",
    "summary",
    "write_latents",
    "write_rankings",
]
