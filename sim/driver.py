"""Build the simulated NVIDIA driver, and say which machine it answers for.

`python -m sim.driver DEST` compiles into DEST.  README.md beside this file describes the
machine descriptions; `machines/` has some.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from . import description

SOURCES = Path(__file__).resolve().parent
MACHINES = SOURCES / "machines"
HOOK = SOURCES / "nvidia-container-runtime-hook"
CACHE = SOURCES.parent / ".cache" / "sim"  # where tests that share one build put it

CC = ("gcc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror")
LIBRARY = ("-shared", "-fPIC", "-fvisibility=hidden", "-pthread", "-ldl")

MACHINE = ("machine.c", "description.c", "values.c")
NVML = ("nvml.c", "nvml_device.c", "nvml_events.c", "nvml_topology.c", "nvml_counters.c")
CUDA = ("cuda.c", "cuda_visible.c")

# What is built, from which sources, and with which arguments.
TARGETS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "libnvidia-ml.so.1": ((*NVML, *MACHINE), (*LIBRARY, "-Wl,-soname,libnvidia-ml.so.1")),
    "libcuda.so.1": ((*CUDA, *MACHINE), (*LIBRARY, "-Wl,-soname,libcuda.so.1")),
    "nvsim-check": (("check.c", *NVML, *CUDA, *MACHINE), ("-rdynamic", "-pthread", "-ldl")),
}


class DescriptionError(ValueError):
    """A machine description that cannot be read; says FILE:LINE and why."""


def build(dest: Path) -> Path:
    """Compile into `dest` what is older than its sources; return `dest`.

    Safe to call from several processes and threads at once: one compiles, the others wait.
    """
    dest.mkdir(parents=True, exist_ok=True)
    with open(dest / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name, (sources, arguments) in TARGETS.items():
            if _is_stale(dest / name):
                _compile(dest / name, sources, arguments)
    return dest


def _is_stale(target: Path) -> bool:
    inputs = [*SOURCES.glob("*.[ch]"), Path(__file__)]
    newest = max(path.stat().st_mtime_ns for path in inputs)
    return not target.exists() or target.stat().st_mtime_ns < newest


def _compile(target: Path, sources: tuple[str, ...], arguments: tuple[str, ...]) -> None:
    # Written beside and renamed: a process that has the old library mapped keeps it whole.
    partial = target.with_name(f".{target.name}.partial")
    paths = [str(SOURCES / source) for source in sources]
    subprocess.run([*CC, "-o", str(partial), *paths, *arguments], check=True)
    os.replace(partial, target)


def find(machine: str | Path) -> Path:
    """Return the description called `machine`: a name in `machines/`, or a path."""
    named = MACHINES / f"{machine}.machine"
    path = named if named.exists() else Path(machine)
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in MACHINES.glob("*.machine")))
        raise FileNotFoundError(f"no machine {str(machine)!r}; there are {known}")
    return path


def vary(machine: str | Path, changes: Mapping[str, Mapping[str, str | None]], path: Path) -> Path:
    """Write `machine` with some keys changed, by section, to `path`; return `path`.

    >>> vary("h100-8x", {"gpu 3": {"state": "lost"}, "faults": {"cuInit": "return 802"}}, path)
    """
    path.write_text(description.edit(find(machine).read_text(), changes))
    return path


def happen(machine: Path, *events: str) -> None:
    """Let events happen to a machine that somebody waits at: `happen(path, "xid = 79, gpu 3")`."""
    with machine.open("a") as description:
        description.write("\n".join(("\n[events]", *events, "")))


def check(dest: Path, machine: str | Path) -> None:
    """Raise DescriptionError unless the libraries built in `dest` can read `machine`."""
    command = [str(build(dest) / "nvsim-check"), str(find(machine))]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as err:
        # Seen under load, on a virtual machine whose host takes memory back, and once in a thousand
        # times: execve(2) says EFAULT of arguments that are there.
        if err.errno != errno.EFAULT:
            raise
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        raise DescriptionError(found.stderr.strip() or f"nvsim-check: {found.returncode}")


def environment(
    dest: Path, machine: str | Path, base: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the environment in which a program sees `machine` as its own.

    The libraries are found by name, as the real ones are: nothing in the program is replaced.
    """
    check(dest, machine)
    env = dict(os.environ if base is None else base)
    env["LD_LIBRARY_PATH"] = ":".join(filter(None, [str(dest), env.get("LD_LIBRARY_PATH")]))
    env["NVSIM_MACHINE"] = str(find(machine).resolve())
    return env


def install_hook(dest: Path, machine: str | Path) -> Path:
    """Make `dest` a folder for dockerd's PATH, with which `--gpus` gives containers `machine`.

    Replacing `dest/default.machine` changes the machine of the containers started after that.
    """
    check(dest, machine)
    shutil.copyfile(find(machine), dest / "default.machine")
    link = dest / HOOK.name
    link.unlink(missing_ok=True)
    link.symlink_to(HOOK)
    return dest


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m sim.driver DEST")
    print(build(Path(sys.argv[1])))
