"""The check between nodes of this machine: real connections, real processes, no network."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from launcher.cluster.check import ask, check, echo, roll_call, table
from launcher.cluster.check.facts import NodeReport, Outcome, Pair, Reduced
from launcher.cluster.check.look import Here
from launcher.cluster.check.wire import Broken, Line, decode, decode_all, encode
from launcher.guest import all_reduce
from testing.values import replace

TORCH = Path(__file__).parents[3] / ".cache" / "torch"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def here(number: int, nodes: int, port: int, seconds: float = 20.0, **changes: object) -> Here:
    """Return a node of this machine whose Python has no torch."""
    report = NodeReport(number, nodes, 1, f"gpu{number}", "127.0.0.1", "127.0.0.1", port)
    environ = {"PATH": os.environ["PATH"], "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    python = "/nonexistent/python"
    found = Here(report, True, "job", python, environ, seconds, lambda _: None)
    wanted = {name: changes.pop(name) for name in ("job", "python") if name in changes}
    return replace(replace(found, report=replace(report, **changes)), **wanted)


def run_all(*nodes: Here) -> list[Outcome]:
    with ThreadPoolExecutor(len(nodes)) as pool:
        return list(pool.map(check.run, nodes))


def said(outcome: Outcome) -> list[str]:
    return [one.what for one in outcome.findings if one.fatal and "loopback" not in one.what]


# --- the roll call ---------------------------------------------------------------------------


def test_all_learn_how_it_ended() -> None:
    """Three nodes that meet and reach each other; that none has torch is the first fault."""
    port = free_port()
    outcomes = run_all(*(here(rank, 3, port) for rank in range(3)))
    assert [one.rank for one in outcomes[0].reports] == [0, 1, 2]
    assert {node for node, _ in outcomes[0].offsets} == {1, 2}
    assert all(abs(off) < 1 for _, off in outcomes[0].offsets)
    for outcome in outcomes:
        assert said(outcome) == [
            "node 0 (gpu0), node 1 (gpu1), node 2 (gpu2) did not import torch: "
            "/nonexistent/python: No such file or directory"
        ]


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"processes": 2}, 12, "processes a node: 1 on node 0 (gpu0); 2 on node 1 (gpu1)"),
        ({"rank": 0}, 12, "rank 0 is claimed by 2 nodes"),
        ({"versions": (("torch", "2.5.1"),)}, 14, "torch: none on node 0"),
    ],
)
def test_what_they_believe_is_compared_first(
    changes: dict[str, object], status: int, words: str
) -> None:
    port = free_port()
    other = here(1, 2, port, **changes)
    other = replace(other, is_master=False)
    zero, one = run_all(here(0, 2, port), other)
    assert (zero.status, one.status) == (status, status)
    assert words in said(zero)[0]
    assert said(one) == said(zero)
    assert "all_reduce" in zero.skipped
    assert one.skipped == zero.skipped
    assert zero.reduced == ()


def test_a_node_that_never_comes_is_named_in_its_time() -> None:
    port = free_port()
    zero, one = run_all(here(0, 3, port, 1.0), here(1, 3, port, 1.0))
    assert (zero.status, one.status) == (11, 11)
    assert said(zero) == ["node 2 of 3 never came, in 1 s"] == said(one)


def test_where_nobody_came_nothing_is_compared() -> None:
    outcome = check.run(here(0, 2, free_port(), 0.3, address="10.0.0.1"))
    assert outcome.status == 11
    (row, *rest) = table.as_text(outcome, 0).splitlines()[:7]
    assert row.split()[:3] == ["1", "reach", "FAILED"]
    assert {line.split()[2] for line in rest} == {"skipped"}
    (found,) = (one for one in outcome.findings if one.fatal)
    assert "the same command on that node" in found.fix


def test_where_some_came_the_rows_are_theirs() -> None:
    port = free_port()
    zero, _ = run_all(here(0, 3, port, 1.0), here(1, 3, port, 1.0))
    rows = table.as_text(zero, 0).splitlines()
    assert "the 2 of 3 that came" in rows[1]
    assert "the 2 of 3 that came: within " in rows[2]


def test_a_master_that_is_somebody_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        node = here(0, 2, int(server.getsockname()[1]), 1.0)

        def answer() -> None:
            with server.accept()[0] as peer:
                peer.sendall(b"220 ready\r\n")
                peer.recv(65536)

        with ThreadPoolExecutor(1) as pool:
            pool.submit(answer)
            outcome = check.run(replace(node, is_master=False))
    (what,) = said(outcome)
    assert what.startswith("this is node 0, and 127.0.0.1 is not one of its addresses")


def test_node_0_that_is_not_there() -> None:
    port = free_port()
    outcome = check.run(here(1, 2, port, 0.5))
    assert outcome.status == 11
    assert said(outcome)[0].startswith(
        f"node 0 at 127.0.0.1:{port} was not reached in 0.5 s: refused: nobody listens there; "
        "this host has the master's address, and is node 1"
    )
    assert outcome.findings[0].fix.startswith("the same command on node 0, at the same time")


def test_a_master_without_an_address() -> None:
    outcome = check.run(here(1, 2, 1, 0.3, master="no-such-host.invalid"))
    assert "the name no-such-host.invalid has no address" in said(outcome)[0]
    assert outcome.findings[0].fix.startswith("--master-addr with node 0's address")


def test_a_port_that_somebody_has() -> None:
    with socket.create_server(("", 0)) as server:
        port = int(server.getsockname()[1])
        outcome = check.run(here(0, 2, port, 0.5))
    assert said(outcome)[0].startswith(f"node 0 cannot listen on port {port}: ")
    assert outcome.status == 11


def test_a_node_of_another_job_is_sent_away() -> None:
    port = free_port()
    zero, stranger = run_all(here(0, 2, port, 1.0), here(1, 2, port, 1.0, job="other"))
    assert "it is of job 'other', and this is 'job'" in said(stranger)[0]
    assert any("not of this job: 127.0.0.1" in one.what for one in zero.findings)
    assert said(zero) == ["node 1 of 2 never came, in 1 s"]


@pytest.mark.parametrize(
    "sent",
    [b"GET / HTTP/1.1\r\n\r\n", b"\0\xff\n", b"[1]\n", b'{"hello": 1}\n', b"x" * (1 << 19)],
    ids=["http", "bytes", "list", "no hello", "endless"],
)
def test_what_is_no_node_is_no_harm(sent: bytes) -> None:
    port = free_port()

    def scan() -> None:
        link = socket.create_connection(("127.0.0.1", port), timeout=5)
        with link, contextlib.suppress(OSError):  # it may be sent away before it is done
            link.sendall(sent)
            link.shutdown(socket.SHUT_WR)
            link.recv(1000)

    with roll_call.listen(port) as server:
        thread = threading.Thread(target=scan)
        thread.start()
        present = roll_call.gather(server, 2, "job", 0.5)
        thread.join()
    assert present.came == ()
    assert len(present.refused) == 1


@pytest.mark.parametrize("changes", [{"rank": True}, {"nodes": "2"}, {"gpus": 7}, {"mtu": None}])
def test_a_report_that_is_none_is_refused(changes: dict[str, object]) -> None:
    port = free_port()
    hello = {"hello": "launcher-check-1", "job": "job"}
    report = {**json.loads(json.dumps(encode(here(1, 2, port).report))), **changes}
    with (
        roll_call.listen(port) as server,
        socket.create_connection(("127.0.0.1", port), timeout=5) as link,
    ):
        Line(link).send({**hello, "report": report}, time.monotonic() + 5)
        present = roll_call.gather(server, 2, "job", 0.5)
    assert present.came == ()
    assert "another version" in present.refused[0]


@pytest.mark.parametrize("port", [True, "x", 70000, -5, None, [1], 10**30])
def test_a_door_that_is_none_is_closed(lines: tuple[Line, Line], port: object) -> None:
    """What another node answers is data: no port of it ends the check of all."""
    zero, other = here(0, 2, 1, 5.0), here(1, 2, 1, address="x" * 5000)
    until = time.monotonic() + 10

    def answer() -> None:
        for said in ({"port": port}, {"pairs": []}):
            lines[1].receive(until)
            lines[1].send(said, until)

    thread = threading.Thread(target=answer)
    thread.start()
    pairs = ask.connect(zero, (roll_call.Came(other.report, lines[0]),))
    thread.join()
    assert [(pair.target, pair.seconds) for pair in pairs] == [(1, None)]


def test_callers_are_counted() -> None:
    port = free_port()
    with roll_call.listen(port) as server:
        links = [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
        present = roll_call.gather(server, 2, "job", 0.5)
        for link in links:
            link.close()
    assert "more connections came than there are nodes" in present.refused


# --- messages ----------------------------------------------------------------------------------


@pytest.fixture
def lines() -> Iterator[tuple[Line, Line]]:
    one, other = socket.socketpair()
    with one, other:
        yield Line(one), Line(other)


def test_messages_come_one_by_one(lines: tuple[Line, Line]) -> None:
    until = time.monotonic() + 5
    for number in range(3):
        lines[0].send({"n": number}, until)
    assert [lines[1].receive(until)["n"] for _ in range(3)] == [0, 1, 2]


def test_a_peer_that_says_nothing_or_goes(lines: tuple[Line, Line]) -> None:
    with pytest.raises(Broken, match="no answer in time"):
        lines[0].receive(time.monotonic() + 0.05)
    lines[1].close()
    with pytest.raises(Broken, match="hung up"):
        lines[0].receive(time.monotonic() + 5)


def test_values_survive_and_what_is_none_is_dropped() -> None:
    report = here(1, 2, 3).report
    assert decode(NodeReport, encode(report)) == report
    assert decode_all(Pair, [encode(Pair(0, 1, None, "x")), 7, None, {"source": "a"}]) == (
        Pair(0, 1, None, "x"),
    )
    assert decode_all(Pair, "no list") == ()


# --- connections -------------------------------------------------------------------------------


def test_64_kib_go_there_and_back() -> None:
    door = echo.Echo("127.0.0.1")
    until = time.monotonic() + 5
    (pair,) = echo.try_peers(0, [(1, "127.0.0.1", door.port)], until)
    assert pair.seconds is not None
    port = door.port
    door.close()
    (pair,) = echo.try_peers(0, [(1, "127.0.0.1", port)], until)
    assert (pair.seconds, pair.error) == (None, "Connection refused")


def test_a_peer_that_swallows_what_comes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        peer = (1, "127.0.0.1", int(mute.getsockname()[1]))
        (pair,) = echo.try_peers(0, [peer], time.monotonic() + 0.5)
    assert pair.error == "64 KiB did not come back"


@pytest.mark.parametrize("nodes", [2, 3, 64, 65, 1000])
def test_who_tries_whom(nodes: int) -> None:
    tried = [echo.partners(rank, nodes) for rank in range(nodes)]
    most = nodes - 1 if nodes <= 64 else nodes.bit_length()
    assert max(map(len, tried)) <= most
    assert {other for own in tried for other in own} == set(range(nodes))
    assert all(rank not in own for rank, own in enumerate(tried))


@pytest.mark.parametrize("nodes", range(2, 17))
def test_every_pair_meets_once(nodes: int) -> None:
    met = []
    for number in range(all_reduce._rounds(nodes)):
        partner = {node: all_reduce._partner(node, number, nodes) for node in range(nodes)}
        for node, other in partner.items():
            if other is not None:
                assert partner[other] == node != other
                met.append(frozenset((node, other)))
    assert len(set(met)) == nodes * (nodes - 1) // 2 == len(met) // 2


# --- with torch --------------------------------------------------------------------------------


def test_two_nodes_sum_and_send(tmp_path: Path) -> None:
    if not TORCH.exists():
        pytest.skip("no torch: pip finds no CPU build here")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={TORCH} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    port = free_port()
    nodes = [here(rank, 2, port, 60.0, python=str(python)) for rank in range(2)]
    zero, _ = run_all(*nodes)
    assert said(zero) == []
    assert [one.reached for one in zero.reduced] == ["done", "done"]
    assert all(one.wrong == () and one.gemm > 0 for one in zero.reduced)
    assert [size for size, _ in zero.reduced[0].sizes][:2] == [4096, 16384]
    assert [other for other, _ in zero.reduced[1].pairs] == [0]
    assert json.loads(json.dumps(encode(zero.reduced[0])))["rank"] == 0
    assert isinstance(zero.reduced[0], Reduced)
