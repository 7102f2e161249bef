"""`launcher restart`, against a supervisor that obeys, refuses or is not there."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from xmlrpc.client import Fault
from xmlrpc.server import SimpleXMLRPCDispatcher, SimpleXMLRPCRequestHandler

import pytest

from launcher.model import run_files
from launcher.model.errors import BadSetting, StartFailed
from launcher.supervise import control, programs
from launcher.supervise.programs import Program

NOT_RUNNING = Fault(70, "NOT_RUNNING: box:jupyter")


class Supervisor(socketserver.ThreadingUnixStreamServer, SimpleXMLRPCDispatcher):
    """As much of supervisor's control socket as is used; `refusals` are its answers by method."""

    def __init__(self, path: str, refusals: dict[str, Fault]) -> None:
        SimpleXMLRPCDispatcher.__init__(self)
        super().__init__(path, Handler)
        self.asked: list[tuple[str, tuple[object, ...], str]] = []
        self.refusals = refusals
        self.logins: list[str] = []

    def _dispatch(self, method: str, parameters: tuple[object, ...]) -> bool:
        self.asked.append((method, tuple(parameters), self.logins[-1]))
        if method in self.refusals:
            raise self.refusals[method]
        return True


class Handler(SimpleXMLRPCRequestHandler):
    rpc_paths = ("/RPC2",)
    disable_nagle_algorithm = False  # a Unix socket has none

    def do_POST(self) -> None:
        self.server.logins.append(self.headers["Authorization"])  # type: ignore[attr-defined]
        super().do_POST()

    def log_request(self, code: object = "", size: object = "") -> None:
        """Say nothing; the address of a Unix client is no pair either."""


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Callable[..., Supervisor]]:
    started: list[Supervisor] = []

    def start(**refusals: Fault) -> Supervisor:
        methods = {f"supervisor.{name}": fault for name, fault in refusals.items()}
        started.append(Supervisor(f"{tmp_path}/supervisor.sock", methods))
        threading.Thread(target=started[-1].serve_forever, args=(0.01,), daemon=True).start()
        return started[-1]

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def known(folder: Path, **groups: str) -> None:
    """Write what supervise would of running programs: their names and groups."""
    there = {
        name: Program(group, "running", 7, 1.0, 1, None, required=False)
        for name, group in groups.items()
    }
    (folder / run_files.PROGRAMS).write_text(programs.to_json(there))


@pytest.mark.parametrize(
    ("asked", "told"),
    [("ssh", "box:sshd"), ("sshd", "box:sshd"), ("tensorboard", "tensorboard:tensorboard")],
)
def test_every_program_can_be_restarted_by_its_name(supervisor, tmp_path, asked, told) -> None:
    known(tmp_path, sshd="box", watch="box", tensorboard="tensorboard")
    running = supervisor()
    control.tell(str(tmp_path), "restart", asked)
    assert {words for _, words, _ in running.asked} == {(told,)}


@pytest.mark.parametrize("asked", ["jupyter", "post_start", "", "box:sshd"])
def test_what_is_not_there_is_answered_with_what_is(supervisor, tmp_path: Path, asked) -> None:
    known(tmp_path, sshd="box", watch="box", post_start="box", tensorboard="tensorboard")
    running = supervisor()
    with pytest.raises(BadSetting, match=r"there are: ssh, tensorboard$"):
        control.tell(str(tmp_path), "restart", asked)
    assert running.asked == []


def test_watch_can_be_restarted_and_no_more(supervisor, tmp_path: Path) -> None:
    """The health check says so, where it has stopped."""
    known(tmp_path, sshd="box", watch="box")
    running = supervisor()
    control.tell(str(tmp_path), "restart", "watch")
    assert {words for _, words, _ in running.asked} == {("box:watch",)}
    with pytest.raises(BadSetting, match=r"there are: ssh$"):
        control.tell(str(tmp_path), "stop", "watch")


@pytest.mark.parametrize("refusals", [{}, {"stopProcess": NOT_RUNNING}])
def test_it_is_stopped_and_started_and_nothing_else_is(supervisor, tmp_path, refusals) -> None:
    running = supervisor(**refusals)
    control.tell(str(tmp_path), "restart", "jupyter")
    asked = [(method.partition(".")[2], *words) for method, words, _ in running.asked]
    assert asked == [("stopProcess", "box:jupyter"), ("startProcess", "box:jupyter")]
    assert {login for _, _, login in running.asked} == {"Basic bGF1bmNoZXI6bGF1bmNoZXI="}


def test_what_is_not_planned_is_named(supervisor, tmp_path: Path) -> None:
    supervisor(stopProcess=Fault(10, "BAD_NAME: box:sshd"))
    with pytest.raises(BadSetting, match="no sshd runs in this box"):
        control.tell(str(tmp_path), "restart", "sshd")


def test_one_that_does_not_come_up_is_an_error_with_its_reason(supervisor, tmp_path) -> None:
    supervisor(startProcess=Fault(40, "ABNORMAL_TERMINATION: jupyter"))
    with pytest.raises(StartFailed, match="it ended at once"):
        control.tell(str(tmp_path), "restart", "jupyter")


def test_without_a_box_there_is_nothing_to_restart(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="no box runs here"):
        control.tell(str(tmp_path), "restart", "jupyter")
