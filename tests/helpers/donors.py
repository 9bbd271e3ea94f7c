"""Scores of simulated donors: negative binomial counts, with random effects of known size."""

import numpy as np

from pyro_mgvi.analysis.sample_tests import Units


def nested_units(rng, cells, sd, genes=400, effect=0.0, affected=20):
    """Return units of donors, the first half of one group: quasi-scores at the true mean."""
    own = np.arange(len(cells)) >= len(cells) // 2
    mean_g, theta_g = np.exp(rng.normal(-1, 1.2, genes)), np.exp(rng.normal(0.7, 0.5, genes))
    sd_g = sd * np.sqrt(2 / rng.gamma(3, 1, genes))  # donors differ more in some genes
    shift_g = effect * (np.arange(genes) < affected)
    variance_g, scores, information = mean_g + mean_g**2 / theta_g, [], []
    for n, mine in zip(cells, own):
        of_donor_g = mean_g * np.exp(sd_g * rng.normal(size=genes) + shift_g * mine)
        counts = rng.poisson(of_donor_g * rng.gamma(theta_g, 1 / theta_g, (n, genes)))
        scores.append(((counts - mean_g) * mean_g / variance_g).sum(0))
        information.append(n * mean_g**2 / variance_g)
    design = np.column_stack([np.ones(len(cells)), own])
    return Units(np.array(scores), np.array(information), design)
