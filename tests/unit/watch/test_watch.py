"""What watch does: the deep look, readiness, health whatever happens, the banner once."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from launcher.model import codec, run_files
from launcher.model.host import Account
from launcher.model.plan import Finding, Identity, Plan
from launcher.model.watch import Probe, WatchTarget
from launcher.plan.watch import plan_watch
from launcher.render.files import watch_file
from launcher.watch import announce, health, ready, watch
from launcher.watch.gpu_record import GpuRecord
from launcher.watch.gpus import GpuWatch
from testing.local_box import free_ports, wait_until
from testing.machines import CASES
from testing.probing import guest
from testing.values import replace

H100 = CASES["h100-8x"]
MYSELF = Account("me", os.geteuid(), os.getegid(), "/", "/bin/sh", tuple(os.getgroups()))


def plan(tmp_path: Path) -> Plan:
    made = H100.plan()
    return replace(
        made,
        paths=replace(made.paths, run=str(tmp_path)),
        identity=Identity(MYSELF, "a test"),
    )


# --- what it looks at --------------------------------------------------------------------------


def as_watched(made: Plan) -> WatchTarget:
    """Return what watch reads: it goes through the file."""
    file = watch_file(plan_watch(made, H100.machine))
    assert file.mode == 0o600
    assert file.path == f"{made.paths.run}/watch.json"
    return codec.from_json(WatchTarget, file.content or "")


@pytest.mark.parametrize("name", CASES)
def test_of_every_plan_watch_reads_what_it_needs(name: str) -> None:
    made, report = CASES[name].plan(), CASES[name].machine.report
    planned = plan_watch(made, CASES[name].machine)
    box = codec.from_json(WatchTarget, watch_file(planned).content or "")
    assert box == planned
    assert (box.run_dir, box.started) == (made.paths.run, made.started)
    assert (box.gpus is None) == (not report.gpus)
    if box.gpus:
        assert box.gpus.interval == made.gpu_watch
        assert [gpu.uuid for gpu in box.gpus.listed] == [gpu.uuid for gpu in report.gpus]
        assert box.gpus.lost == len(report.lost)
        assert box.gpus.environ == made.inherited
    assert (box.ssh and box.ssh.port) == (made.ssh and made.ssh.port)
    assert (box.jupyter is None) == (made.jupyter is None)
    if box.jupyter and made.jupyter:
        assert box.jupyter.port == made.jupyter.port
        assert made.jupyter.token.reveal() not in repr(box)
        assert made.jupyter.token.reveal() not in codec.to_json(box)


def test_what_restarts_the_box_is_said_in_the_words_of_the_place() -> None:
    host = replace(H100.machine.host, platform="kubernetes")
    target = plan_watch(H100.plan(), replace(H100.machine, host=host))
    assert target.anew.startswith("kubectl delete pod")
    down = [Probe("supervise", False, "it does not answer")]
    (probe,) = watch.news.with_programs(down, {}, target.anew)
    assert probe.detail.startswith("it does not answer; fix: kubectl delete pod")


def test_gpus_that_nobody_wants_watched_are_not() -> None:
    assert plan_watch(replace(H100.plan(), gpu_watch=0.0), H100.machine).gpus is None


# --- the deep look ---------------------------------------------------------------------------

COMPUTES = """
import json
print(json.dumps({"outcome": "ok", "version": "2.6.0", "cuda": "12.4", "available": True,
                  "devices": 8, "arches": ["sm_90"]}))
"""


def looked(tmp_path: Path, environ: dict[str, str]) -> tuple[Plan, str, str]:
    """Return a plan in which the user's programs run under `environ`, what is said, and broken."""
    made = plan(tmp_path)
    paths = replace(made.paths, guest=guest(tmp_path, COMPUTES), python=sys.executable)
    made = replace(made, paths=paths, inherited=tuple(environ.items()), environment=())
    return made, *announce.verify(made, H100.machine)


def test_what_pytorch_did_is_said(simulated, tmp_path: Path) -> None:
    _, line, broken = looked(tmp_path, simulated("h100-8x"))
    assert not broken
    assert line == "launcher: PyTorch 2.6.0: CUDA works on 8 of 8 devices"


