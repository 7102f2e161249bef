"""One funnel for NVML's fields: what a device or a driver does not tell is None."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pynvml

T = TypeVar("T")


def field(read: Callable[[], T]) -> T | None:
    """Return read(), or None where the device or the driver does not tell.

    NVML has many codes for that (not supported, no such function in this driver, no data, no
    permission in a container), and none of them makes the GPU unusable; nor does a text that is
    none, as a damaged infoROM has.  Whether one is lost is asked of its UUID alone (`nvml`):
    without that nobody could name it.
    """
    try:
        return read()
    except (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError, UnicodeDecodeError):
        return None


def is_not_supported(read: Callable[[], object]) -> bool:
    """Return whether the device says that it has no such thing."""
    try:
        read()
    except pynvml.NVMLError_NotSupported:
        return True
    except pynvml.NVMLError:
        return False
    return False
