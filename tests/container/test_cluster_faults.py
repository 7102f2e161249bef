"""`launcher cluster check` on three machines of a network, of which one is wrong each time.

The machines are network namespaces, which is what the check sees of a container; their PyTorch is
a version file, since each of these faults is found before anything of torch's is tried.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from testing.local_box import LAUNCHER
from testing.nodes import Node, Nodes, nodes_on_a_switch

PORT = "29500"
SHORT = "8"  # seconds, of which all pass where somebody never comes
CLOCK = """
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *at) {
    int failed = syscall(SYS_clock_gettime, id, at);
    if (!failed && id == CLOCK_REALTIME) at->tv_sec -= 30;
    return failed;
}
"""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with nodes_on_a_switch(3, tmp_path_factory.mktemp("nodes")) as found:
        yield found


@pytest.fixture
def nodes(network: Nodes) -> Iterator[Nodes]:
    yield network
    for node in network.every:
        node.mend()


@pytest.fixture(scope="module")
def late_clock(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a library that sets a program's clock half a minute back."""
    folder = tmp_path_factory.mktemp("clock")
    (folder / "clock.c").write_text(CLOCK)
    words = ["gcc", "-shared", "-fPIC", "-o", f"{folder}/clock.so", f"{folder}/clock.c"]
    subprocess.run(words, check=True)
    return f"{folder}/clock.so"


def interpreter(folder: Path, torch: str) -> str:
    """Return a Python whose PyTorch says that it is this version; it does not run."""
    module = folder / "lib/python3.11/site-packages/torch"
    module.mkdir(parents=True)
    (module / "version.py").write_text(f"__version__ = '{torch}'\ncuda = None\n")
    return str(folder / "bin" / "python")


def check(
    nodes: Nodes,
    tmp_path: Path,
    env: Callable[[Node], dict[str, str]] = lambda node: {},
    torch: tuple[str, ...] = ("2.6.0",) * 3,
    master: str = "node0",
    seconds: str = "60",
) -> list[dict[str, Any]]:
    """Run the check on all; return what each says, and hold that all end alike in time."""
    commands = []
    for number, node in enumerate(nodes.every):
        python = interpreter(tmp_path / node.name, torch[number])
        variables = {"LAUNCHER_PYTHON": python, "LAUNCHER_RUN_DIR": "/nonexistent", **env(node)}
        commands.append([
            "env", *(f"{name}={value}" for name, value in variables.items()), *LAUNCHER,
            "cluster", "check", "--json", f"--seconds={seconds}", "--nnodes=3",
            f"--node-rank={number}", f"--master-addr={master}", f"--master-port={PORT}",
        ])  # fmt: skip
    ended = nodes.run(commands)
    assert all(one.stdout for one in ended), ended
    found = [json.loads(one.stdout) for one in ended]
    assert [one.returncode for one in ended] == [one["status"] for one in found]
    return found


def said(outcome: dict[str, Any], stage: str, fatal: bool = True) -> list[str]:
    return [
        one["what"] for one in outcome["findings"]
        if one["stage"] == stage and one["fatal"] is fatal
    ]  # fmt: skip


def test_a_node_whose_cable_is_pulled(nodes: Nodes, tmp_path: Path) -> None:
    nodes.every[2].connect(False)
    zero, one, two = check(nodes, tmp_path, seconds=SHORT)
    assert [each["status"] for each in (zero, one, two)] == [11, 11, 11]
    assert said(zero, "reach") == [f"node 2 of 3 never came, in {SHORT} s"] == said(one, "reach")
    assert said(two, "reach") == [
        f"node 0 at node0:{PORT} was not reached in {SHORT} s: this node has no way there"
    ]


def test_the_master_s_port_is_blocked(nodes: Nodes, tmp_path: Path) -> None:
    nodes.every[0].drop("-p", "tcp", "--dport", PORT)
    zero, one, _ = check(nodes, tmp_path, seconds=SHORT)
    assert (zero["status"], one["status"]) == (11, 11)
    assert said(zero, "reach") == [f"nodes 1, 2 of 3 never came, in {SHORT} s"]
    assert said(one, "reach")[0].endswith("nothing comes back: a firewall drops it, or the host is "
                                          "down")  # fmt: skip