def test_what_only_the_deep_look_finds_is_said_with_its_fix(simulated, tmp_path: Path) -> None:
    environ = simulated("h100-8x", {"faults": {"cuInit": "return 802"}})
    made, line, broken = looked(tmp_path, environ)
    assert "802" in line
    assert "fabric" in line
    assert "; fix: " in line
    assert "fabric" in broken
    assert broken.partition("; fix: ")[2] == line.partition("; fix: ")[2]
    # What the banner has said already is not said again.
    note = Finding("driver.fabric_manager", "what", "means", "fix")
    known, broken = announce.verify(replace(made, notes=(note,)), H100.machine)
    assert "fix: " not in known
    assert not broken


@pytest.mark.parametrize("wanted", [True, False])
def test_pytorch_is_imported_after_the_banner_unless_nobody_wants_it(
    simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    made, *_ = looked(tmp_path, simulated("h100-8x"))
    made = replace(made, jupyter=None, ssh=None, check_pytorch=wanted)
    target = plan_watch(made, H100.machine)
    for name, value in ((run_files.PLAN, made), (run_files.MACHINE, H100.machine)):
        Path(target.run_dir, name).write_text(codec.to_json(value))
    monkeypatch.setattr(os, "nice", lambda step: step)
    said: list[str] = []
    announce.announce_box(target, os.getppid(), said.append, lambda probes, announced: None)
    assert "═" * 80 in said
    assert (said[-1] == "launcher: PyTorch 2.6.0: CUDA works on 8 of 8 devices") == wanted


# --- readiness ---------------------------------------------------------------------------------


def quiet_plan(tmp_path: Path, timeout: float) -> Plan:
    """Return a plan of services that do not run, in a box whose hooks took minutes."""
    made = plan(tmp_path)
    first, second = free_ports(2)
    assert made.jupyter
    assert made.ssh
    return replace(
        made,
        jupyter=replace(made.jupyter, port=first, listen="127.0.0.1"),
        ssh=replace(made.ssh, port=second, listen="127.0.0.1"),
        ready_timeout=timeout,
        started=time.monotonic() - 1000,
    )


def test_what_is_not_ready_at_the_deadline_is_said(tmp_path: Path) -> None:
    begin, quiet = time.monotonic(), quiet_plan(tmp_path, 1.0)
    heard: list[list[Probe]] = []
    probes = announce.await_services(
        quiet, as_watched(quiet).jupyter, lambda seen: heard.append([*seen])
    )
    assert {probe.service: probe.ready for probe in probes} == {"jupyter": False, "ssh": False}
    assert all(probe.detail for probe in probes)
    assert 0.9 < time.monotonic() - begin < 10
    assert heard[-1] == list(probes)


class MadeKey:
    """An RSA host key, which is ready after so many seconds."""

    def __init__(self, after: float) -> None:
        self._ready = time.monotonic() + after
        self.offered = False

    def is_made(self) -> bool:
        return time.monotonic() > self._ready

    def offer(self) -> bool:
        self.offered = True
        return True


@pytest.mark.parametrize(("after", "offered"), [(0.0, True), (1.9, False)])
def test_a_key_that_comes_late_does_not_make_sshd_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: float, offered: bool
) -> None:
    """Sshd that reads its keys answers nobody, and the banner is due."""
    quiet = quiet_plan(tmp_path, timeout=2)
    monkeypatch.setattr(ready, "probe_sshd", lambda ssh: Probe("ssh", True, ""))
    key = MadeKey(after)
    jupyter, ssh = announce.await_services(
        quiet, as_watched(quiet).jupyter, lambda seen: None, cast(Any, key)
    )
    assert (jupyter.ready, ssh.ready) == (False, True)
    assert key.offered == offered


def test_a_box_without_services_is_ready_at_once(tmp_path: Path) -> None:
    bare = replace(quiet_plan(tmp_path, timeout=60), jupyter=None, ssh=None)
    assert announce.await_services(bare, None, lambda seen: None) == ()
    assert list(watch.probe_services(as_watched(bare))) == []


def test_a_cheap_look_sees_that_nobody_listens(tmp_path: Path) -> None:
    probes = watch.probe_services(as_watched(quiet_plan(tmp_path, timeout=1)))
    assert [(probe.service, probe.ready) for probe in probes] == [
        ("jupyter", False),
        ("ssh", False),
    ]


