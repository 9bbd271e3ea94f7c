"""What a process holds grows by what is made."""

import numpy as np

from pyro_mgvi.support.memory import peak_bytes, resident_bytes


def test_a_peak_is_at_least_what_is_held():
    before = resident_bytes()
    held = np.ones(10_000_000)
    assert resident_bytes() - before > 0.5 * held.nbytes
    assert peak_bytes() >= 0.9 * resident_bytes()
