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
from launcher.box.run_dir import read_value
from launcher.checks.facts.how_to_run import fit
from launcher.model import codec, run_files
from launcher.model.errors import BadSetting
from launcher.model.machine import Machine
from launcher.model.masking import mask_text
from launcher.model.plan import Plan, RenderedFile, Ssh
from launcher.model.services import program_of
from launcher.model.watch import JupyterDoor, Probe, WatchTarget
from launcher.process.fork import fork_to_answer, hear_of_broken_pipes, write_all
from launcher.text import banner
from launcher.text import text as text_text
from launcher.watch import ready
from launcher.watch.host_key import tell_sshd

_PROBE_INTERVAL = 0.03
_REFUSED_INTERVAL = 1.0
_LONGEST_LOOK = 12.0  # seconds: Jupyter has ten of them for its answer
_VERIFY_TIMEOUT = 300.0  # importing PyTorch from a cold network disk takes minutes

# Hears how the services are, and whether the banner is printed.
Tell = Callable[[Sequence[Probe], bool], None]


def announce_box(box: WatchTarget, parent: int, say: Callable[[str], None], tell: Tell) -> str:
    """Announce the box, then look deeper.

    Args:
        parent: pid of the watch that started this; another one announces in its place.
        tell: hears of every change until the banner is printed, and of that.

    Returns what the look found broken that the banner does not say, with its fix; "" for nothing.
    Raises BadSetting where the box's files cannot be read.
    """
    plan = read_value(Plan, run_files.PLAN, box.run_dir)
    machine = read_value(Machine, run_files.MACHINE, box.run_dir)
    rsa = RsaKey(plan) if plan.ssh and not plan.ssh.rsa_host_key else None
    probes = await_services(plan, box.jupyter, lambda probes: tell(probes, False), rsa)
    plan = _with_rsa(plan, rsa)
    now = time.monotonic()
    text = banner.render_banner(machine, plan, probes, now, _tails(plan, probes))
    if os.getppid() != parent:
        return ""
    try:
        files.write([RenderedFile(f"{box.run_dir}/{run_files.BANNER}", text + "\n", 0o600, -1, -1)])
    except BadSetting as err:
        say(f"launcher: {fit(str(err), machine.host)}")
    for line in text.split("\n"):
        say(line)
    tell(probes, True)
    if not plan.check_pytorch:
        return ""
    os.nice(10)  # a notebook that starts now goes first
    line, broken = verify(plan, machine)
    say(line)
    return broken


def await_services(
    plan: Plan,
    door: JupyterDoor | None,
    heard: Callable[[Sequence[Probe]], None],
    rsa: RsaKey | None = None,
) -> tuple[Probe, ...]:
    """Return once everything answers, or what does within the plan's time, counted from now.

    Args:
        rsa: is offered as soon as it is made, while nobody has been told yet how to log in.
    """
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
        # Late, a banner that is due would find sshd at its keys, and call it not ready.
        early = left > plan.ready_timeout / 2
        unoffered = rsa if early and rsa and not rsa.offered and probes[-1].ready else None
        if handshake and plan.ssh and unoffered and unoffered.is_made() and unoffered.offer():
            handshake.end()
            handshake = _SshHandshake(plan.ssh)
            probes[-1] = handshake.look()
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


def verify(plan: Plan, machine: Machine) -> tuple[str, str]:
    """Try CUDA, and let the user's own PyTorch run a kernel on each device, as the user.

    Returns the line that says how it went, and what is broken that the banner does not say.
    """
    from launcher import checks
    from launcher.doctor import collect  # 60 ms to import: the banner does not wait for them
    from launcher.doctor.trials import Programs

    user, paths = plan.identity.account, plan.paths
    programs = Programs(paths.guest, paths.python, user, deadline=_VERIFY_TIMEOUT)
    seen = collect.collect(machine, plan.user_environment(), programs, cpu_only=plan.cpu_only)
    failure = checks.judge(seen._replace(image_torch=collect.image_torch(paths.python))).failure
    if failure and failure.id in {note.id for note in plan.notes}:
        failure = None
    line = text_text.deep_line(seen.torch, failure, plan.devices)
    return line, mask_text(f"{failure.what}; fix: {failure.fix}") if failure else ""


class RsaKey:
    """An RSA host key, for clients that know no ed25519, made while the box already starts.

    In a child of the lowest priority: it takes up to a second of a CPU.  Where that outlasts the
    start, `host_key` offers it later.
    """

    def __init__(self, plan: Plan) -> None:
        self._run_dir = plan.paths.run
        self._public = ""
        self.offered = False  # sshd was told
        state = plan.paths.state

        def make(writer: int) -> int:
            os.nice(19)
            with contextlib.suppress(OSError):  # a full disk: the next start tries again
                write_all(writer, (ssh_keys.make_rsa_host_key(state) or "").encode())
            return 0

        self._pid, self._reader = fork_to_answer(make)

    @property
    def public(self) -> str | None:
        """Return its public half once sshd has it."""
        return self._public if self.offered else None

    def is_made(self) -> bool:
        if self._pid and select.select([self._reader], [], [], 0)[0]:
            with open(self._reader, "rb") as answer:
                self._public = answer.read().decode()
            os.waitpid(self._pid, 0)
            self._pid = 0
        return bool(self._public)

    def offer(self) -> bool:
        """Let sshd read its keys; return whether one runs."""
        self.offered = tell_sshd(self._run_dir)
        return self.offered


def _with_rsa(plan: Plan, rsa: RsaKey | None) -> Plan:
    """Return the plan with the RSA host key that sshd has."""
    if not (plan.ssh and rsa and rsa.public):
        return plan
    return plan._replace(ssh=plan.ssh._replace(rsa_host_key=rsa.public))


def _tails(plan: Plan, probes: Sequence[Probe]) -> dict[str, list[str]]:
    """Return the last lines of each service that is not ready."""
    silent = [probe.service for probe in probes if not probe.ready]
    logs = {service: run_files.log(program_of(service)) for service in silent}
    return {service: files.last_lines(f"{plan.paths.run}/{log}") for service, log in logs.items()}
