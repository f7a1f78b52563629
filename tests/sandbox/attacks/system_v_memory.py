"""Leaves a System V shared memory segment, semaphores and a queue."""

CLASS = 8
KIND = "program"
SEEN = "a segment with the canary's key on the host"

import ctypes

libc = ctypes.CDLL(None)
key = @PORT@
print(libc.shmget(key, 4096, 0o1666), libc.semget(key, 1, 0o1666), libc.msgget(key, 0o1666))