# --- one turn after another --------------------------------------------------------------------


def make_watch(tmp_path: Path, said: list[str]) -> watch.Watch:
    bare = replace(quiet_plan(tmp_path, 1.0), jupyter=None, ssh=None)
    return watch.Watch(as_watched(bare), said.append)


@pytest.fixture(autouse=True)
def _supervise(tmp_path: Path) -> Iterator[None]:
    """Answer at its socket, as supervise does."""
    here = os.getcwd()
    os.chdir(tmp_path)  # sun_path is short
    made = socket.socket(socket.AF_UNIX)
    made.bind("supervisor.sock")
    os.chdir(here)
    made.listen()
    with made:
        thread = threading.Thread(target=_answer_all, args=(made,), daemon=True)
        thread.start()
        yield
        made.shutdown(socket.SHUT_RDWR)
        thread.join()


def _answer_all(listening: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"HTTP/1.0 401 Unauthorized\r\n\r\n")


def test_a_report_that_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    said: list[str] = []
    turning = make_watch(tmp_path, said)
    (tmp_path / "health.json").mkdir()
    for _ in range(3):
        turning._next_look = 0.0
        turning.turn()
    (line,) = said
    assert line.startswith(f"launcher: cannot write {tmp_path}/health.json: ")
    (tmp_path / "health.json").rmdir()
    turning._next_look = 0.0
    turning.turn()
    assert health.check_health(str(tmp_path)) is None


def test_an_error_in_a_look_is_said_once_and_is_no_end(tmp_path: Path, monkeypatch) -> None:
    said: list[str] = []
    turning = make_watch(tmp_path, said)
    looks = watch.probe_services
    monkeypatch.setattr(watch, "probe_services", lambda box: 1 / 0)
    for _ in range(3):
        turning._next_look = 0.0
        turning.turn()
    assert said == ["launcher: watch cannot look, and goes on: ZeroDivisionError: division by zero"]
    blind = health.check_health(str(tmp_path))
    assert blind is not None
    assert blind.startswith("watch: it cannot look")
    monkeypatch.setattr(watch, "probe_services", looks)
    turning._next_look = 0.0
    turning.turn()
    assert health.check_health(str(tmp_path)) is None


def test_a_watch_that_was_restarted_knows_what_it_said_of_the_gpus(tmp_path: Path) -> None:
    box = as_watched(plan(tmp_path))
    assert box.gpus
    path = f"{tmp_path}/health.json"
    record = GpuRecord().with_loss("GPU 3 is lost").with_xid(2, 95, 1, "GPU 2 needs a reset")
    assert watch._known_of_gpus(box) == GpuRecord()
    health.write_health(path, box.started, (), counts={"gpus": record.to_json()})
    assert watch._known_of_gpus(box) == record
    probe = GpuWatch(str(tmp_path), box.gpus, watch._known_of_gpus(box)).probe
    assert (probe.ready, probe.detail) == (False, "GPU 3 is lost; GPU 2 needs a reset")
    health.write_health(path, box.started, ())
    assert watch._known_of_gpus(box) == GpuRecord()
    # Of the box before `docker restart`, which may have brought the GPUs back.
    health.write_health(path, box.started + 1, (), counts={"gpus": record.to_json()})
    assert watch._known_of_gpus(box) == GpuRecord()


def test_when_the_box_was_ready_is_kept(tmp_path: Path, monkeypatch) -> None:
    box = as_watched(replace(quiet_plan(tmp_path, 1.0), jupyter=None, ssh=None))
    turning = watch.Watch(box, lambda _: None)
    turning._next_look = 0.0
    turning.turn()
    report = health.read_health(str(tmp_path))
    assert report
    ready = report["ready_after"]
    assert isinstance(ready, float)
    again = watch.Watch(box, lambda _: None)  # a watch that was restarted
    again._next_look = 0.0
    again.turn()
    later = health.read_health(str(tmp_path))
    assert later
    assert later["ready_after"] == ready


# --- what listens, and does not answer ---------------------------------------------------------


