"""What belongs to the whole process is taken in turns, and given back."""

import multiprocessing
import threading

import pytest
import torch

from pyro_mgvi.kernels.exclusive import exclusive, fast_small_numbers


def drawn(queue):
    with exclusive():
        queue.put("drawn")


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of Python 3.12 on
def test_a_child_that_is_forked_while_a_thread_draws_can_draw():
    """The thread that holds the lock is not in the child, and could never give it back."""
    begun, done = threading.Event(), threading.Event()

    def hold():
        with exclusive():
            begun.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait()
    fork = multiprocessing.get_context("fork")
    queue = fork.Queue()
    child = fork.Process(target=drawn, args=(queue,))
    try:
        child.start()
        assert queue.get(timeout=60) == "drawn"
    finally:
        done.set()
        thread.join()
        child.kill()


def test_small_numbers_and_validation_are_as_before():
    for validated in (True, False):
        torch.distributions.Distribution.set_default_validate_args(validated)
        with fast_small_numbers():
            torch.distributions.Distribution.set_default_validate_args(not validated)
        assert torch.distributions.Distribution._validate_args is validated
    torch.distributions.Distribution.set_default_validate_args(True)
    assert float(torch.tensor(1e-38) / 100) > 0
