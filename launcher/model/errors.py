"""The ways a start ends without a box.  Imports nothing of ours, so that everybody may."""

from __future__ import annotations

import errno

# What a container runs out of, by the error that it shows as, and who gives more: in the words of a
# container of Docker's, which are those of the place where it is said (checks/facts/how_to_run).
_SHORTAGES = {
    errno.EAGAIN: "no more processes and threads are allowed here: docker run --pids-limit=-1 …",
    errno.EMFILE: "no more files may be open here: docker run --ulimit nofile=65536 …",
    errno.ENOMEM: "the memory is used up: docker run --memory=… with a higher limit",
    errno.ENOSPC: "it is full: make room there, or give it more",
    errno.EDQUOT: "the quota of its owner is used up: make room there, or give it more",
}


def shortage(err: OSError) -> str | None:
    """Return what there is too little of, and who gives more; None where that is not the reason."""
    return _SHORTAGES.get(err.errno or 0)


def reason(err: OSError) -> str:
    """Return why the system refused, with what mends it where that is known."""
    if err.errno == errno.EISDIR:
        return "it is a folder: an engine makes one where what is mounted there does not exist"
    return shortage(err) or err.strerror or str(err)


class LauncherError(Exception):
    """A stop that is the user's to mend; `exit_code` is the process's status."""

    exit_code = 70


class Stopped(Exception):
    """A stop was asked for: the number of the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class BadSetting(LauncherError):
    """A setting that cannot be used: sysexits EX_CONFIG."""

    exit_code = 78


class NoUsableGpu(LauncherError):
    """LAUNCHER_REQUIRE_GPU asked for GPUs that are not there: sysexits EX_UNAVAILABLE."""

    exit_code = 69


class StartFailed(LauncherError):
    """Something the box cannot do without did not come up: sysexits EX_SOFTWARE."""
