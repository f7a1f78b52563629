"""Writes the kernel's settings: core pattern, user mode helpers, priorities of killing."""

CLASS = 10
KIND = "program"
SEEN = "ESCAPED in its output"

SETTINGS = ("kernel/core_pattern", "kernel/modprobe", "vm/overcommit_memory", "fs/file-max")
for setting in SETTINGS:
    for text in ("|/tmp/owned", "1"):
        try:
            with open(f"/proc/sys/{setting}", "w") as file:
                file.write(text)
            print("ESCAPED", setting)
        except OSError:
            pass
for path in ("/proc/self/uid_map", "/proc/sysrq-trigger", "/sys/fs/cgroup/cgroup.procs"):
    try:
        with open(path, "w") as file:
            file.write("0 0 1")
        print("ESCAPED", path)
    except OSError:
        pass
