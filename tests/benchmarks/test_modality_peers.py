"""What other methods for several modalities are given, and the scores of what they predict."""

import numpy as np
import pandas as pd
import pytest
from helpers.modalities import mosaic, small
from scipy import sparse

from benchmarks.modalities import correlations, without_proteins
from benchmarks.modality_peers import TASKS, Found, scores, whole

pytestmark = pytest.mark.filterwarnings("ignore:From 0.4:FutureWarning")  # of mudata
TASK = TASKS["citeseq"]._replace(second="prot")


@pytest.fixture
def mdata():
    mdata = mosaic(rna="d1", prot="d0")
    for part in mdata.mod.values():
        part.X = sparse.csr_matrix(part.X)
    return mdata


@pytest.mark.parametrize("need", [None, "rna"])
def test_cells_have_their_counts_and_zeros_where_they_lack_a_modality(mdata, need):
    same = whole(mdata, TASK, need)
    names = mdata.obs_names if need is None else mdata.mod[need].obs_names
    for name, part in same.mod.items():
        assert [*part.obs_names] == [*names]
        found, given = part.to_df(), mdata.mod[name].to_df()
        there = found.index.intersection(given.index)
        pd.testing.assert_frame_equal(found.loc[there], given.loc[there], check_dtype=False)
        assert not found.drop(there).to_numpy().any()
        assert [*part.obs["group"]] == [mosaic().mod["rna"].obs["donor"][cell] for cell in names]


def test_hidden_proteins_are_those_of_the_donor():
    mdata = mosaic()
    mdata.mod["adt"] = mdata.mod.pop("prot")
    kept, hidden = without_proteins(mdata, "d2")
    assert set(hidden.obs["donor"]) == {"d2"} and set(kept.mod["adt"].obs["donor"]) == {"d0", "d1"}
    assert kept.mod["rna"].n_obs == 60


def test_correlations_of_the_truth_are_one_and_of_noise_zero():
    rng = np.random.default_rng(0)
    x_ng = rng.poisson(rng.gamma(1.0, 20.0, (400, 30))).astype(float)
    found = correlations(x_ng, x_ng / x_ng.sum(1, keepdims=True))
    assert min(found.values()) == pytest.approx(1.0)
    noise = correlations(x_ng, rng.gamma(1.0, 1.0, (400, 30)))
    assert max(map(abs, noise.values())) < 0.1


def test_a_latent_of_labels_alone_scores_best():
    pytest.importorskip("igraph", reason="Leiden needs it")
    mdata = small(n=300, groups=3)
    kind_n = mdata.mod["rna"].obs["kind"].to_numpy()
    for part in mdata.mod.values():
        part.obs["label"] = part.obs["kind"]
    noise_nk = np.random.default_rng(0).normal(size=(300, 2))
    found = Found(mdata.obs_names, noise_nk + 9.0 * (kind_n == "a")[:, None])
    told = scores(mdata, TASK, found, mdata.obs_names)
    assert told["label"] > 0.95 and told["cells"] == 300
    assert told["group"] == pytest.approx(told["group_chance"], abs=0.1)
