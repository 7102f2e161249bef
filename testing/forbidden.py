"""Run a program below a seccomp filter that answers some system calls with EPERM, as old ones do.

    python testing/forbidden.py clone3,faccessat2 PROGRAM …

The filter: seccomp(2), and bpf(4)'s classic form; root needs no no_new_privs for it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

NUMBERS = {"clone3": 435, "close_range": 436, "openat2": 437, "faccessat2": 439}
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000  # SECCOMP_RET_*
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def forbid(*names: str) -> None:
    """Forbid them to this process and its children, for good.  Raises OSError."""
    steps = [(_LOAD, 0, 0, 0)]  # the number is the first word of struct seccomp_data
    for name in names:
        steps += [(_EQUAL, 0, 1, NUMBERS[name]), (_RETURN, 0, 0, _ERRNO | errno.EPERM)]
    steps.append((_RETURN, 0, 0, _ALLOW))
    code = b"".join(struct.pack("=HBBI", *step) for step in steps)
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0:
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    program = _Program(len(steps), code)
    if libc.prctl(_PR_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    forbid(*sys.argv[1].split(","))
    os.execvp(sys.argv[2], sys.argv[2:])
