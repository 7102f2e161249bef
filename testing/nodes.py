"""Machines of a cluster on this one: network namespaces on one switch, with names of their own.

`/etc/hosts` is each node's, by a mount that nobody else sees.  Needs root, iproute2, iptables.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
_numbers = itertools.count()
# In a mount namespace and a UTS namespace of its own; /sys stays, with this machine's cgroups.
_ENTER = 'hostname "$0"; mount --bind "$1" /etc/hosts; shift; exec "$@"'


class Node(NamedTuple):
    """One machine."""

    name: str
    address: str
    space: str  # its network namespace
    hosts: Path  # its /etc/hosts

    def start(self, *words: str, env: Mapping[str, str] = {}) -> subprocess.Popen[str]:
        """Start a program on it, with these variables alone."""
        return subprocess.Popen(
            [
                "nsenter", f"--net=/run/netns/{self.space}", "unshare", "--uts", "--mount",
                "sh", "-c", _ENTER, self.name, str(self.hosts), *words,
            ],
            env={"PATH": PATH, **env},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )  # fmt: skip

    def drop(self, *rule: str) -> None:
        """Let its firewall drop what comes in and fits."""
        _root("ip", "netns", "exec", self.space, "iptables", "-A", "INPUT", *rule, "-j", "DROP")

    def connect(self, there: bool) -> None:
        """Plug its cable in, or pull it."""
        _root("ip", "-n", self.space, "link", "set", "eth0", "up" if there else "down")

    def add_dead_end(self, address: str) -> None:
        """Give it a second interface that leads nowhere."""
        for words in (
            ("link", "add", "eth1", "type", "veth", "peer", "name", "nowhere"),
            ("address", "add", f"{address}/24", "dev", "eth1"),
            ("link", "set", "eth1", "up"),
            ("link", "set", "nowhere", "up"),
        ):
            _root("ip", "-n", self.space, *words)

    def mend(self) -> None:
        """Undo all of it."""
        _root("ip", "netns", "exec", self.space, "iptables", "-F", "INPUT")
        _root("ip", "-n", self.space, "link", "delete", "eth1", check=False)
        self.connect(True)
        self.hosts.write_text(self.hosts.with_suffix(".all").read_text())


class Nodes(NamedTuple):
    """All machines of one switch."""

    every: tuple[Node, ...]

    def run(
        self, commands: Sequence[Sequence[str]], timeout: float = 60.0
    ) -> list[subprocess.CompletedProcess[str]]:
        """Run a command on each machine at once, to its end."""
        running = [node.start(*words) for node, words in zip(self.every, commands, strict=False)]
        found = []
        for process in running:
            out, err = process.communicate(timeout=timeout)
            found.append(subprocess.CompletedProcess(process.args, process.returncode, out, err))
        return found


@contextmanager
def nodes_on_a_switch(count: int, folder: Path) -> Iterator[Nodes]:
    """Make machines for the block.

    Args:
        folder: for their /etc/hosts.
    """
    mark = f"pcl{os.getpid()}n{next(_numbers)}"
    every = tuple(
        Node(f"node{n}", f"10.77.0.{n + 1}", f"{mark}-{n}", folder / f"{mark}-{n}")
        for n in range(count)
    )
    lines = ["127.0.0.1 localhost", *(f"{node.address} {node.name}" for node in every)]
    switch = f"{mark}-sw"
    try:
        for space in (switch, *(node.space for node in every)):
            _root("ip", "netns", "add", space)
            _root("ip", "-n", space, "link", "set", "lo", "up")
        _root("ip", "-n", switch, "link", "add", "switch", "type", "bridge")
        _root("ip", "-n", switch, "link", "set", "switch", "up")
        for number, node in enumerate(every):
            for path in (node.hosts, node.hosts.with_suffix(".all")):
                path.write_text("\n".join(lines) + "\n")
            _plug_in(node, switch, f"port{number}")
        yield Nodes(every)
    finally:
        for space in (switch, *(node.space for node in every)):
            _root("ip", "netns", "delete", space, check=False)


def _plug_in(node: Node, switch: str, port: str) -> None:
    _root(
        "ip", "-n", node.space, "link", "add", "eth0", "type", "veth",
        "peer", "name", port, "netns", switch,
    )  # fmt: skip
    _root("ip", "-n", switch, "link", "set", port, "master", "switch", "up")
    _root("ip", "-n", node.space, "address", "add", f"{node.address}/24", "dev", "eth0")
    _root("ip", "-n", node.space, "link", "set", "eth0", "up")


def _root(*command: str, check: bool = True) -> None:
    done = subprocess.run(command, env={"PATH": PATH}, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
