"""Wait until the services answer, print the banner, then verify PyTorch: watch's first child.

It takes with it, when it ends, what only this needs: the banner, the checks, the plan.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Sequence

from launcher.box import files, ssh_keys
from launcher.box.run_dir import read_value, tell_init
from launcher.model import codec, run_files
from launcher.model.errors import BadSetting
from launcher.model.machine import Machine
from launcher.model.plan import Plan, RenderedFile, Ssh
from launcher.model.public_key import fingerprint
from launcher.model.services import program_of
from launcher.model.watch import JupyterDoor, Probe, WatchTarget
from launcher.process.fork import fork, fork_to_answer, hear_of_broken_pipes, write_all
from launcher.render.sshd import sshd_service
from launcher.text import banner
from launcher.text import text as text_text
from launcher.watch import ready

_PROBE_INTERVAL = 0.03
_REFUSED_INTERVAL = 1.0
_LONGEST_LOOK = 12.0  # seconds: Jupyter has ten of them for its answer
_VERIFY_TIMEOUT = 300.0  # importing PyTorch from a cold network disk takes minutes

# Hears how the services are, and whether the banner is printed.
Tell = Callable[[Sequence[Probe], bool], None]


def announce_box(box: WatchTarget, parent: int, say: Callable[[str], None], tell: Tell) -> None:
    """Announce the box, then look deeper.

    Args:
        parent: pid of the watch that started this; another one announces in its place.
        tell: hears of every change until the banner is printed, and of that.

    Raises BadSetting where the box's files cannot be read.
    """
    plan = read_value(Plan, run_files.PLAN, box.run_dir)
    machine = read_value(Machine, run_files.MACHINE, box.run_dir)
    probes = await_services(plan, box.jupyter, lambda probes: tell(probes, False))
    now, tails = time.monotonic(), _tails(plan, probes)

    def write_banner(plan: Plan) -> str:
        text = banner.render_banner(machine, plan, probes, now, tails)
        path = f"{box.run_dir}/{run_files.BANNER}"
        try:
            files.write([RenderedFile(path, text + "\n", 0o600, -1, -1)])
        except BadSetting as err:
            say(f"launcher: {err}")
        return text

    if os.getppid() != parent:
        return
    for line in write_banner(plan).split("\n"):
        say(line)
    tell(probes, True)
    if plan.ssh and not plan.ssh.rsa_host_key:
        offered = plan.ssh

        def made(key: str) -> None:
            write_banner(plan._replace(ssh=offered._replace(rsa_host_key=key)))

        _offer_rsa(plan, offered, say, made)
    os.nice(10)  # a notebook that starts now goes first
    say(verify(plan, machine))


def await_services(
    plan: Plan, door: JupyterDoor | None, heard: Callable[[Sequence[Probe]], None]
) -> tuple[Probe, ...]:
    """Return once everything answers, or what does within the plan's time, counted from now."""
    left = plan.ready_timeout
    handshake = _SshHandshake(plan.ssh) if plan.ssh else None
    seen = time.monotonic()
    before: list[Probe] = []
    while True:
        probes: list[Probe] = []
        if door:
            probes.append(ready.probe_jupyter(door))
        if handshake:
            probes.append(handshake.look())
        if probes != before:
            heard(probes)
            before = probes
        # A box that was paused (`docker pause`) has not waited meanwhile.
        seen, before_that = time.monotonic(), seen
        left -= min(seen - before_that, _LONGEST_LOOK)
        if all(probe.ready for probe in probes) or left <= 0:
            if handshake:
                handshake.end()
            return tuple(probes)
        # A server that answers, and refuses, writes two lines about it each time.
        refused = any("answered" in probe.detail for probe in probes)
        time.sleep(_REFUSED_INTERVAL if refused else _PROBE_INTERVAL)


class _SshHandshake:
    """Tries the handshake in a child of its own, which leaves when it has: paramiko takes 40 MB."""

    def __init__(self, ssh: Ssh) -> None:
        self._probe = Probe("ssh", False, "no handshake yet")
        self._pid, self._reader = fork_to_answer(lambda to: _try_handshakes(ssh, to))

    def look(self) -> Probe:
        if self._pid and select.select([self._reader], [], [], 0)[0]:
            line = os.read(self._reader, 65536)
            if line:
                self._probe = codec.from_json(Probe, line.splitlines()[-1])
            else:
                os.waitpid(self._pid, 0)
                self._pid = 0
        return self._probe

    def end(self) -> None:
        """Try no more."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._reader)


def _try_handshakes(ssh: Ssh, writer: int) -> int:
    hear_of_broken_pipes()
    seen: Probe | None = None
    while seen is None or not seen.ready:
        seen = ready.probe_sshd(ssh)
        write_all(writer, codec.to_json(seen).encode() + b"\n")
        time.sleep(0 if seen.ready else 0.1)
    return 0


def verify(plan: Plan, machine: Machine) -> str:
    """Try CUDA, and let the user's own PyTorch run a kernel on each device, as the user."""
    from launcher import checks
    from launcher.doctor import collect  # 60 ms to import: the banner does not wait for them
    from launcher.doctor.trials import Programs

    user, paths = plan.identity.account, plan.paths
    programs = Programs(paths.guest, paths.python, user, deadline=_VERIFY_TIMEOUT)
    seen = collect.collect(machine, plan.user_environment(), programs, cpu_only=plan.cpu_only)
    failure = checks.judge(seen).failure
    known = {note.id for note in plan.notes}
    return text_text.deep_line(
        seen.torch, failure if failure and failure.id not in known else None, plan.devices
    )


def _offer_rsa(
    plan: Plan, ssh: Ssh, say: Callable[[str], None], made: Callable[[str], None]
) -> None:
    """Make an RSA host key for clients that know no ed25519, and let sshd have it.

    In a child of the lowest priority that PID 1 reaps: it takes about a second of a CPU.
    """

    def make() -> int:
        os.nice(19)
        environ = dict(sshd_service(plan, ssh).env)
        with contextlib.suppress(OSError, BadSetting):  # a full disk: the next start tries again
            key = ssh_keys.make_rsa_host_key(plan.paths.state, environ)
            if key:
                made(key)
                say(f"launcher: sshd has an RSA host key, too: {fingerprint(key)}")
                tell_init(plan.paths.run, signal.SIGHUP)
        return 0

    fork(make)


def _tails(plan: Plan, probes: Sequence[Probe]) -> dict[str, list[str]]:
    """Return the last lines of each service that is not ready."""
    silent = [probe.service for probe in probes if not probe.ready]
    logs = {service: run_files.log(program_of(service)) for service in silent}
    return {service: files.last_lines(f"{plan.paths.run}/{log}") for service, log in logs.items()}
