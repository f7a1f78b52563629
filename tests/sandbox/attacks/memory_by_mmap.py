"""Takes memory by mapping it, past the allocator."""

CLASS = 9
KIND = "program"
SEEN = "ESCAPED in its output"

import mmap

maps = []
try:
    for _ in range(64):
        maps.append(mmap.mmap(-1, 1 << 28))
        maps[-1][-1] = 1
    print("ESCAPED", len(maps))
except (OSError, MemoryError):
    print("no more")
