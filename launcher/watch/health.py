"""health.json: what watch knows, for whoever asks; missing, foreign or old means unhealthy.

The health check runs every ten seconds: it imports nothing but this, names, os, json and time.
"""

from __future__ import annotations

import json
import os
import time

from launcher.model import run_files

TYPE_CHECKING = False  # typing's own would cost the health check 5 ms
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from launcher.model.watch import Probe

INTERVAL = 5.0  # seconds between two looks of watch
# What starts a box, as it stands in a command line: in the image, and on a plain machine.
_ENTRYPOINTS = (b"/opt/launcher/entrypoint", b"/entrypoint.py")
_STALE = 3 * INTERVAL + 5  # a busy machine may be late; a dead watch is not


# What a report has besides, for whoever counts and for the next watch.
_NOTHING: Mapping[str, object] = {
    "memory_kills": 0,  # processes of the box that the kernel killed for want of memory
    "ready_after": None,  # seconds from the start until every service answered
    "gpus": None,  # what is known of them
    "at_start": "",  # what was broken then, and its fix
    "more_memory": "",  # how to have more, where something was killed for want of it
}


def write_health(
    path: str,
    started: float,
    probes: Sequence[Probe],
    *,
    starting: bool = False,
    counts: Mapping[str, object] = _NOTHING,
) -> None:
    """Replace the report, whole.  Raises OSError, and the old one stays and grows stale.

    Args:
        started: CLOCK_MONOTONIC of the box's start, seconds.
        starting: the services have not all answered yet, and still may.
        counts: some of `_NOTHING`.
    """
    content = {
        "started": started,
        "stamp": time.monotonic(),
        "boot": _boot_id(),
        "pid": os.getpid(),
        "starting": starting,
        "healthy": not starting and all(probe.ready for probe in probes),
        **_NOTHING,
        **counts,
        "services": {
            probe.service: {"ready": probe.ready, "detail": probe.detail} for probe in probes
        },
    }
    new = f"{path}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(new, flags, 0o644), "w", encoding="ascii") as out:
        os.fchmod(out.fileno(), 0o644)  # open's mode is cut by the umask
        json.dump(content, out)
    os.rename(new, path)


def read_health(run_dir: str) -> Mapping[str, object] | None:
    """Return the report, or None where it is missing or not one."""
    try:
        with open(f"{run_dir}/{run_files.HEALTH}", encoding="utf-8") as stream:
            report = json.load(stream)
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) else None


def judge_health(
    report: Mapping[str, object] | None, now: float, boot: str, alive: bool = True, full: str = ""
) -> str | None:
    """Return why the box is not healthy, in one line, or None where it is.  Pure.

    Args:
        report: what health.json held; None where it is missing or unreadable.
        now: CLOCK_MONOTONIC, seconds.
        boot: this kernel's boot id.
        alive: the watch that wrote it is still there.
        full: the directory of the report, where its file system has no room.
    """
    if full:
        return f"{full} is full: nothing new can start; make room there: df -h {full}"
    if report is None:
        return "not ready yet: there is no health report"
    if report.get("boot") != boot:
        return "not ready yet: the health report is of another boot"
    if not alive:
        return "watch is gone; it is started again, see: launcher logs watch"
    stamp = report.get("stamp")
    if not isinstance(stamp, float) or not 0 <= now - stamp <= _STALE:
        return "the health report is old: watch has stopped; fix: launcher restart watch"
    if report.get("healthy") is True:
        return None
    services = report.get("services")
    failed = failures(services if isinstance(services, dict) else {})
    if report.get("starting") is True:
        return f"not ready yet: {failed or 'the services are starting'}"
    return failed or "unhealthy, and the health report does not say why"


def failures(services: Mapping[str, object]) -> str:
    """Return what is not ready, in one line."""
    return "; ".join(
        f"{name}: {seen.get('detail')}"
        for name, seen in services.items()
        if isinstance(seen, dict) and seen.get("ready") is not True
    )


def say_health(run_dir: str) -> tuple[bool, str]:
    """Return whether the box is healthy, and what is said of it: why not, or what it lacks."""
    report = read_health(run_dir)
    reason = why_unhealthy(report, run_dir)
    return reason is None, reason or degraded(report)


def degraded(report: Mapping[str, object] | None) -> str:
    """Return what was broken when the box started, "" for nothing.

    It is as healthy as it was then: whoever restarts what is unhealthy would do so for ever.
    """
    at_start = (report or {}).get("at_start")
    return f"degraded since the start: {at_start}" if at_start else ""


def check_health(run_dir: str) -> str | None:
    """Return why the box is not healthy, or None: one file, and whether watch still lives."""
    return why_unhealthy(read_health(run_dir), run_dir)


def why_unhealthy(report: Mapping[str, object] | None, run_dir: str) -> str | None:
    """Judge a report that was read from `run_dir`, here and now."""
    alive = report is None or os.path.exists(f"/proc/{report.get('pid')}")
    full = run_dir if _is_full(run_dir) else ""
    return judge_health(report, time.monotonic(), _boot_id(), alive, full)


def in_command_mode() -> bool:
    """Return whether the box runs a command, and so has no service to be ready."""
    arguments = _arguments_of("1")
    if arguments is None and _sees_other_boxes():  # ours is what is in our own cgroup
        ours = _read("/proc/self/cgroup")
        pids = [pid for pid in os.listdir("/proc") if pid.isdecimal()]
        found = (_arguments_of(pid) for pid in pids if _read(f"/proc/{pid}/cgroup") == ours)
        arguments = next((each for each in found if each is not None), None)
    if not arguments or arguments[0] == b"services":  # the image's own: for every health check
        return False
    from launcher.settings import environ  # where there is another command
    from launcher.settings.meant import understand

    return not understand([os.fsdecode(word) for word in arguments], environ.own()).services


def another_entrypoint() -> str:
    """Return the program that is the container's first process in our place; "" where we are."""
    first = _read("/proc/1/cmdline").split(b"\0")[0]
    if not first or _arguments_of("1") is not None or _sees_other_boxes():
        return ""
    return os.path.basename(os.fsdecode(first))


def _sees_other_boxes() -> bool:
    """Return whether PID 1 is not this box's, as with --pid=host, nor a plain machine's."""
    try:
        return os.readlink("/proc/1/ns/mnt") != os.readlink("/proc/self/ns/mnt")
    except OSError:  # another's, whom root of a container may not look into
        return os.geteuid() == 0


def _arguments_of(pid: str) -> list[bytes] | None:
    """Return what follows the entrypoint in a process's command line; None where it is none."""
    words = _read(f"/proc/{pid}/cmdline").removesuffix(b"\0").split(b"\0")
    entry = next((i for i, word in enumerate(words) if word.endswith(_ENTRYPOINTS)), None)
    return None if entry is None else words[entry + 1 :]


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError:
        return b""


def _is_full(directory: str) -> bool:
    try:
        room = os.statvfs(directory)
    except OSError:
        return False
    return bool((room.f_blocks and not room.f_bavail) or (room.f_files and not room.f_favail))


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return ""