def test_all_ports_but_the_master_s_are_blocked(nodes: Nodes, tmp_path: Path) -> None:
    nodes.every[1].drop("-p", "tcp", "--syn", "!", "--dport", PORT)
    outcomes = check(nodes, tmp_path)
    assert [each["status"] for each in outcomes] == [16, 16, 16]
    assert said(outcomes[0], "pairs") == [
        "node 1 (node1) is reached by no other on a port of its own (nothing comes back)"
    ]
    assert "all_reduce" in outcomes[0]["skipped"]


def test_large_packets_vanish(nodes: Nodes, tmp_path: Path) -> None:
    """As where a switch has another MTU, and nobody is told."""
    nodes.every[2].drop("-p", "tcp", "!", "--dport", PORT, "-m", "length", "--length", "1001:")
    zero, *_ = check(nodes, tmp_path)
    assert zero["status"] == 16
    assert "64 KiB did not come back" in said(zero, "pairs")[0]


def test_an_interface_that_is_a_dead_end(nodes: Nodes, tmp_path: Path) -> None:
    nodes.every[2].add_dead_end("10.99.0.3")
    zero, *_ = check(nodes, tmp_path, lambda node: {"GLOO_SOCKET_IFNAME": "eth1"}
                     if node.name == "node2" else {})  # fmt: skip
    assert zero["status"] == 16
    (what,) = said(zero, "pairs")
    assert what.startswith("node 2 (node2) is reached by no other at 10.99.0.3 (")
    assert what.endswith("where its libraries listen: GLOO_SOCKET_IFNAME=eth1")


def test_a_dead_end_that_nobody_chose_is_no_fault(nodes: Nodes, tmp_path: Path) -> None:
    nodes.every[2].add_dead_end("10.99.0.3")
    nodes.every[2].hosts.write_text("10.77.0.1 node0\n10.99.0.3 node2\n")
    zero, *_ = check(nodes, tmp_path)
    assert said(zero, "pairs") == []
    assert dict(zero["reports"][2]["settings"]) == {
        "GLOO_SOCKET_IFNAME": "eth0", "NCCL_SOCKET_IFNAME": "=eth0",
    }  # fmt: skip


@pytest.mark.parametrize("master", ["node0", "10.77.0.1"])
def test_host_names_that_are_loopback(nodes: Nodes, tmp_path: Path, master: str) -> None:
    """Debian's 127.0.1.1, on the master too; launcher torchrun mends that for its run."""
    for node in nodes.every:
        text = node.hosts.read_text().replace(f"{node.address} ", "127.0.1.1 ")
        node.hosts.write_text(text)
    zero, *_ = check(nodes, tmp_path, master=master)
    words = [f"the host name of node {n} (node{n}) is 127.0.1.1, which is loopback"
             for n in range(3)]  # fmt: skip
    assert said(zero, "machines", fatal=False) == words
    assert [report["address"] for report in zero["reports"]] == [
        node.address for node in nodes.every
    ]
    assert said(zero, "pairs") == said(zero, "reach") == []


def test_another_torch(nodes: Nodes, tmp_path: Path) -> None:
    zero, *_ = check(nodes, tmp_path, torch=("2.6.0", "2.5.1", "2.6.0"))
    assert zero["status"] == 14
    assert said(zero, "versions") == ["torch: 2.5.1 on node 1 (node1); the other 2 have 2.6.0"]


def test_a_clock_that_is_behind(nodes: Nodes, tmp_path: Path, late_clock: str) -> None:
    zero, *_ = check(nodes, tmp_path, lambda node: {"LD_PRELOAD": late_clock}
                     if node.name == "node1" else {})  # fmt: skip
    assert zero["status"] == 13
    (what,) = said(zero, "clocks")
    assert what == "the clock of node 1 (node1) is 30.0 s behind the others'"
