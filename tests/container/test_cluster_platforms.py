"""Every platform's own environment, on two machines of a network: they meet where it says.

The machines are network namespaces.  What meets is the check, at the name and port where torchrun
would (tests/container/test_cluster_torchrun.py has that); its job needs a PyTorch, which is a
version file here.  What each platform leaves is in tests/unit/cluster/recorded.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from testing.local_box import LAUNCHER
from testing.nodes import Nodes, nodes_on_a_switch
from tests.unit.cluster import recorded

ADDRESSES = ("10.77.0.1", "10.77.0.2")
ALL_REDUCE = 17  # the stage that needs more of PyTorch than its version
Environ = dict[str, str]


def changed(environ: Environ, **values: str) -> Environ:
    return {**environ, **values}


def vertex(rank: int) -> Environ:
    pools = {"workerpool0": ["node0:2222"], "workerpool1": ["node1:2222"]}
    spec = {"cluster": pools, "task": {"type": f"workerpool{rank}", "index": 0, "trial": "t"}}
    return {"CLUSTER_SPEC": json.dumps(spec), "MASTER_ADDR": "node0", "MASTER_PORT": "2222",
            "WORLD_SIZE": "2", "RANK": str(rank)}  # fmt: skip


# Of each platform: a node's environment by its rank, its host name, and the port of node 0.
PLATFORMS: dict[str, tuple[Callable[[str], Environ], str, int]] = {
    "trainer": (lambda rank: changed(
        recorded.TRAINER, PET_NODE_RANK=rank, PET_MASTER_ADDR="llm-node-0-0.llm",
        JOB_COMPLETION_INDEX=rank), "llm-node-0-{}", 29500),
    "pytorchjob": (lambda rank: changed(
        recorded.PYTORCHJOB, PET_NODE_RANK=rank, PET_NPROC_PER_NODE="1", WORLD_SIZE="2", RANK=rank,
        PET_MASTER_ADDR="node0", MASTER_ADDR="node0"), "node{}", 23456),
    "pytorchjob to 2023": (lambda rank: changed(
        recorded.PYTORCHJOB_2023, WORLD_SIZE="2", RANK=rank, MASTER_ADDR="node0"), "node{}", 23456),
    "indexed job": (lambda rank: {"JOB_COMPLETION_INDEX": rank, "PET_NNODES": "2"},
                    "llm-{}", 29500),
    "jobset": (lambda rank: {"JOB_COMPLETION_INDEX": rank, "PET_NNODES": "2"},
               "pre-workers-0-{}", 29500),
    "leader worker set": (lambda rank: changed(
        recorded.LWS, LWS_WORKER_INDEX=rank, LWS_LEADER_ADDRESS="node0"), "node{}", 29500),
    "slurm": (lambda rank: changed(
        recorded.STEP, SLURM_NODEID=rank, SLURM_PROCID=rank, SLURM_STEP_NUM_NODES="2",
        SLURM_JOB_NUM_NODES="2", SLURM_STEP_NUM_TASKS="2", SLURM_STEP_NODELIST="node[0-1]",
        SLURM_STEP_TASKS_PER_NODE="1(x2)"), "node{}", 61000),
    "open mpi": (lambda rank: changed(
        recorded.MPI, OMPI_COMM_WORLD_RANK=rank, MASTER_ADDR="node0"), "node{}", 29500),
    "runpod": (lambda rank: changed(
        recorded.RUNPOD, NODE_RANK=rank, NUM_TRAINERS="1", WORLD_SIZE="2",
        PRIMARY_ADDR=ADDRESSES[0], MASTER_ADDR=ADDRESSES[0]), "node{}", 29400),
    "skypilot": (lambda rank: changed(
        recorded.SKYPILOT, SKYPILOT_NODE_RANK=rank, SKYPILOT_NODE_IPS="\n".join(ADDRESSES)),
        "node{}", 29500),
    "dstack": (lambda rank: changed(
        recorded.DSTACK, DSTACK_NODE_RANK=rank, DSTACK_MASTER_NODE_IP=ADDRESSES[0],
        DSTACK_NODES_IPS="\n".join(ADDRESSES)), "node{}", 29500),
    "sagemaker": (lambda rank: changed(
        recorded.SAGEMAKER, SM_HOSTS='["node0", "node1"]', SM_CURRENT_HOST=f"node{rank}"),
        "node{}", 7777),
    "vertex": (lambda rank: vertex(int(rank)), "cmle-training-workerpool{}-ab-0", 2222),
    "azure ml": (lambda rank: changed(
        recorded.AZURE_ML, NODE_RANK=rank, RANK=rank, MASTER_ADDR=ADDRESSES[0]), "node{}", 6105),
}  # fmt: skip


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with nodes_on_a_switch(2, tmp_path_factory.mktemp("nodes")) as found:
        yield found


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a Python whose PyTorch has a version and nothing else."""
    folder = tmp_path_factory.mktemp("python")
    module = folder / "lib/python3.11/site-packages/torch"
    module.mkdir(parents=True)
    (module / "version.py").write_text("__version__ = '2.6.0'\ncuda = None\n")
    return str(folder / "bin" / "python")


@pytest.mark.parametrize("name", PLATFORMS)
def test_two_nodes_of_a_platform_meet(network: Nodes, python: str, name: str) -> None:
    environ, hostname, port = PLATFORMS[name]
    running = []
    for rank, node in enumerate(network.every):
        node.hosts.write_text(hosts(hostname))
        variables = {"LAUNCHER_PYTHON": python, "LAUNCHER_RUN_DIR": "/nonexistent"}
        named = node._replace(name=hostname.format(rank))
        running.append(named.start(*LAUNCHER, "cluster", "check", "--json", "--seconds=20",
                                   env={**environ(str(rank)), **variables}))  # fmt: skip
    said = [process.communicate(timeout=90) for process in running]
    assert [process.returncode for process in running] == [ALL_REDUCE, ALL_REDUCE], said
    zero = json.loads(said[0][0])
    assert [(one["rank"], one["nodes"], one["port"]) for one in zero["reports"]] == [
        (0, 2, port), (1, 2, port),
    ]  # fmt: skip
    assert [one["address"] for one in zero["reports"]] == list(ADDRESSES)
    assert {one["stage"] for one in zero["findings"] if one["fatal"]} == {"all_reduce"}


def hosts(hostname: str) -> str:
    """Return /etc/hosts as a pod's kubelet, or the cloud's name server, would have it."""
    domain = ".llm" if hostname.startswith("llm-node") else ".workers.ml.svc.cluster.local"
    lines = ["127.0.0.1 localhost"]
    for rank, address in enumerate(ADDRESSES):
        own = hostname.format(rank)
        lines.append(f"{address} {own}{domain} {own} node{rank}")
    return "\n".join(lines) + "\n"


def test_every_platform_that_is_recorded_is_tried_here() -> None:
    """Of those that say a node's place: what is left out is one machine, or another's reader."""
    tried = {recorded_as.split(" to ")[0] for recorded_as in PLATFORMS}
    several = {name for name, node in recorded.RECORDED.items() if node.at[0] not in ("1", "1:4")}
    others = {name for name in several if not any(name.startswith(word) for word in tried)}
    assert others == {
        "alibaba pai", "mpich", "mpijob", "mpijob of mpich's",
        "a kubernetes service called master",
    }  # fmt: skip
