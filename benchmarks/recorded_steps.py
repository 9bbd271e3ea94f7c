"""An experiment: a training step on a GPU as one CUDA graph, repeated without Python.

No GPU has run it yet. ``benchmarks.gpu`` says whether losses stay equal and what it gives; it
belongs into the trainer once they do.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from pyro_mgvi.data import Minibatch

Step = Callable[[Minibatch], dict[str, Tensor]]

WARM_UP = 3  # steps of each size that are taken as they are: kernels are compiled in the first
logger = logging.getLogger(__name__)


class RecordedSteps:
    """Takes steps of a GPU by graphs, one for each size of minibatch; elsewhere as they are.

    What a step does must be the same whenever it is repeated, but for its cells and the random
    numbers, which are drawn as without a graph. After a change of anything else, :meth:`forget`.

    Parameters
    ----------
    step
        Takes a step, its optimiser's included, and returns the terms of the loss. All that it
        needs must stay where it is in memory.
    device
        Where it is taken.

    Examples
    --------
    >>> steps = RecordedSteps(lambda batch: {"x": batch.counts.sum()}, torch.device("cpu"))
    >>> none = torch.zeros(2, dtype=torch.long)
    >>> steps(Minibatch(torch.ones(2, 3), none, none, torch.zeros(2, 0)))
    {'x': tensor(6.)}
    """

    def __init__(self, step: Step, device: torch.device):
        self.step, self.works = step, device.type == "cuda"
        # The stream that computes now cannot be recorded, and gradients stay on one stream.
        self.stream = torch.cuda.Stream(device) if self.works else None
        self.taken: dict[int, int] = {}
        self.recordings: dict[int, Recording] = {}

    def forget(self) -> None:
        """Record anew: something else than the cells has changed."""
        self.taken.clear()
        self.recordings.clear()

    def __call__(self, batch: Minibatch) -> dict[str, Tensor]:
        """Take a step and return the terms of its loss."""
        if self.stream is None:
            return self.step(batch)
        with on(self.stream):
            return self._take(batch)

    def _take(self, batch: Minibatch) -> dict[str, Tensor]:
        size = len(batch.group)
        taken = self.taken[size] = self.taken.get(size, 0) + 1
        if not self.works or taken <= WARM_UP:
            return self.step(batch)
        if size not in self.recordings:
            try:
                self.recordings[size] = Recording(self.step, batch)
            except Exception as error:  # a step may wait for the GPU, or be written by a user
                logger.warning("steps run one kernel at a time, without a CUDA graph: %s", error)
                self.works = False
                return self.step(batch)
        return self.recordings[size](batch)


class Recording:
    """One step as a CUDA graph, for minibatches of the size of the first; not yet taken."""

    def __init__(self, step: Step, batch: Minibatch):
        self.batch = Minibatch._make(x.clone() if isinstance(x, Tensor) else x for x in batch)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=torch.cuda.current_stream()):
            terms = step(self.batch)
            self.names, self.terms = [*terms], torch.stack([*terms.values()])

    def __call__(self, batch: Minibatch) -> dict[str, Tensor]:
        """Take the step with these cells."""
        for here, new in zip(self.batch, batch):
            if isinstance(here, Tensor):
                here.copy_(new)
        self.graph.replay()
        return dict(zip(self.names, self.terms.clone().unbind()))


@contextmanager
def on(stream: torch.cuda.Stream) -> Iterator[None]:
    """Compute on a stream, after what came before and before what comes later."""
    around = torch.cuda.current_stream(stream.device)
    stream.wait_stream(around)
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        around.wait_stream(stream)
