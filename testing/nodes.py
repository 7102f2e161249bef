"""Machines of a cluster on this one: network namespaces on one switch, with names of their own.

`/etc/hosts` is each node's, by a mount that nobody else sees.  Needs root, iproute2, iptables.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from testing.local_box import LAUNCHER

TORCH = Path(__file__).parents[1] / ".cache" / "torch"  # the CPU build that `make test` provides
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
_numbers = itertools.count()
# In a mount namespace and a UTS namespace of its own; /sys stays, with this machine's cgroups.
_ENTER = 'hostname "$0"; mount --bind "$1" /etc/hosts; shift; exec "$@"'
_CGROUPS = Path("/sys/fs/cgroup")
_PERIOD = 100_000  # microseconds, of a CPU limit


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

    def kill(self) -> None:
        """End everything on it at once, as a machine does that loses power."""
        for pid in _root("ip", "netns", "pids", self.space).split():
            os.kill(int(pid), signal.SIGKILL)

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


def programs(folder: Path) -> dict[str, str]:
    """Put `launcher`, `python` with PyTorch and `torchrun` there; return their variables."""
    (folder / "bin").mkdir()
    for name, words in (
        ("launcher", " ".join(LAUNCHER)),
        ("python", f"env PYTHONPATH={TORCH} {sys.executable}"),
        ("torchrun", f"{folder}/bin/python -m torch.distributed.run"),
    ):
        path = folder / "bin" / name
        path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        path.chmod(0o755)
    return {
        "PATH": f"{folder}/bin:{PATH}", "HOME": str(folder), "OMP_NUM_THREADS": "1",
        "LAUNCHER_PYTHON": f"{folder}/bin/python", "LAUNCHER_RUN_DIR": "/nonexistent",
    }  # fmt: skip


@contextmanager
def cpu_limit(share: float) -> Iterator[Path]:
    """Make a cgroup that may use so much of one CPU, of either version; yield what joins it."""
    v1 = _CGROUPS / "cpu"
    folder = (v1 if v1.is_dir() else _CGROUPS) / f"pcl{os.getpid()}"
    if not v1.is_dir():
        (_CGROUPS / "cgroup.subtree_control").write_text("+cpu")
    folder.mkdir()
    try:
        quota = int(share * _PERIOD)
        if v1.is_dir():
            (folder / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (folder / "cpu.max").write_text(f"{quota} {_PERIOD}")
        yield folder / "cgroup.procs"
    finally:
        folder.rmdir()


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


def _root(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, env={"PATH": PATH}, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
    return done.stdout
