"""A device that is not there, for tests: CPU tensors that are told apart by where they would be.

Under :class:`PretendedDevice` everything is computed on the CPU, but every tensor has a place, and
what would fail on a real device raises: an operation on tensors of two places, and ``numpy()`` of a
tensor that was not brought back. Values are the CPU's, so results can be compared to the bit. What
a device's own kernels do, and how fast, only the device can show.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as trees

CPU, DEVICE = torch.device("cpu"), torch.device("cuda", 0)
ABOUT = {  # what is read or set of one tensor, wherever it is
    "__get__", "__set__", "__hash__", "__len__", "__bool__", "dim", "size", "stride", "numel",
    "data_ptr", "untyped_storage", "is_complex", "is_floating_point",
    "_has_compatible_shallow_copy_type",
}  # fmt: skip


def place(tensor: Tensor) -> torch.device:
    """Where a tensor would be."""
    return tensor.__dict__.get("_place", CPU)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in trees.tree_leaves(tree) if isinstance(leaf, Tensor)]


def _put(tensor: Tensor, device: torch.device) -> Tensor:
    tensor._place = DEVICE if device.type == DEVICE.type else CPU  # type: ignore[attr-defined]
    return tensor


def _as_device(value: Any) -> torch.device | None:
    if isinstance(value, str) and value.partition(":")[0] in ("cpu", DEVICE.type):
        return torch.device(value)
    return value if isinstance(value, torch.device) else None


class PretendedDevice(TorchFunctionMode):
    """While it is entered, by one thread, ``"cuda"`` is a device."""

    def __enter__(self) -> PretendedDevice:
        super().__enter__()
        self._new = new = nn.Parameter.__new__

        def made(cls: type, data: Tensor | None = None, requires_grad: bool = True) -> nn.Parameter:
            found: nn.Parameter = new(cls, data, requires_grad)  # which asks no mode
            return found if data is None else _put(found, place(data))  # type: ignore[return-value]

        nn.Parameter.__new__ = made  # type: ignore[assignment]
        return self

    def __exit__(self, *args: Any) -> None:
        nn.Parameter.__new__ = self._new  # type: ignore[method-assign]
        super().__exit__(*args)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if func == Tensor.device.__get__:
            return place(args[0])
        if func is Tensor.cpu:
            return _put(args[0].clone(), CPU)
        if func is Tensor.to:
            return _move(*args, **kwargs)
        if func is Tensor.numpy and place(args[0]) != CPU:
            raise TypeError("numpy() of a tensor that is on a device")
        if name in ABOUT:
            found = func(*args, **kwargs)
            if func == Tensor.data.__set__:  # type: ignore[attr-defined]
                _put(args[0], place(args[1]))
            if isinstance(found, Tensor) and found is not args[0]:
                _put(found, place(args[0]))
            return found
        wanted = _as_device(kwargs.get("device"))
        if wanted is not None:
            kwargs["device"] = "cpu"
        given = _tensors((args, kwargs))
        where = wanted or _common_place(name, given, args)
        found = func(*args, **kwargs)
        for tensor in _tensors(found):
            if not any(tensor is one for one in given):
                _put(tensor, where)
        return found


def _common_place(name: str, given: list[Tensor], args: Any) -> torch.device:
    """The place of an operation's tensors; numbers (0 dimensions) may be on the CPU."""
    if name == "copy_":
        return place(args[0])
    places = {place(tensor) for tensor in given if tensor.dim()}
    if name == "__getitem__" and place(args[0]) == DEVICE:  # an index may be on the CPU
        places = {DEVICE}
    if len(places) > 1:
        shown = ", ".join(f"{tuple(tensor.shape)} on {place(tensor)}" for tensor in given)
        raise RuntimeError(f"{name}: tensors of two devices: {shown}")
    if places:
        return places.pop()
    return place(given[0]) if given else CPU


def _move(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """``Tensor.to`` in all its forms."""
    wanted = _as_device(kwargs.pop("device", None))
    rest: list[Any] = []
    for value in args:
        if isinstance(value, Tensor):
            wanted = place(value)
            rest.append(value.dtype)
        elif _as_device(value) is not None:
            wanted = _as_device(value)
        elif isinstance(value, torch.dtype):
            rest.append(value)
    before = place(tensor)
    found = tensor.to(*rest, **kwargs) if rest or kwargs else tensor
    if wanted is not None and wanted.type != before.type:
        return _put(found.clone(), wanted)
    return found if found is tensor else _put(found, before)
