"""The roll call: node 0 listens where torchrun's rendezvous will, and all others come to it.

So the port, the name and the way are tried before anything of torch's waits for them in silence.
"""

from __future__ import annotations

import contextlib
import errno
import hmac
import resource
import selectors
import socket
import time
from collections.abc import Callable, Iterator

from launcher.cluster.check.facts import NodeReport
from launcher.cluster.check.wire import Broken, Line, Message, decode, encode
from launcher.model.named_tuple import NamedTuple

_HELLO = "launcher-check-1"
_STRANGERS = 16  # connections beside the nodes' own that are heard before no more are taken
_RETRY = 0.25  # seconds
_FILES = 1 << 16
_ONE_TRY = 5.0  # seconds for a connection of which nothing comes back


class Came(NamedTuple):
    """A node that came, and how to talk to it."""

    report: NodeReport
    line: Line


class Present(NamedTuple):
    """Who came."""

    came: tuple[Came, ...]
    refused: tuple[str, ...]  # what was said to those that do not belong here
    waited: float  # seconds until the last one


# --- node 0 ----------------------------------------------------------------------------------


def listen(port: int) -> socket.socket:
    """Listen on every address.  Raises OSError: EADDRINUSE where somebody else does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _FILES:  # a connection for each node: 1024 is what many a host allows by itself
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, _FILES), hard))
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):  # a kernel that was started without IPv6
            return socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024
            )
    return socket.create_server(("", port), backlog=1024)


def gather(server: socket.socket, nodes: int, job: str, seconds: float) -> Present:
    """Wait until every other node has come, at most so long."""
    began = time.monotonic()
    came: dict[Line, NodeReport] = {}
    refused: list[str] = []
    heard = 0
    with selectors.DefaultSelector() as selector:
        selector.register(server, selectors.EVENT_READ)
        last = 0.0
        while len(came) < nodes - 1 and (left := began + seconds - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                if key.fileobj is server:
                    heard += 1
                    if heard > nodes + _STRANGERS:
                        refused.append("more connections came than there are nodes")
                        selector.unregister(server)
                        continue
                    try:
                        line = Line(server.accept()[0])
                    except OSError as err:  # a caller that hung up; no more files may be open
                        refused.append(err.strerror or str(err))
                        continue
                    selector.register(line.sock, selectors.EVENT_READ, line)
                    continue
                line = key.data
                try:
                    line.read_some()
                    if (message := line.take()) is None:
                        continue
                    selector.unregister(line.sock)
                    came[line] = _admit(message, job)
                    last = time.monotonic() - began
                except Broken as err:
                    with contextlib.suppress(KeyError):
                        selector.unregister(line.sock)
                    refused.append(_dismiss(line, str(err)))
    return Present(tuple(Came(report, line) for line, report in came.items()), tuple(refused), last)


def _admit(message: Message, job: str) -> NodeReport:
    """Return what a node says.  Raises Broken for what is none, or another job's."""
    if message.get("hello") != _HELLO:
        raise Broken("it is no node of a check: it says something else")
    theirs = str(message.get("job"))
    if not hmac.compare_digest(theirs.encode(), job.encode()):
        raise Broken(f"it is of job {theirs[:60]!r}, and this is {job[:60]!r}")
    report = decode(NodeReport, message.get("report"))
    if report is None or any(one is True or one is False for one in report):  # to Python a number
        raise Broken("it is of another version of the launcher")
    return report


def _dismiss(line: Line, why: str) -> str:
    """Tell a caller why it does not belong here, and return that for people."""
    try:
        who = str(line.sock.getpeername()[0]).removeprefix("::ffff:")
    except OSError:
        who = "somebody"
    with contextlib.suppress(Broken):
        line.send({"refused": why}, time.monotonic() + 1.0)
    line.close()
    return f"{who}: {why}"


def offsets(came: tuple[Came, ...], until: float) -> Iterator[tuple[int, float]]:
    """Yield each node's rank, and the seconds that its clock is ahead of ours (Cristian)."""
    for one in came:
        with contextlib.suppress(Broken):
            sent = time.time()
            one.line.send({"do": "clock"}, until)
            answer = one.line.receive(until)
            received = time.time()
            if isinstance(now := answer.get("clock"), (int, float)):
                yield one.report.rank, float(now) - (sent + received) / 2


# --- every other node --------------------------------------------------------------------------


class Unreachable(Exception):
    """Node 0 was not reached: the reason, as far as this node can tell, and what mends it."""

    def __init__(self, why: str, fix: str) -> None:
        super().__init__(why)
        self.fix = fix


def come(
    master: str, report: NodeReport, job: str, seconds: float, told: Callable[[str], None]
) -> Line:
    """Go to node 0 and say who we are, until somebody is there.

    Raises Unreachable with the last reason.
    """
    until = time.monotonic() + seconds
    why = fix = "no answer"
    said = False
    while time.monotonic() < until:
        try:
            left = max(0.1, min(_ONE_TRY, until - time.monotonic()))
            line = Line(socket.create_connection((master, report.port), timeout=left))
            line.send({"hello": _HELLO, "job": job, "report": encode(report)}, until)
            return line
        except socket.gaierror as err:
            why = f"the name {master} has no address ({err.strerror})"
            fix = "--master-addr with node 0's address; or the name server, the headless Service"
        except TimeoutError:
            why = "nothing comes back: a firewall drops it, or the host is down"
            fix = f"is {master} node 0, and on the right network? let port {report.port} of it in"
        except OSError as err:
            why, fix = _reason(err, master, report.port)
        except Broken as err:
            why, fix = str(err), f"who listens on port {report.port} of {master}?"
        if not said:
            told(f"waiting for node 0 at {master}:{report.port}: {why}")
            said = True
        time.sleep(_RETRY)
    raise Unreachable(why, fix)


def _reason(err: OSError, master: str, port: int) -> tuple[str, str]:
    """Return why a connection failed, and what mends it."""
    known = {
        errno.ECONNREFUSED: (
            "refused: nobody listens there",
            f"the same command on node 0, at the same time; is {master} node 0?",
        ),
        errno.ENETUNREACH: (
            "this node has no way there", f"a network that leads from here to {master}",
        ),
        errno.EHOSTUNREACH: (
            "no such host on the way there", f"is {master} up, and reached from this network?",
        ),
    }  # fmt: skip
    said = err.strerror or str(err)
    return known.get(err.errno or 0, (said, f"the way from here to port {port} of {master}"))
