"""System calls that a seccomp filter forbids which is older than they are.  Pure."""

from __future__ import annotations

from launcher.checks.facts.how_to_run import fit, tell
from launcher.model.evidence import Evidence
from launcher.model.host import Host

_THREADS = "clone3"
_OLD = "a seccomp filter that is older than they are says EPERM, not ENOSYS"
THREADS_MEAN = "no program of this image can start a thread, so neither JupyterLab nor PyTorch runs"


def threads(seen: Evidence) -> str | None:
    return f"clone3: {_OLD}" if _THREADS in seen.refused_calls else None


def others(seen: Evidence) -> str | None:
    """Return those that more than threads need; all, where the lack of threads is no failure."""
    is_failure = bool(seen.gpus) and not seen.cpu_only
    names = [name for name in seen.refused_calls if name != _THREADS or not is_failure]
    return f"{', '.join(names)}: {_OLD}" if names else None


def update(seen: Evidence) -> str:
    return tell(seen.machine.host, "newer")


def in_words(host: Host) -> str:
    """Return what a start says where no thread can be started."""
    fix = fit(tell(host, "newer"), host)
    return f"clone3: {_OLD.replace('they are', 'this image')}: {THREADS_MEAN}; fix: {fix}"
