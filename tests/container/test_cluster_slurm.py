"""`srun launcher torchrun` in a real Slurm: slurmctld and four slurmd, each on its machine.

The machines are network namespaces; PyTorch is the CPU build that the other tests have.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.nodes import TORCH, nodes_on_a_switch, programs
from testing.slurm import Slurm, slurm_on, step

ROOT = Path(__file__).parents[2]
SBATCH = ROOT / "deploy" / "slurm" / "train.sbatch"
SCRIPT = """
import os, socket, torch.distributed as dist
dist.init_process_group("gloo")
hosts = [None] * dist.get_world_size()
dist.all_gather_object(hosts, socket.gethostname())
if dist.get_rank() == 0:
    print("met:", *hosts, flush=True)
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    folder = tmp_path_factory.mktemp("slurm")
    with nodes_on_a_switch(4, folder) as nodes, slurm_on(nodes, folder) as found:
        yield found


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return the variables of a job whose `launcher` and Python with PyTorch are first on PATH."""
    if not TORCH.exists():
        pytest.skip("no torch: pip finds no CPU build here")
    (tmp_path / "meet.py").write_text(SCRIPT)
    return programs(tmp_path)


def test_four_nodes_by_srun(slurm: Slurm, environment: dict[str, str]) -> None:
    script = f"{environment['HOME']}/meet.py"
    words = ("launcher", "torchrun", "--nproc-per-node=1", script)
    done = slurm(*step(4), *words, env=environment)
    assert done.returncode == 0, done.stderr
    assert "met: node0 node1 node2 node3" in done.stdout
    said = re.findall(r"torchrun on node (\d) of 4 \(Slurm\): 1 process, master node0:(\d+)",
                      done.stderr)  # fmt: skip
    assert sorted(rank for rank, _ in said) == ["0", "1", "2", "3"]
    assert len({port for _, port in said}) == 1
    assert 61000 <= int(said[0][1]) < 65536


def test_the_job_file_checks_two_nodes_and_trains(
    slurm: Slurm, environment: dict[str, str]
) -> None:
    log = f"{environment['HOME']}/out.log"
    words = ["sbatch", "--wait", f"--output={log}", "--chdir=/", str(SBATCH),
             "--nproc-per-node=1", f"{environment['HOME']}/meet.py"]  # fmt: skip
    done = slurm(*words, env=environment)
    text = Path(log).read_text()
    assert done.returncode == 0, done.stderr + text
    assert " 7 all_reduce  ok       2 processes" in text
    assert "met: node0 node1" in text


def test_what_a_job_file_does_wrong_is_refused(slurm: Slurm, environment: dict[str, str]) -> None:
    """No srun, or a task for each process: both wait, or train eight times, without a word."""
    bare = "launcher torchrun --dry-run x.py; srun --overlap -n4 -N2 launcher torchrun --dry-run x"
    done = slurm("salloc", "-N2", "--ntasks-per-node=2", "sh", "-c", bare, env=environment)
    assert "this is no step of Slurm job" in done.stderr
    assert done.stderr.count("this Slurm step has 4 tasks on 2 nodes") == 4


@pytest.mark.parametrize("tool", ["apptainer", "pyxis"])
def test_the_job_file_in_a_container(tmp_path: Path, tool: str) -> None:
    """Neither is here: an `srun` that tells what it was given."""
    srun = tmp_path / "srun"
    srun.write_text('#!/bin/sh\necho "$@"\n')
    srun.chmod(0o755)
    image = {"apptainer": "box.sif", "pyxis": "registry#pytorch-cuda:v2.6"}[tool]
    done = subprocess.run(
        ["bash", SBATCH, "train.py", "--lr", "1"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_NNODES": "2", "IMAGE": image,
             "SLURM_CPUS_PER_TASK": "16"},
        cwd="/tmp", capture_output=True, text=True, check=True,
    )  # fmt: skip
    checked, trained = done.stdout.splitlines()
    task = "--nodes=2 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=16 --kill-on-bad-exit=1"
    where = {
        "apptainer": "apptainer exec --nv --bind /tmp box.sif",
        "pyxis": f"--container-image={image} --container-mounts=/tmp:/tmp --container-workdir=/tmp",
    }[tool]
    assert checked == f"{task} {where} launcher cluster check"
    assert trained == f"{task} {where} launcher torchrun train.py --lr 1"
