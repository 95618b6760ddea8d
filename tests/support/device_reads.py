"""Counts the times that Python asks for a number of a tensor: on a GPU each waits for it."""

from __future__ import annotations

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

READS = (
    "item",
    "_local_scalar_dense",
    "nonzero",
    "is_nonzero",
    "equal",
    "_unique2",
    "masked_select",
)


class DeviceReads(TorchDispatchMode):
    """While it is entered, by one thread; nothing else is changed."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket.__name__ in READS
        return func(*args, **(kwargs or {}))
