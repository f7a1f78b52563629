"""Leaves POSIX shared memory and a message queue."""

CLASS = 8
KIND = "program"
SEEN = "a file outside"

import ctypes
import os
from multiprocessing import resource_tracker, shared_memory

resource_tracker.register = lambda *args: None
try:
    memory = shared_memory.SharedMemory("@TOKEN@", create=True, size=1 << 16)
    memory.buf[:4] = b"left"
except OSError as error:
    print(error)
print(ctypes.CDLL("librt.so.1").mq_open(b"/@TOKEN@", os.O_CREAT | os.O_RDWR, 0o666, None))
os._exit(0)
