"""What can be asked of a trained model, as its methods."""

from __future__ import annotations

from pyro_mgvi import analysis
from pyro_mgvi.training.larger.add_samples import add_samples


class Results:
    """Functions of :mod:`pyro_mgvi.analysis` whose first argument is a trained model."""

    latents = analysis.latents
    write_latents = analysis.write_latents
    normalized_expression = analysis.normalized_expression
    expression_draws = analysis.expression_draws
    differential_expression = analysis.differential_expression
    effect_sizes = analysis.effect_sizes
    rank_genes = analysis.rank_genes
    diagnose = analysis.diagnose
    discover = analysis.discover
    loadings = analysis.loadings
    gene_programs = analysis.gene_programs
    summary = analysis.summary
    programs = analysis.programs
    program_summary = analysis.program_summary
    sample_effects = analysis.sample_effects
    add_samples = add_samples
    own = analysis.own
    write_rankings = analysis.write_rankings
