"""Takes from this process what it needs no more: files, network, other processes, rights, memory without end.

Rules: called once, after what is needed was imported and opened; it cannot be taken back; what every Linux can do must succeed
(no further descriptor, so no file and no socket; no child; no rights), what some hosts forbid is done where it can be
(namespaces without a network, an empty root).
"""

from __future__ import annotations

import ctypes
import os
import resource
from contextlib import suppress

_NEW_USER, _NEW_NETWORK, _NEW_IPC = 0x10000000, 0x40000000, 0x08000000  # linux/sched.h
_NO_NEW_PRIVILEGES, _NOT_DUMPABLE = (38, 1), (4, 0)  # linux/prctl.h
_CAPABILITIES = 0x20080522  # linux/capability.h, version 3
_NOBODY = 65534


def lock_down(empty: str, *, memory: int, file_size: int, seconds: int) -> None:
    """``empty``: a folder that becomes the root; ``memory``, ``file_size`` in bytes; ``seconds`` of a processor.

    Raises OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.capset, libc.prctl, libc.unshare  # noqa: B018  looked up now: later nothing can be loaded
    for name, limit in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, file_size),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(name, (limit, limit))
    if os.geteuid() == 0:
        libc.unshare(_NEW_NETWORK | _NEW_IPC)
    else:
        libc.unshare(_NEW_USER | _NEW_NETWORK | _NEW_IPC)
    with suppress(OSError):
        os.chroot(empty)
        os.chdir("/")
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    header, nothing = (ctypes.c_uint32 * 2)(_CAPABILITIES, 0), (ctypes.c_uint32 * 6)()
    for done in (libc.capset(header, nothing), libc.prctl(*_NO_NEW_PRIVILEGES, 0, 0, 0), libc.prctl(*_NOT_DUMPABLE, 0, 0, 0)):
        if done != 0:
            raise OSError(ctypes.get_errno(), "rights could not be given up")
