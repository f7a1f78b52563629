"""Bytes of tensors: those kept for a backward pass, and those alive at the worst moment."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["PeakBytes", "saved_bytes"]


def saved_bytes(forward: Callable[[], object], *, given: Iterable[Tensor]) -> int:
    """Bytes that a forward pass keeps for its backward pass, each storage once.

    Args:
        forward: Returns what holds the graph.
        given: Tensors that are there anyway, such as weights and inputs.
    """
    there = {tensor.untyped_storage().data_ptr() for tensor in given}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in there:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        graph = forward()  # alive until the sum: a freed address could be given twice
    total = sum(kept.values())
    del graph
    return total


class PeakBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch
    """While entered, watches the tensors that operations make, in forward and backward passes.

    What an operation allocates and frees inside itself is not seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self._given: dict[int, StorageWeakRef] = {}
        self.peak = 0
        """Most bytes that were alive at once, without tensors that were there before."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for reference, _ in _storages((args, kwargs)):
            if reference.cdata not in self._alive:
                self._given[reference.cdata] = reference
        result = func(*args, **kwargs)
        for reference, size in _storages(result):
            if reference.cdata not in self._given:
                self._alive[reference.cdata] = (reference, size)
        self._alive = {
            key: (reference, size)
            for key, (reference, size) in self._alive.items()
            if not reference.expired()  # type: ignore[no-untyped-call]  # torch
        }
        self.peak = max(self.peak, sum(size for _, size in self._alive.values()))
        return result


def _storages(values: object) -> list[tuple[StorageWeakRef, int]]:
    """What stands behind the tensors among some values, and how many bytes it has."""
    storages = [leaf.untyped_storage() for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
    return [(StorageWeakRef(storage), storage.nbytes()) for storage in storages]  # type: ignore[no-untyped-call]  # torch
