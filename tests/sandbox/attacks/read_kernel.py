"""Reads kernel memory, messages and block devices."""

CLASS = 5
KIND = "program"
SEEN = "ESCAPED in its output"

import ctypes

for path in ("/dev/mem", "/dev/kmem", "/proc/kcore", "/dev/sda", "/dev/vda", "/dev/kmsg"):
    try:
        with open(path, "rb") as file:
            print("ESCAPED", path, file.read(16))
    except OSError:
        pass
buffer = ctypes.create_string_buffer(4096)
if ctypes.CDLL(None).klogctl(3, buffer, 4096) > 0:
    print("ESCAPED", buffer.value[:100])
