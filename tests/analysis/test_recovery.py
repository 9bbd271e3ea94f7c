"""Which dimensions another latent holds: closed forms, and refits with planted latents."""

import numpy as np
import pytest
from pyro_mgvi.metrics import linear_cka, recovered

from pyro_mgvi import DataError

RNG = np.random.default_rng(0)
LATENT = RNG.normal(size=(3000, 3))
NOISE = RNG.normal(size=(3000, 3))


def test_a_rotated_and_scaled_latent_holds_every_dimension():
    turn = np.linalg.qr(RNG.normal(size=(3, 3)))[0] @ np.diag([0.1, 1.0, 10.0])
    assert (recovered(LATENT, LATENT @ turn + 5) > 0.99).all()


def test_the_share_is_one_minus_the_noise():
    noisy = LATENT + NOISE * [0.0, 1.0, 3.0]  # predicts 1, 1/2 and 1/10 of the variance
    np.testing.assert_allclose(recovered(LATENT, noisy), [1.0, 0.5, 0.1], atol=0.04)


def test_what_is_missing_is_missing_where_cka_hides_it():
    wide = LATENT * [10.0, 10.0, 1.0]
    without = np.column_stack([wide[:, :2], NOISE[:, 0]])
    assert linear_cka(wide, without) > 0.95
    shares = recovered(wide, without)
    assert (shares[:2] > 0.99).all() and shares[2] < 0.05


def test_unused_dimensions_and_foreign_cells():
    latent, again = LATENT.copy(), LATENT.copy()
    latent[:, 1] = 7.0
    latent[:50] = np.nan  # foreign to the first, and others to the second
    again[200:] = np.nan
    again[:, 0] = 0.0
    shares = recovered(latent, again)
    assert np.isnan(shares[1]) and shares[0] < 0.05 and shares[2] > 0.99
    assert np.isnan(recovered(np.ones((20, 2)), LATENT[:20])).all()
    assert (recovered(LATENT, np.zeros((3000, 2))) == 0).all()
    tiny = recovered(LATENT * 1e-12, LATENT * 1e12)
    assert (tiny > 0.99).all()


@pytest.mark.parametrize(
    ("again", "said"), [(LATENT[:200], "3000 and 200 cells"), (LATENT * np.nan, "0 cells")]
)
def test_other_cells_are_refused(again, said):
    with pytest.raises(DataError, match=said):
        recovered(LATENT, again)
