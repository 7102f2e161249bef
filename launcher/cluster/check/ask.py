"""What node 0 asks of the others, and what it makes of their answers."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence

from launcher.cluster import values
from launcher.cluster.check import echo, measure
from launcher.cluster.check.facts import NodeReport, Outcome, Pair, Reduced
from launcher.cluster.check.look import Here
from launcher.cluster.check.roll_call import Came
from launcher.cluster.check.wire import Broken, Message, decode_all, encode

A_MOMENT = 5.0  # seconds for an answer that needs no work

Present = tuple[Came, ...]


def connect(here: Here, came: Present) -> tuple[Pair, ...]:
    """Let every node connect to the others at once."""
    seconds = min(echo.LONGEST, here.seconds)
    mine = echo.Echo(here.report.door)
    doors = {0: (here.report.door, mine.port)}
    moment = time.monotonic() + A_MOMENT
    for other, answer in _ask_all(came, {"do": "listen"}, moment):
        port = values.port(str(answer.get("port"))) if answer else None
        doors[other.report.rank] = (other.report.door, port or 0)
    peers = [[rank, address, port] for rank, (address, port) in doors.items()]
    finish = time.monotonic() + seconds
    question = {"do": "pairs", "peers": peers, "seconds": seconds}
    for one in came:
        _say(one, question, moment)
    own = echo.try_partners(0, here.report.nodes, peers, seconds)
    found = list(own)
    for one in came:
        answer = _hear(one, finish + A_MOMENT)
        rows = decode_all(Pair, answer.get("pairs") if answer else None)
        found += [pair for pair in rows if pair.source == one.report.rank]
    mine.close()
    return tuple(found)


def measure_all(here: Here, came: Present, reports: Sequence[NodeReport]) -> tuple[Reduced, ...]:
    """Let every node run its processes of the measured job."""
    until = time.monotonic() + here.seconds
    address = here.report.address if came else "127.0.0.1"
    plan = measure.Plan(address, _free_port(), measure.backend_of(reports), here.seconds)
    moment = time.monotonic() + A_MOMENT
    for one in came:
        _say(one, {"do": "reduce", **plan._asdict()}, moment)
    found = list(measure.run(plan, here.report, here.python, here.environ))
    for one in came:
        answer = _hear(one, until + A_MOMENT)
        rows = decode_all(Reduced, answer.get("reduced") if answer else None)
        first = one.report.rank * one.report.processes
        silent = Reduced(first, one.report.rank, "start", "the node did not answer")
        found += [row._replace(node=one.report.rank) for row in rows] or [silent]
    return tuple(sorted(found))


def _free_port() -> int:
    """Return a port that nobody has now; the measured job takes it in a moment."""
    with socket.create_server(("", 0)) as server:
        return int(server.getsockname()[1])


def _ask_all(came: Present, question: Message, until: float) -> list[tuple[Came, Message | None]]:
    for one in came:
        _say(one, question, until)
    return [(one, _hear(one, until)) for one in came]


def _say(one: Came, message: Message, until: float) -> None:
    try:
        one.line.send(message, until)
    except Broken:
        one.line.close()


def _hear(one: Came, until: float) -> Message | None:
    try:
        return one.line.receive(until)
    except Broken:
        one.line.close()
        return None


def dismiss(came: Present, outcome: Outcome) -> None:
    findings = [encode(one) for one in outcome.findings]
    message = {"do": "end", "findings": findings, "skipped": list(outcome.skipped)}
    for one in came:
        _say(one, message, time.monotonic() + 1.0)
        one.line.close()
