"""A Slurm of the tests' own: slurmctld, and a slurmd for each machine of `testing.nodes`.

It has its own key of munge's, its own configuration and no file outside of one folder, so that a
Slurm of this machine's is not touched.  Needs root, and the packages of tools/system_packages.
"""

from __future__ import annotations

import os
import secrets
import stat
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from testing.container.engine import poll
from testing.nodes import PATH, Node, Nodes

# As root, and with what every machine can do: no cgroups of its own, no accounting.
CONFIGURATION = """
ClusterName=tests
SlurmctldHost={first}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
GresTypes=gpu
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
KillWait=5
InactiveLimit=0
{nodes}
PartitionName=all Nodes=ALL Default=YES State=UP
"""


class Slurm(NamedTuple):
    """A cluster that runs."""

    folder: Path
    first: Node

    def __call__(
        self, *words: str, env: Mapping[str, str] = {}, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run srun, sbatch … on the first machine."""
        process = self.first.start(*words, env={"SLURM_CONF": f"{self.folder}/slurm.conf", **env})
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            process.kill()
        return subprocess.CompletedProcess(words, process.returncode, out, err)


@contextmanager
def slurm_on(nodes: Nodes, folder: Path) -> Iterator[Slurm]:
    """Run it for the block, on these machines."""
    (folder / "state").mkdir()
    every = nodes.every
    for node in every:
        (folder / node.name).mkdir()
    rows = (
        f"NodeName={node.name} CPUs=16 RealMemory=1000 Gres=gpu:8 State=UNKNOWN" for node in every
    )
    text = CONFIGURATION.format(first=every[0].name, folder=folder, nodes="\n".join(rows))
    (folder / "slurm.conf").write_text(text)
    for number in range(8):  # a GPU has a device, of which nobody asks more
        os.mknod(folder / f"gpu{number}", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-7]\n")
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    folder.chmod(0o755)
    munged = ["munged", "--foreground", "--force", *(
        f"--{name}={folder}/munge.{ending}"
        for name, ending in (("key-file", "key"), ("socket", "socket"), ("pid-file", "pid"),
                             ("log-file", "log"), ("seed-file", "seed"))
    )]  # fmt: skip
    with ExitStack() as stack:
        _start(stack, subprocess.Popen(munged, env={"PATH": PATH}, stdin=subprocess.DEVNULL))
        assert poll((folder / "munge.socket").exists, timeout=20), "munged does not start"
        conf = {"SLURM_CONF": f"{folder}/slurm.conf"}
        _start(stack, every[0].start("slurmctld", "-D", env=conf))
        for node in every:
            _start(stack, node.start("slurmd", "-D", "-N", node.name, env=conf))
        slurm = Slurm(folder, every[0])
        wanted = f"{len(every)}\n"
        up = poll(
            lambda: slurm("sinfo", "-h", "-t", "idle", "-o", "%D").stdout == wanted,
            timeout=60, interval=0.3,
        )  # fmt: skip
        assert up, _logs(folder)
        yield slurm


def _start(stack: ExitStack, process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    def stop() -> None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()

    stack.callback(stop)


def _logs(folder: Path) -> str:
    found = sorted(folder.glob("*.log"))
    return "\n".join(f"--- {path.name}\n{path.read_text()[-3000:]}" for path in found)


def step(count: int) -> list[str]:
    """Return srun's words for one task on each of so many nodes, as docs/cluster.md has them."""
    return ["srun", f"-N{count}", f"-n{count}", "--ntasks-per-node=1"]


def is_there() -> bool:
    return all(
        any(os.access(f"{place}/{name}", os.X_OK) for place in PATH.split(":"))
        for name in ("munged", "slurmctld", "slurmd", "srun", "sbatch")
    )
