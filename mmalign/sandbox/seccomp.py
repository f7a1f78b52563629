"""The system calls that no program needs and that attacks on a kernel begin with."""

import ctypes
import errno
import os
import socket
from functools import lru_cache

__all__ = ["FORBIDDEN", "compile_filter"]

ALLOW = 0x7FFF0000
REFUSE = 0x00050000
EQUAL, NOT_EQUAL, MASKED_EQUAL = 4, 1, 7  # of libseccomp's comparisons

FORBIDDEN = tuple(
    """
acct add_key adjtimex bpf clock_adjtime clock_settime create_module delete_module
fanotify_init finit_module fsconfig fsmount fsopen fspick get_mempolicy init_module
io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit io_uring_enter
io_uring_register io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load keyctl
lookup_dcookie mbind memfd_create memfd_secret migrate_pages mount mount_setattr move_mount
move_pages msgctl msgget msgrcv msgsnd name_to_handle_at nfsservctl open_by_handle_at open_tree
perf_event_open personality pidfd_getfd pivot_root process_madvise process_vm_readv
process_vm_writev ptrace quotactl quotactl_fd reboot request_key semctl semget semop semtimedop
set_mempolicy setdomainname sethostname setns settimeofday shmat shmctl shmdt shmget stime swapoff
swapon sysfs syslog umount umount2 unshare uselib userfaultfd ustat vhangup vmsplice
""".split()  # noqa: SIM905  # a line for each would fill two pages
)
"""Shared memory of System V and memfd_create belong here because no limit counts their pages."""

NAMESPACES = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
"""clone's flags for new mount, cgroup, uts, ipc, user, pid and network namespaces."""

TIOCSTI, TIOCLINUX = 0x5412, 0x541C


class _Comparison(ctypes.Structure):
    _fields_ = [
        ("argument", ctypes.c_uint),
        ("operation", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    ]


@lru_cache(maxsize=1)
def compile_filter() -> bytes | None:
    """The filter as a BPF program for bubblewrap's --seccomp; None where libseccomp is absent.

    Everything is allowed but what is named here; a refused call fails with EPERM, `clone3` with
    ENOSYS, upon which the C library falls back to `clone`, whose flags can be seen. Calls of
    another architecture (32 bits on a 64-bit kernel) end the process.
    """
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return None
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(ALLOW)))
    try:
        return _exported(library, context)
    finally:
        library.seccomp_release(context)


def _exported(library: ctypes.CDLL, context: ctypes.c_void_p) -> bytes | None:
    def refuse(name: str, *conditions: _Comparison, code: int = errno.EPERM) -> None:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number == -1:
            return  # newer than this libseccomp
        array = (_Comparison * len(conditions))(*conditions)
        action = ctypes.c_uint32(REFUSE | code)
        library.seccomp_rule_add_array(context, action, number, len(conditions), array)

    for name in FORBIDDEN:
        refuse(name)
    refuse("clone3", code=errno.ENOSYS)
    for flag in NAMESPACES:
        refuse("clone", _Comparison(0, MASKED_EQUAL, flag, flag))
    for request in (TIOCSTI, TIOCLINUX):
        refuse("ioctl", _Comparison(1, MASKED_EQUAL, 0xFFFFFFFF, request))
    for call in ("socket", "socketpair"):
        refuse(call, _Comparison(0, NOT_EQUAL, socket.AF_UNIX, 0), code=errno.EAFNOSUPPORT)
    fd = os.memfd_create("seccomp")
    try:
        if library.seccomp_export_bpf(context, fd) != 0:
            return None
        size = os.lseek(fd, 0, os.SEEK_END)
        return os.pread(fd, size, 0)
    finally:
        os.close(fd)
