import numpy as np
from helpers.cells import make, read


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
