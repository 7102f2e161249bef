"""One funnel for NVML's fields: what a device or a driver does not tell is None."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pynvml

T = TypeVar("T")


def field(read: Callable[[], T]) -> T | None:
    """Return read(), or None where the device or the driver does not tell.

    NVML has many codes for that (not supported, no such function in this driver, no data, no
    permission in a container), and none of them makes the GPU unusable.  Raises NVMLError only
    for a GPU that is gone: everything else about it would be a guess.
    """
    try:
        return read()
    except pynvml.NVMLError_GpuIsLost:
        raise
    except pynvml.NVMLError:
        return None
