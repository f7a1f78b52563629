"""Opens the kernel's doors for exploits: userfaultfd, bpf, perf, io_uring."""

CLASS = 10
KIND = "program"
SEEN = "ESCAPED in its output"
NEEDS = "seccomp"

import ctypes

libc = ctypes.CDLL(None, use_errno=True)
space = ctypes.create_string_buffer(256)
CALLS = {
    "userfaultfd": (323, 0),
    "bpf": (321, 0, space, 72),
    "perf_event_open": (298, space, 0, -1, -1, 0),
    "io_uring_setup": (425, 4, space),
}
for name, call in CALLS.items():
    if libc.syscall(*call) >= 0:
        print("ESCAPED", name)
