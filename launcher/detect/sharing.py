"""What shows in a container of others who share its GPUs.  Reads only; asks nobody.

MPS: nvidia-cuda-mps-control(1), "CUDA_MPS_PIPE_DIRECTORY"; the daemon listens in `control` there.
Time slicing: the NVIDIA device plugin for Kubernetes names a GPU's users UUID::NUMBER (its
internal/rm, AnnotatedID).  Limits: Project-HAMi/HAMi-core, README, "Environment variables".
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from launcher.model.host import Sharing

_PIPES = "/tmp/nvidia-mps"  # where CUDA looks without the variable
_REPLICA = "::"
_STRATEGY = "GPU_SHARING_STRATEGY"  # how the label nvidia.com/gpu.sharing-strategy is spelled then
_LIMITS = ("CUDA_DEVICE_MEMORY_LIMIT", "CUDA_DEVICE_SM_LIMIT")


def read_sharing(environ: Mapping[str, str], root: Path = Path("/")) -> Sharing:
    pipes = environ.get("CUDA_MPS_PIPE_DIRECTORY") or _PIPES
    listed = environ.get("NVIDIA_VISIBLE_DEVICES", "").split(",")
    return Sharing(
        mps=pipes if _listens(f"{root}/{pipes.lstrip('/')}/control") else "",
        replicas=tuple(name.strip() for name in listed if _REPLICA in name),
        time_slicing=any(
            name.endswith(_STRATEGY) and value == "time-slicing" for name, value in environ.items()
        ),
        limits=tuple(
            f"{name}={value}" for name, value in sorted(environ.items()) if name.startswith(_LIMITS)
        ),
    )


def _listens(path: str) -> bool:
    """Return whether a daemon has its end of a pipe there; a folder may be left of one."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # ValueError: a value with a null character
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
