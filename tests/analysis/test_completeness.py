"""Completeness: planted factors, closed forms, and bad input."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from pyro_mgvi import DataError
from pyro_mgvi.analysis.metrics import bent, completeness

CELLS = 600


def planted(seed, n_factors=3, genes=60, noise=1.0):
    """Return factors, and genes that follow them with noise of a known share."""
    rng = np.random.default_rng(seed)
    z_nk = rng.normal(size=(CELLS, n_factors))
    loading_kg = rng.normal(size=(n_factors, genes))
    loading_kg /= np.linalg.norm(loading_kg, axis=0)  # each gene's signal has variance 1
    return z_nk, z_nk @ loading_kg + noise * rng.normal(size=(CELLS, genes))


@pytest.mark.parametrize("noise", [0.5, 1.0, 2.0])
def test_the_true_factors_predict_the_share_of_signal(noise):
    z_nk, genes_ng = planted(0, noise=noise)
    found = completeness(z_nk, genes_ng[:, :20], genes_ng[:, 20:])
    share = 1 / (1 + noise**2)
    assert found.latents == pytest.approx(share, abs=0.05)
    assert found.components <= found.latents + 0.01 and found.ceiling <= found.latents + 0.01


def test_what_a_latent_lacks_is_missing():
    z_nk, genes_ng = planted(1)
    whole, part, none = (
        completeness(x, genes_ng[:, :20], genes_ng[:, 20:])
        for x in (z_nk, z_nk[:, :2], np.zeros((CELLS, 4)))
    )
    assert whole.ratio > 0.97
    assert 0.4 < part.latents / whole.latents < 0.85
    assert none.latents == 0.0 and np.isnan(none.ratio)  # components of no dimension, either
    noise = np.random.default_rng(2).normal(size=(CELLS, 3))
    assert completeness(noise, genes_ng[:, :20], genes_ng[:, 20:]).latents < 0.02


def test_what_is_there_but_bent_is_read_by_curves_alone():
    rng = np.random.default_rng(3)
    z_n1 = rng.normal(size=(CELLS, 1))
    bent_n1 = np.sin(2.5 * z_n1)
    genes_ng = bent_n1 + 0.3 * rng.normal(size=(CELLS, 60))
    line, curve = (
        completeness(z_n1, genes_ng[:, :20], genes_ng[:, 20:], regressor=regressor)
        for regressor in (None, bent())
    )
    share = bent_n1.var() / (bent_n1.var() + 0.3**2)
    assert line.latents < 0.3 and line.ratio < 0.4
    assert curve.latents == pytest.approx(share, abs=0.05) and curve.ratio > 0.95
    assert curve.components == pytest.approx(line.components, abs=0.02)


@pytest.mark.slow
def test_dimensions_of_noise_add_nothing_on_cells_that_are_not_seen():
    z_nk, genes_ng = planted(6, genes=220)
    noise_nk = np.random.default_rng(7).normal(size=(CELLS, 150))
    with_noise = completeness(np.hstack([z_nk, noise_nk]), genes_ng[:, :20], genes_ng[:, 20:])
    without = completeness(z_nk, genes_ng[:, :20], genes_ng[:, 20:])
    assert 0.2 < with_noise.latents < without.latents


def test_more_dimensions_than_genes_are_compared_with_all_components():
    z_nk, genes_ng = planted(8, genes=24)
    found = completeness(np.hstack([z_nk, z_nk**2, z_nk**3]), genes_ng[:, :20], genes_ng[:, 20:])
    assert found.components == pytest.approx(found.ceiling, abs=1e-3)  # four genes, turned


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 100), shift=st.floats(-10, 10))
def test_scale_shift_and_what_labels_differ_by_do_not_matter(seed, scale, shift):
    z_nk, genes_ng = planted(seed)
    label_n = np.arange(CELLS) % 4
    plain = completeness(z_nk, genes_ng[:, :20], genes_ng[:, 20:], label_n)
    moved_nk = scale * z_nk + shift + 7.0 * label_n[:, None]
    moved_ng = genes_ng.copy()
    moved_ng[:, :20] += 3.0 * label_n[:, None]
    again = completeness(moved_nk, moved_ng[:, :20], genes_ng[:, 20:], label_n)
    assert again.latents == pytest.approx(plain.latents, abs=1e-6)
    assert again.ceiling == pytest.approx(plain.ceiling, abs=1e-6)


def test_components_are_as_good_as_themselves():
    from sklearn.decomposition import PCA

    _, genes_ng = planted(3)
    components_nk = PCA(5, random_state=0).fit_transform(genes_ng[:, 20:])
    found = completeness(components_nk, genes_ng[:, :20], genes_ng[:, 20:])
    assert found.ratio == pytest.approx(1.0, abs=1e-9)


def test_foreign_cells_and_cells_without_a_label_are_left_out():
    z_nk, genes_ng = planted(4)
    label_n = np.array(["a", "b"] * (CELLS // 2), dtype=object)
    z_nk[::3] = np.nan
    label_n[1::3] = None
    kept = np.arange(CELLS) % 3 == 2
    whole = completeness(z_nk, genes_ng[:, :20], genes_ng[:, 20:], label_n)
    part = completeness(z_nk[kept], genes_ng[kept, :20], genes_ng[kept, 20:], label_n[kept])
    assert whole == part


def test_a_label_of_few_cells_is_as_if_they_were_not_there():
    z_nk, genes_ng = planted(4)
    label_n = np.array(["A rare one"] * 4 + ["a", "b"] * (CELLS // 2 - 2))  # the first code
    whole = completeness(z_nk, genes_ng[:, :20], genes_ng[:, 20:], label_n)
    part = completeness(z_nk[4:], genes_ng[4:, :20], genes_ng[4:, 20:], label_n[4:])
    assert whole == part


def test_bad_input_is_named():
    z_nk, genes_ng = planted(5)
    held_out, seen = genes_ng[:, :20], genes_ng[:, 20:]
    with pytest.raises(DataError, match=r"\[599, 600\] cells"):
        completeness(z_nk[1:], held_out, seen)
    with pytest.raises(DataError, match="no held-out gene varies"):
        completeness(z_nk, np.ones((CELLS, 3)), seen)
    with pytest.raises(DataError, match="too few to test"):
        completeness(z_nk, held_out, seen, np.arange(CELLS))


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        (slice(4, 5), np.nan, "genes are missing .* gene 5;"),
        (slice(4, 5), np.inf, "genes are .*infinite .* gene 5;"),
        (slice(None), np.nan, "genes are missing .* gene 1, 2, 3, 4, 5 and"),
    ],
)
def test_a_gene_that_is_not_finite_is_named_unless_the_cell_is_left_out(column, value, said):
    z_nk, genes_ng = planted(5)
    held_out, seen = genes_ng[:, :20], genes_ng[:, 20:]
    for i, name in enumerate(("held-out", "seen")):
        parts = [held_out.copy(), seen.copy()]
        parts[i][7, column] = value
        with pytest.raises(DataError, match=f"{name} {said}"):
            completeness(z_nk, *parts)
        own_nk = np.where(np.arange(CELLS)[:, None] == 7, np.nan, z_nk)
        assert completeness(own_nk, *parts) == completeness(own_nk, held_out, seen)
    with pytest.raises(DataError, match=r"held-out genes .* gene g4;"):
        named = pd.DataFrame(held_out, columns=[f"g{i}" for i in range(20)])
        named.iloc[0, 4] = np.nan
        completeness(z_nk, named, seen)


def test_sparse_tables_and_tables_of_no_numbers():
    z_nk, genes_ng = planted(5)
    held_out, seen = genes_ng[:, :20], genes_ng[:, 20:]
    whole = completeness(z_nk, held_out, seen)
    for form in (sparse.csr_matrix, sparse.csc_array, pd.DataFrame):
        assert completeness(z_nk, form(held_out), form(seen)) == whole
    for wrong, message in (
        (held_out[:, 0], r"cells x genes, not float64 values of shape \(600,\)"),
        (held_out.astype(str), "held-out genes must be numbers"),
        (pd.DataFrame([["a"]] * CELLS), "held-out genes must be numbers"),
        (held_out + 1j, "held-out genes must be numbers"),
    ):
        with pytest.raises(DataError, match=message):
            completeness(z_nk, wrong, seen)
    with pytest.raises(DataError, match="no seen gene"):
        completeness(z_nk, held_out, seen[:, :0])