def test_supervise_that_does_not_answer_is_unhealthy(tmp_path: Path, monkeypatch) -> None:
    turning = make_watch(tmp_path, said := [])
    turning.turn()
    assert health.check_health(str(tmp_path)) is None
    monkeypatch.setattr(ready, "_GREETING_TIMEOUT", 0.1)
    (tmp_path / "supervisor.sock").unlink()
    here = os.getcwd()
    os.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind("supervisor.sock")
        os.chdir(here)
        deaf.listen()
        turning._next_look = turning._next_question = 0.0
        turning.turn()
    reason = "supervise: it does not answer: timed out; fix: on the host: docker restart …"
    assert health.check_health(str(tmp_path)) == reason
    assert said == ["launcher: supervise is not ready: " + reason.removeprefix("supervise: ")]


# --- the child that announces ------------------------------------------------------------------


def announcing(tmp_path: Path, monkeypatch, deaths: int) -> tuple[list[str], watch.Watch]:
    """Announce, where the first children are killed before they have printed the banner."""
    counter = tmp_path / "children"

    def announce_box(box, parent, say, tell) -> str:
        with counter.open("a") as out:
            out.write("x")
        if counter.stat().st_size <= deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        tell([], True)
        return ""

    monkeypatch.setattr(announce, "announce_box", announce_box)
    turning = make_watch(tmp_path, said := [])
    turning.announce()
    return said, turning


@pytest.mark.parametrize("deaths", [0, 1, 2, 3])
def test_an_announcer_that_is_killed_is_followed_by_another(
    tmp_path: Path, monkeypatch, deaths: int
) -> None:
    said, turning = announcing(tmp_path, monkeypatch, deaths)
    line = "launcher: the box is not announced: its child was killed by SIGKILL; it is tried again"
    assert said == [line] * deaths
    assert bool(turning._announcer) == (deaths < 3)


def test_one_that_is_killed_while_pytorch_is_tried_is_said(tmp_path: Path, monkeypatch) -> None:
    def announce_box(box, parent, say, tell) -> None:
        tell([], True)
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(announce, "announce_box", announce_box)
    turning = make_watch(tmp_path, said := [])
    turning.announce()
    wait_until(lambda: turning.turn() or not turning._announcer, lambda: said)
    (line,) = said
    assert line == (
        "launcher: PyTorch was not tried: the child for it was killed by SIGKILL; "
        "try it: launcher doctor"
    )


@pytest.mark.parametrize("together", [True, False])
def test_what_the_deep_look_finds_broken_is_the_box_s_from_then_on(
    tmp_path: Path, monkeypatch, together: bool
) -> None:
    """As healthy as it was at the start; a watch that follows knows it too."""
    go = tmp_path / "go"

    def announce_box(box, parent, say, tell) -> str:
        tell([], True)
        while not together and not go.exists():
            time.sleep(0.01)
        return "PyTorch computes on no GPU; fix: another build"

    monkeypatch.setattr(announce, "announce_box", announce_box)
    turning = make_watch(tmp_path, said := [])
    turning.announce()
    assert together or not (health.read_health(str(tmp_path)) or {}).get("at_start")
    go.touch()
    wait_until(lambda: turning.turn() or not turning._announcer, lambda: said)
    now = (True, "degraded since the start: PyTorch computes on no GPU; fix: another build")
    turning._write()
    assert health.say_health(str(tmp_path)) == now
    watch.Watch(turning._box, said.append)._write()
    assert health.say_health(str(tmp_path)) == now


def test_a_box_that_was_paused_has_not_waited_meanwhile(tmp_path: Path, monkeypatch) -> None:
    """Each look finds that a minute has passed; a timeout of half a minute is three looks."""
    jumps = iter(range(0, 100_000, 60))
    clock = time.monotonic() + 1
    monkeypatch.setattr(announce.time, "monotonic", lambda: clock + next(jumps))
    looks: list[Probe] = []

    def probe(door) -> Probe:
        looks.append(Probe("jupyter", len(looks) > 1, "answers"))
        return looks[-1]

    monkeypatch.setattr(ready, "probe_jupyter", probe)
    alone = replace(quiet_plan(tmp_path, 30), ssh=None)
    (seen,) = announce.await_services(alone, as_watched(alone).jupyter, lambda probes: None)
    assert seen.ready
