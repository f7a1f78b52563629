"""Prepared media in memory, for further questions about the same clip."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future

from mmalign.models.families import PreparedMedia

__all__ = ["MediaMemory"]


class MediaMemory:
    """Prepared media by what they were made of, the least recently used dropped.

    A medium that several threads want at once is made by the first of them.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._lock = threading.Lock()
        self._items: OrderedDict[str, Future[PreparedMedia]] = OrderedDict()

    def get(self, key: str, make: Callable[[], PreparedMedia]) -> PreparedMedia:
        """The media of a key."""
        with self._lock:
            future = self._items.get(key)
            is_ours = future is None
            if future is None:
                future = self._items[key] = Future()
            self._items.move_to_end(key)
        if not is_ours:
            return future.result()
        try:
            media = make()
        except BaseException as error:
            with self._lock:
                self._items.pop(key, None)
            future.set_exception(error)
            raise
        future.set_result(media)
        with self._lock:
            self._num_bytes += _num_bytes(media)
            finished = [name for name, item in self._items.items() if item.done()]
            for name in finished:
                if self._num_bytes <= self._max_bytes:
                    break
                self._num_bytes -= _num_bytes(self._items.pop(name).result())
        return media

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._items.clear()
            self._num_bytes = 0


def _num_bytes(media: PreparedMedia) -> int:
    return sum(tensor.nbytes for tensor in media.tensors.values())
