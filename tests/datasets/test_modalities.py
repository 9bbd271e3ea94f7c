"""Two simulated modalities: programs show where they should, and ceilings are of the truth."""

import numpy as np
import pytest

from pyro_mgvi import SettingsError
from pyro_mgvi.datasets import two_modalities
from pyro_mgvi.datasets.modalities import PROGRAMS


def explained(mdata, modality, program):
    """Return the share of the variance of a program's features that its states explain."""
    part = mdata.mod[modality]
    features = part.var[f"is_{program}"].to_numpy()
    cells = (mdata.obs[program] != "none").to_numpy()
    x = np.log1p(part.X.toarray()[cells])[:, features]
    states = mdata.obs[program].to_numpy()[cells]
    within = sum(x[states == s].var(0) * (states == s).mean() for s in np.unique(states))
    return 1 - within.sum() / x.var(0).sum()


def test_programs_show_in_their_modalities():
    mdata = two_modalities(seed=0, n_cells=400)
    for program, (_, shares) in PROGRAMS.items():
        for modality in ("rna", "prot"):
            n = mdata.mod[modality].var[f"is_{program}"].sum()
            assert n == round(shares.get(modality, 0.0) * mdata.mod[modality].n_vars)
            if n:
                assert explained(mdata, modality, program) > 0.2
    assert (mdata.obs["private"][mdata.obs["group"] == "group1"] == "none").all()
    assert all(0.9 < ceiling <= 1 for ceiling in mdata.uns["ceiling"].values())


def test_ceilings_are_at_chance_without_features_to_tell():
    mdata = two_modalities(seed=0, n_cells=300, n_genes=20, n_proteins=20)
    again = two_modalities(seed=0, n_cells=300, n_genes=20, n_proteins=20)
    assert mdata.uns["ceiling"] == again.uns["ceiling"]
    assert (mdata.mod["rna"].X != again.mod["rna"].X).nnz == 0


def test_too_few_cells_are_refused():
    with pytest.raises(SettingsError, match="n_cells"):
        two_modalities(n_cells=3)
