"""The two ends of a stream that may be longer than memory."""

__all__ = ["BoundedOutput"]


class BoundedOutput:
    """Keeps the first and the last half of a limit, and counts the rest."""

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._head = bytearray()
        self._tail = bytearray()
        self.num_bytes = 0

    def add(self, data: bytes) -> None:
        """More of the stream."""
        self.num_bytes += len(data)
        room = self._half - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        if len(self._tail) > 2 * self._half:
            del self._tail[: -self._half]

    def text(self) -> str:
        """All of it, or both ends and how much is missing between them."""
        if self.num_bytes <= len(self._head) + self._half:
            return bytes(self._head + self._tail).decode("utf-8", "replace")
        tail = self._tail[-self._half :]
        missing = self.num_bytes - len(self._head) - len(tail)
        ends = self._head.decode("utf-8", "replace"), tail.decode("utf-8", "replace")
        return f"{ends[0]}\n... {missing} bytes cut ...\n{ends[1]}"
