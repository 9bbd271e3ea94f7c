"""A device that is not there: ordinary tensors, and a note of where each of them would be.

Within :func:`pretended`, a tensor that is moved to :data:`DEVICE` is copied, and everything
computed from it is noted as being there. What a GPU would refuse is refused: an operation on
tensors of two devices, ``.numpy()`` without ``.cpu()``, and a generator of another device. What a
GPU would have to be waited for is noted (:attr:`Pretended.waits`).
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator

import lightning_fabric
import torch
from lightning_fabric.accelerators import CPUAccelerator
from lightning_fabric.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("privateuseone", 0)  # what torch calls a device that it does not know
CPU = torch.device("cpu")
NAME = "privateuseone"

aten = torch.ops.aten
CROSSING = {aten.copy_.default}  # from one device to another
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}
#: Whose result a GPU's owner has to wait for: the value itself, or the size of the result.
WAITED_FOR = {
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten.equal.default,
    aten.repeat_interleave.Tensor,
    aten._unique2.default,
    aten.bincount.default,
}
#: What makes tensors of its own in C++, where nobody sees for which device.
MADE_WITHIN = {torch.nn.functional.one_hot}


class WrongDevice(RuntimeError):
    """What a GPU would have refused."""


class Pretended:
    """Where each storage would be; and what would have been waited for."""

    def __init__(self) -> None:
        self._there: dict[int, StorageWeakRef] = {}  # weak ones: no other storage takes their place
        self.waits: list[str] = []
        self.watching = False

    def of(self, x: Tensor) -> torch.device:
        """Return where a tensor would be."""
        with torch._C.DisableTorchFunction():
            there = _storage(x)._cdata in self._there
        return DEVICE if there else CPU

    def note(self, x: object) -> object:
        """Note that a tensor would be on the device."""
        if isinstance(x, Tensor):
            with torch._C.DisableTorchFunction():
                for part in _parts(x):
                    storage = part.untyped_storage()
                    self._there[storage._cdata] = StorageWeakRef(storage)
            if len(self._there) > 50_000:
                self._there = {k: ref for k, ref in self._there.items() if not ref.expired()}
        return x

    def wait(self, what: object) -> None:
        """Note that something would have been waited for, and where in our own code."""
        if self.watching:
            ours = [
                f"{frame.filename.rsplit('pyro_mgvi/', 1)[1]}:{frame.lineno}"
                for frame in traceback.extract_stack()
                if "/pyro_mgvi/" in frame.filename
            ]
            self.waits.append(f"{what} in {ours[-1] if ours else 'no code of ours'}")


def _parts(x: Tensor) -> list[Tensor]:
    if x.layout == torch.sparse_csr:
        return [x.values(), x.crow_indices(), x.col_indices()]
    return [x]


def _storage(x: Tensor) -> torch.UntypedStorage:
    return _parts(x)[0].untyped_storage()


def _is_there(device: object) -> bool:
    return device is not None and torch.device(device).type == DEVICE.type  # type: ignore[arg-type]


class _Moved(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, pretended: Pretended, there: bool) -> Tensor:
        ctx.pretended, ctx.there = pretended, there
        return _copied(x, pretended, there)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        return _copied(grad, ctx.pretended, not ctx.there), None, None


def _copied(x: Tensor, pretended: Pretended, there: bool) -> Tensor:
    with torch._C._DisableTorchDispatch(), torch._C.DisableTorchFunction():
        moved = x.detach().clone()
    if there:
        pretended.note(moved)
    else:
        pretended.wait("a copy to the CPU")
    return moved


class _Functions(TorchFunctionMode):
    """What is said about devices, before it reaches the operations."""

    def __init__(self, pretended: Pretended):
        super().__init__()
        self.pretended = pretended

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, of = dict(kwargs or {}), self.pretended.of
        if func == Tensor.device.__get__:  # made anew for each access
            return of(args[0])
        if func in (Tensor.numpy, Tensor.__array__) and of(args[0]) == DEVICE:
            raise WrongDevice("can't convert a tensor of the device to numpy: call .cpu() first")
        if func is Tensor.cpu:
            return self._moved(args[0], CPU)
        if func is Tensor.to:
            return self._to(*args, **kwargs)
        if func in (Tensor.__deepcopy__, Tensor.new_tensor) and of(args[0]) == DEVICE:
            return self.pretended.note(func(*args, **kwargs))
        if "device" in kwargs and _is_there(kwargs["device"]):
            generator = kwargs.get("generator")
            if generator is not None:
                raise WrongDevice("a generator of the CPU cannot draw on the device")
            given = args[0] if args and isinstance(args[0], Tensor) else None
            result = func(*args, **{**kwargs, "device": CPU})
            return self._moved(result, DEVICE) if given is not None else self.pretended.note(result)
        if func is Tensor.register_hook:  # the backward pass leaves this mode, not that below
            return func(args[0], self._within(args[1]))
        if func in MADE_WITHIN:
            with torch._C._DisableTorchDispatch():
                result = func(*args, **kwargs)
            return self.pretended.note(result) if of(args[0]) == DEVICE else result
        return func(*args, **kwargs)

    def _within(self, hook):
        def run(gradient: Tensor):
            with self:
                return hook(gradient)

        return run

    def _moved(self, x: Tensor, device: torch.device) -> Tensor:
        if self.pretended.of(x) == device:
            return x
        return _Moved.apply(x, self.pretended, device == DEVICE)

    def _to(self, x: Tensor, *args, **kwargs):
        device = kwargs.pop("device", None)
        other = kwargs.pop("other", None)
        left = []
        for arg in args:
            if isinstance(arg, Tensor):
                other = arg
            elif isinstance(arg, (torch.device, str)):
                device = arg
            elif arg is not None:
                left.append(arg)
        if other is not None:
            device, left = self.pretended.of(other), [other.dtype, *left]
        if not any(isinstance(arg, torch.dtype) for arg in left):
            left = []  # whether to wait, and nothing to do
        if left or kwargs.get("dtype") is not None:
            x = x.to(*left, **kwargs)
        if device is None:
            return x
        return self._moved(x, DEVICE if _is_there(device) else CPU)


class _Operations(TorchDispatchMode):
    """Every operation, those of the backward pass included."""

    def __init__(self, pretended: Pretended):
        super().__init__()
        self.pretended = pretended

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, of = kwargs or {}, self.pretended.of
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        there = any(of(x) == DEVICE for x in tensors)
        if func in CROSSING:
            there = of(args[0]) == DEVICE
            if of(args[0]) == CPU and of(args[1]) == DEVICE:
                self.pretended.wait(func)
        elif func in INDEXING:
            there = of(args[0]) == DEVICE
            others = [x for x in tree_leaves(args[1]) if isinstance(x, Tensor)]
            if not there and any(of(x) == DEVICE for x in others):
                raise WrongDevice(f"{func}: indices on the device, and the tensor on the CPU")
            values = [x for x in args[2:3] if x.dim()]
            if any((of(x) == DEVICE) != there for x in values):
                raise WrongDevice(f"{func}: tensor and values on two devices")
            if there and any(x.dtype in (torch.bool, torch.uint8) for x in others):
                self.pretended.wait(func)
        elif there:
            elsewhere = [x for x in tensors if of(x) == CPU and x.dim()]
            if elsewhere:
                shapes = [(tuple(x.shape), of(x).type) for x in tensors]
                raise WrongDevice(f"{func}: tensors on two devices: {shapes}")
            if kwargs.get("generator") is not None:
                raise WrongDevice(f"{func}: a generator of the CPU cannot draw on the device")
            if func in WAITED_FOR:
                self.pretended.wait(func)
        result = func(*args, **kwargs)
        if there:
            tree_map(self.pretended.note, result)
        return result


class _Accelerator(CPUAccelerator):
    def setup_device(self, device: torch.device) -> None:
        pass


@contextlib.contextmanager
def pretended(monkeypatch) -> Iterator[Pretended]:
    """Let there be a device: ``"privateuseone"`` for an accelerator, :data:`DEVICE` for torch."""
    noted, real_fabric, real_load = Pretended(), lightning_fabric.Fabric, torch.load

    def fabric(accelerator: str, devices: int = 1):
        if accelerator != NAME:
            return real_fabric(accelerator=accelerator, devices=devices)
        strategy = SingleDeviceStrategy(device=DEVICE, accelerator=_Accelerator())
        return real_fabric(strategy=strategy, devices=1)

    def load(file, map_location=None, **kwargs):
        if not _is_there(map_location):
            return real_load(file, map_location=map_location, **kwargs)
        return tree_map(noted.note, real_load(file, map_location=CPU, **kwargs))

    with monkeypatch.context() as patch, _Functions(noted), _Operations(noted):
        patch.setattr(lightning_fabric, "Fabric", fabric)
        patch.setattr(torch, "load", load)
        yield noted
