import numpy as np
import pytest
from helpers.cells import make, read

from pyro_mgvi.data.moments import extreme_cells


def test_start_is_the_moments_written_out():
    rng = np.random.default_rng(0)
    theta, n = np.tile([0.5, 2.0, 5.0], 20), 20_000
    library = rng.lognormal(7.0, 0.3, n)
    share = np.full(60, 1 / 60)  # many genes: the drawn depth follows the library
    mean = library[:, None] * share
    x = rng.poisson(rng.gamma(theta, mean / theta))
    adata = make(x, tissue=np.where(np.arange(n) % 3 == 0, "a", "b"))
    start = read(adata, drop_empty=True).initial_values()
    np.testing.assert_array_equal(start.n_group_b, [np.ceil(n / 3), n - np.ceil(n / 3)])
    start = start._replace(
        **{k: v.numpy() for k, v in start._asdict().items() if hasattr(v, "numpy")}
    )
    np.testing.assert_allclose(np.exp(start.log_rate_g), x.sum(0) / x.sum(), rtol=1e-3)
    np.testing.assert_allclose(np.exp(start.log_theta_g), theta, rtol=0.25)
    np.testing.assert_allclose(start.offset_bg, 0, atol=0.05)
    totals = x.sum(1)
    expected = [[np.log(totals).mean(), np.log(totals).std()]]
    np.testing.assert_allclose(start.log_library_b2, expected, rtol=1e-4)
    scaled = np.log1p(x / totals[:, None] * np.median(totals))
    np.testing.assert_allclose(start.input_g, scaled.mean(0), rtol=1e-4)


@pytest.mark.parametrize("n_broken", [1, 3])
def test_a_few_broken_cells_do_not_decide_where_all_start(n_broken):
    x = np.random.default_rng(0).poisson(np.linspace(1, 20, 30), (300, 30))
    tissue, plate = np.where(np.arange(300) % 3, "a", "b"), np.where(np.arange(300) < 150, "p", "q")
    broken = np.array([7, 100, 201])[:n_broken]
    whole, kept = x.copy(), np.setdiff1d(np.arange(300), broken)
    whole[broken, 4] = 1_000_000
    found = read(make(whole, tissue=tissue, plate=plate), batch_key="plate").initial_values()
    without = make(x[kept], tissue=tissue[kept], plate=plate[kept])
    expected = read(without, batch_key="plate").initial_values()
    others = (
        "log_library_b2",
        "n_group_b",
    )  # of all cells
    for name, value in expected._asdict().items():
        if hasattr(value, "numpy") and name not in others:
            np.testing.assert_allclose(getattr(found, name), value, rtol=1e-5, atol=1e-6)
    assert (
        found.n_group_b.sum() == 300 and found.log_library_b2[0, 0] > expected.log_library_b2[0, 0]
    )


def test_deep_cells_of_a_protocol_of_their_own_are_not_extreme():
    library_n = np.repeat([100.0, 5e4], 50)
    deep_n, same_n = np.repeat([0, 1], 50), np.zeros(100, int)
    assert not extreme_cells(library_n, deep_n, same_n).any()  # groups of two depths
    assert not extreme_cells(library_n, same_n, deep_n).any()  # batches of two depths
    assert extreme_cells(library_n[:60], same_n[:60], same_n[:60]).sum() == 10
