"""Takes the limits of time and memory away from itself."""

CLASS = 7
KIND = "candidate"
SEEN = "a run that goes on after its time"

import resource

for name in dir(resource):
    if name.startswith("RLIMIT_"):
        for limit in (resource.RLIM_INFINITY, 1 << 40, 1 << 20):
            try:
                resource.setrlimit(getattr(resource, name), (limit, limit))
            except (OSError, ValueError):
                pass


def add(a, b):
    while True:
        pass
