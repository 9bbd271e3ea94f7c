"""What a process holds grows by what is taken; what is freed is used again."""

import mmap
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from pyro_mgvi.support.memory import peak_bytes, resident_bytes

SIZE = 80_000_000


def test_memory_that_is_taken_is_seen_and_the_peak_is_no_less():
    before = resident_bytes()
    with mmap.mmap(-1, SIZE) as held:  # an array might be given pages that were free already
        held.write(b"\1" * SIZE)
        assert resident_bytes() - before > 0.5 * SIZE
        assert peak_bytes() > before + 0.5 * SIZE


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="only Linux tells them apart")
def test_a_process_does_not_have_the_peak_of_the_one_that_has_started_it():
    program = "from pyro_mgvi.support.memory import peak_bytes; print(peak_bytes())"
    with mmap.mmap(-1, 5 * SIZE) as held:
        held.write(b"\1" * 5 * SIZE)
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert float(run.stdout) < 4 * SIZE


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is the C library of Linux")
def test_pages_of_freed_arrays_are_not_asked_for_again():
    program = """
import resource
import numpy as np
from pyro_mgvi.support.memory import reuse_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        several = [np.ones(2_000_000, np.uint8) for _ in range(5)]
        del several
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
reuse_freed_memory()
print(before, faults())
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    before, after = map(int, told.stdout.split())
    pages = 100 * 5 * 2_000_000 // mmap.PAGESIZE
    assert before > 0.5 * pages
    assert after < 0.05 * pages
