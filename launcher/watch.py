"""Wait until the services answer, say so, verify PyTorch, then keep health.json true."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Sequence

from launcher import banner, codec, health, ready, report, service, ssh_keys
from launcher.machine import Machine
from launcher.model import Plan, Probe, RenderedFile
from launcher.sshd_config import sshd_service

_PROBE_INTERVAL = 0.03
_REFUSED_INTERVAL = 1.0
_VERIFY_TIMEOUT = 300.0  # importing PyTorch from a cold network disk takes minutes


def run(plan: Plan, machine: Machine, say: Callable[[str], None]) -> None:
    """Never returns: ends with the signal that stops the box."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # nothing to finish, nothing to report
    path = f"{plan.paths.run}/health.json"
    verification: _Verification | None = None
    if _announced(path, plan):  # we were restarted: the banner is in the log already
        probes = look(plan)
    else:
        probes = await_services(plan)
        health.write(path, plan.started, probes)
        text = banner.render_banner(machine, plan, probes, time.monotonic(), _tails(plan, probes))
        service.write([RenderedFile(f"{plan.paths.run}/banner", text + "\n", 0o600, -1, -1)])
        say(text)
        verification = _Verification(plan, machine)
        _make_rsa_host_key(plan)
    while True:
        health.write(path, plan.started, probes)
        if verification is None:
            time.sleep(health.INTERVAL)
        elif line := verification.wait(health.INTERVAL):
            say(line)
            verification = None
        before, probes = probes, look(plan)
        for line in report.changes(before, probes):
            say(line)


def await_services(plan: Plan) -> tuple[Probe, ...]:
    """Return once everything answers, or what does by the plan's deadline."""
    deadline = plan.started + plan.ready_timeout
    handshake = _SshHandshake(plan) if plan.ssh else None
    while True:
        probes: list[Probe] = []
        if plan.jupyter:
            probes.append(ready.probe_jupyter(plan.jupyter))
        if handshake:
            probes.append(handshake.look())
        if all(probe.ready for probe in probes) or time.monotonic() >= deadline:
            return tuple(probes)
        # A server that answers, and refuses, writes two lines about it each time.
        refused = any("answered" in probe.detail for probe in probes)
        time.sleep(_REFUSED_INTERVAL if refused else _PROBE_INTERVAL)


def look(plan: Plan) -> tuple[Probe, ...]:
    """Return how the services are, cheaply enough for every few seconds."""
    probes: list[Probe] = []
    if plan.jupyter:
        probes.append(ready.probe_jupyter(plan.jupyter))
    if plan.ssh:
        alive = ready.listens(plan.ssh.port)
        probes.append(Probe("ssh", alive, "listens" if alive else "does not listen"))
    return tuple(probes)


class _SshHandshake:
    """Tries the handshake in a child of its own, since paramiko takes 40 MB and keeps them."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._probe = Probe("ssh", False, "no handshake yet")
        self._reader, writer = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            self._run(writer)
        os.close(writer)

    def look(self) -> Probe:
        if self._pid and select.select([self._reader], [], [], 0)[0]:
            line = os.read(self._reader, 65536)
            if line:
                self._probe = codec.from_json(Probe, line.splitlines()[-1])
            else:
                os.waitpid(self._pid, 0)
                self._pid = 0
        return self._probe

    def _run(self, writer: int) -> None:
        assert self._plan.ssh is not None
        deadline = self._plan.started + self._plan.ready_timeout
        seen: Probe | None = None
        try:
            while (seen is None or not seen.ready) and time.monotonic() < deadline:
                seen = ready.probe_sshd(self._plan.ssh)
                os.write(writer, codec.to_json(seen).encode() + b"\n")
                time.sleep(0 if seen.ready else 0.1)
        finally:
            os._exit(0)


# --- PyTorch -------------------------------------------------------------------------------


class _Verification:
    """Looks deeper in a child: PyTorch on a cold disk takes minutes, and health goes on."""

    def __init__(self, plan: Plan, machine: Machine) -> None:
        self._reader, writer = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.nice(10)  # a notebook that starts now goes first
                os.write(writer, verify(plan, machine).encode())
            finally:
                os._exit(0)
        os.close(writer)

    def wait(self, timeout: float) -> str | None:
        """Return what it found as soon as that is known; None after `timeout` seconds."""
        if not select.select([self._reader], [], [], timeout)[0]:
            return None
        line = os.read(self._reader, 65536).decode(errors="replace")
        os.close(self._reader)
        os.waitpid(self._pid, 0)
        return line or "launcher: CUDA and PyTorch were not verified"


def verify(plan: Plan, machine: Machine) -> str:
    """Try CUDA, and let the user's own PyTorch run a kernel on each device, as the user."""
    from launcher import checks, probe  # some megabytes, which this child takes along when it ends

    seen = probe.collect(
        machine, plan.user_environment(), user=plan.identity.account, python=plan.paths.python,
        guest=plan.paths.guest, deadline=_VERIFY_TIMEOUT,
    )  # fmt: skip
    failure = checks.judge(seen).failure
    known = {note.id for note in plan.notes}
    return report.deep_line(
        seen.torch, failure if failure and failure.id not in known else None, plan.devices
    )


# --- the host key that is slow to make --------------------------------------------------------


def _make_rsa_host_key(plan: Plan) -> None:
    """Make it for the next start, in an orphan of the lowest priority that PID 1 reaps."""
    if plan.ssh is None:
        return
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        if os.fork() == 0:
            os.nice(19)
            environ = dict(sshd_service(plan, plan.ssh).env)
            ssh_keys.make_rsa_host_key(plan.paths.state, environ)
    except OSError:
        pass  # the disk is full: the next start tries again
    finally:
        os._exit(0)


# --- telling ---------------------------------------------------------------------------------


def _tails(plan: Plan, probes: Sequence[Probe]) -> dict[str, list[str]]:
    """Return the last lines of each service that is not ready."""
    programs = {"jupyter": "jupyter", "ssh": "sshd"}
    return {
        probe.service: service.last_lines(f"{plan.paths.run}/log/{programs[probe.service]}.log")
        for probe in probes
        if not probe.ready
    }


def _announced(path: str, plan: Plan) -> bool:
    report = health.read(path)
    return report is not None and report.get("started") == plan.started
