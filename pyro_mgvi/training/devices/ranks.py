"""The processes that train together: one, or as many as ``torchrun`` has started."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from pyro_mgvi.errors import SettingsError, TrainingError
from pyro_mgvi.support.launched import launched
from pyro_mgvi.training.devices.accelerator import fabric

T = TypeVar("T")


class Ranks:
    """What the processes of one training do together; a process that is alone does none of it.

    Parameters
    ----------
    accelerator, here
        As for :func:`~pyro_mgvi.training.devices.accelerator.fabric`.

    Raises
    ------
    SettingsError
        If there is no such device.

    Attributes
    ----------
    fabric
        Lightning's, which averages the gradients.
    rank, number
        Which process this is, from 0, and how many there are.

    Examples
    --------
    >>> ranks = Ranks("cpu")
    >>> ranks.number, ranks.first, ranks.gathered("cells")
    (1, True, ['cells'])
    """

    def __init__(self, accelerator: str, here: torch.device | None = None):
        self.fabric = fabric(accelerator, here, launched())
        self.rank, self.number = self.fabric.global_rank, self.fabric.world_size

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.number > 1

    @property
    def first(self) -> bool:
        """Whether this is the one that decides, reports and writes."""
        return self.rank == 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """Say in our own words that others have ended: what is then read from them fails.

        Raises
        ------
        TrainingError
            In the place of a ``RuntimeError``, if there are several processes.
        """
        try:
            yield
        except RuntimeError as error:
            if not self.several:
                raise
            reason = " ".join(str(error).split()).split(". ")[0][:300]
            raise TrainingError(
                f"rank {self.rank} of {self.number} cannot go on, probably because another rank "
                f"has ended ({reason}): see what that one said, and start all ranks again; with "
                "checkpoint=, training goes on from its last epoch, on any number of ranks"
            ) from error

    def gathered(self, value: T) -> list[T]:
        """Return what each process has, by rank: the same list everywhere."""
        if not self.several:
            return [value]
        each: list[T] = [value] * self.number
        with self.together():
            torch.distributed.all_gather_object(each, value)
        return each

    def check_same(self, facts: Mapping[str, str]) -> None:
        """Refuse a training of which these facts are not the same in all processes.

        Raises
        ------
        SettingsError
            Naming those that differ.
        """
        if differ := _differing(self.gathered(facts)):
            raise SettingsError(
                f"the {self.number} ranks were given different {', '.join(differ)}: start all of "
                "them with the same cells and settings; each takes its part of every minibatch"
            )

    def check_equal(self, module: nn.Module) -> None:
        """Stop a training whose weights are no longer the same in all processes.

        Raises
        ------
        TrainingError
            Naming weights that differ.
        """
        if not self.several:
            return
        weights = module.state_dict().items()
        sums = {name: repr(float(weight.double().sum())) for name, weight in weights}
        if differ := _differing(self.gathered(sums)):
            raise TrainingError(
                f"the ranks no longer have the same weights {', '.join(differ[:3])}: a component "
                "that changes them by itself, such as batch norm, does not train on several ranks"
            )

    def summed(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return terms of a loss as sums over all processes, the same bits everywhere.

        Another rank may have no cell, and no term; the first has all of them.
        """
        if not self.several:
            return terms
        each = self.gathered({name: float(term) for name, term in terms.items()})
        return {
            name: torch.tensor(sum(one.get(name, 0.0) for one in each), dtype=torch.float64)
            for name in each[0]
        }

    def told(self, say: Callable[[], T]) -> T:
        """Return what the first process says; the others are not asked."""
        if not self.several:
            return say()
        said: list[T | None] = [say() if self.first else None]
        with self.together():
            torch.distributed.broadcast_object_list(said, 0)
        return said[0]  # type: ignore[return-value]  # of the first, which is of this type

    def decided(self, decide: Callable[[], T], module: nn.Module) -> T:
        """Let the first process decide about a module; the others take over what it became."""
        decision = self.told(decide)
        if self.several:
            with self.together():
                for value in module.state_dict().values():
                    received = value.clone(memory_format=torch.contiguous_format)
                    torch.distributed.broadcast(received, 0)
                    value.copy_(received)
        return decision


def _differing(each: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the names of facts that are not the same everywhere."""
    names = dict.fromkeys(name for one in each for name in one)
    return [name for name in names if len({one.get(name) for one in each}) > 1]
