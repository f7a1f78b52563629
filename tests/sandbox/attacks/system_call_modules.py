"""Loads kernels and modules, sets clocks, names and swap, restarts the machine."""

CLASS = 10
KIND = "program"
SEEN = "ESCAPED in its output"

import ctypes

libc = ctypes.CDLL(None, use_errno=True)
CALLS = {
    "init_module": (175, b"", 0, b""),
    "kexec_load": (246, 0, 0, None, 0),
    "swapon": (167, b"/tmp/swap", 0),
    "sethostname": (170, b"owned", 5),
    "open_by_handle_at": (304, -100, b"\0" * 16, 0),
}
for name, call in CALLS.items():
    if libc.syscall(*call) >= 0:
        print("ESCAPED", name)
