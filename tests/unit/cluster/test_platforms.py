"""Which part of which job a node is, by what its platform left in its environment."""

from __future__ import annotations

import json

import pytest

from launcher.cluster.job import Job, find_job
from launcher.cluster.options import read_words
from launcher.cluster.place import Given, Said, Surroundings
from launcher.cluster.platforms.hostlist import Nodes, read_nodes
from launcher.detect.torchrun import find_torchrun
from launcher.model.errors import BadSetting
from tests.unit.cluster import recorded
from tests.unit.cluster.recorded import BATCH, MPI, RECORDED, RUNPOD, STEP

KNOWN = find_torchrun({"PATH": ""}, "/nonexistent/bin/python").options


def given(environ: dict[str, str], *words: str) -> Given:
    return read_words([*words, "train.py"], KNOWN, environ).given


def found(environ: dict[str, str], *words: str, processes: int = 8) -> Job:
    return find_job(given(environ, *words), Surroundings(environ, "node"), processes)


def refused(environ: dict[str, str], *words: str, processes: int = 8) -> str:
    with pytest.raises(BadSetting) as stop:
        found(environ, *words, processes=processes)
    return str(stop.value)


@pytest.mark.parametrize("name", RECORDED)
def test_each_platform_is_read(name: str) -> None:
    node = RECORDED[name]
    job = find_job(given(node.environ), node.surroundings, 8)
    nodes = f"{job.least}:{job.nodes}" if job.is_elastic else str(job.nodes)
    assert (nodes, job.rank, job.master, job.port) == node.at


@pytest.mark.parametrize("name", RECORDED)
def test_each_value_has_its_variable(name: str) -> None:
    node = RECORDED[name]
    job = find_job(given(node.environ), node.surroundings, 8)
    named = {field for field in ("nodes", "rank", "master") if getattr(job, field) is not None}
    assert job.nodes == 1 or all(job.by[field] for field in named)


# --- what contradicts itself -------------------------------------------------------------------


def test_two_platforms_that_disagree_are_both_named() -> None:
    said = refused({**STEP, **RUNPOD})
    assert "Slurm says node 1 of 4 (SLURM_NODEID=1, SLURM_STEP_NUM_NODES=4)" in said
    assert "RunPod says node 1 of 2 (NODE_RANK=1, NUM_NODES=2)" in said


def test_two_platforms_that_agree_are_one_job() -> None:
    environ = {**RUNPOD, "SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1",
               "SKYPILOT_NODE_IPS": "10.65.0.2\n10.65.0.3"}  # fmt: skip
    assert found(environ).platform == "SkyPilot"


def test_torchrun_s_own_variables_are_held_against_the_platform() -> None:
    said = refused({**STEP, "PET_NNODES": "2", "PET_NODE_RANK": "0"})
    assert "PET_NNODES=2" in said
    assert "SLURM_STEP_NUM_NODES=4" in said


@pytest.mark.parametrize(("name", "value"), [("PET_NNODES", "2"), ("PET_NODE_RANK", "2")])
def test_one_of_torchrun_s_variables_alone_is_held_against_it_too(name: str, value: str) -> None:
    said = refused({**STEP, name: value})
    assert f"{name}={value}" in said
    assert "Slurm says node 1 of 4" in said
    option = "--" + name.removeprefix("PET_").replace("_", "-").lower()
    found({**STEP, name: value}, f"{option}={value}")


def test_a_number_that_a_pool_of_vertex_has_not_is_refused() -> None:
    said = refused({"CLUSTER_SPEC": vertex_spec(1)})
    assert "number 1 of workerpool0, which has 1" in said


def vertex_spec(index: float) -> str:
    pools = {"workerpool0": ["a:2222"], "workerpool1": ["b:2222"]}
    return json.dumps({"cluster": pools, "task": {"type": "workerpool0", "index": index}})


@pytest.mark.parametrize(
    ("typed", "both"),
    [
        (("--standalone", "--nnodes=2"), "--standalone is one machine, and --nnodes=2"),
        (("--nnodes=1", "--node-rank=1"), "--node-rank=1 and --nnodes=1"),
    ],
)
def test_one_machine_that_is_several_is_refused(typed: tuple[str, ...], both: str) -> None:
    assert both in refused({}, *typed)


@pytest.mark.parametrize("typed", ["--master-addr=", "--rdzv-endpoint=:29500"])
def test_a_master_that_is_nothing_is_refused(typed: str) -> None:
    assert typed.partition("=")[0] in refused({}, "--nnodes=2", "--node-rank=0", typed)


def test_what_is_typed_decides() -> None:
    environ = {**STEP, **RUNPOD}
    job = found(environ, "--nnodes=2", "--node-rank", "0", "--master_addr=h", "--master-port=1234")
    assert (job.nodes, job.rank, job.master, job.port) == (2, 0, "h", 1234)
    assert found(environ, "--standalone").nodes == 1
    assert found({**BATCH}, "--standalone").nodes == 1


@pytest.mark.parametrize("environ", [{**RUNPOD, "NODE_RANK": "2", "WORLD_SIZE": ""},
                                     {**recorded.PYTORCHJOB_2023, "RANK": "3"},
                                     {**STEP, "SLURM_NODEID": "4"}])  # fmt: skip
def test_a_rank_beyond_the_nodes_is_refused_with_both(environ: dict[str, str]) -> None:
    said = refused(environ)
    assert "ranks begin at 0" in said
    assert {"NODE_RANK=2", "NUM_NODES=2", "RANK=3", "WORLD_SIZE=3", "SLURM_NODEID=4"} & {
        word.strip("(),") for word in said.split()
    }


def test_a_typed_rank_beyond_the_nodes_is_refused_with_both() -> None:
    said = refused({}, "--nnodes=2", "--node-rank=2", "--master-addr=h")
    assert "--node-rank=2 and --nnodes=2" in said


def test_a_world_size_that_counts_neither_pods_nor_processes() -> None:
    assert found(RUNPOD).nodes == 2
    assert found({**RUNPOD, "WORLD_SIZE": "2", "RANK": "1"}).nodes == 2
    assert found({**recorded.PYTORCHJOB}).nodes == 2
    said = refused({**RUNPOD, "WORLD_SIZE": "6", "RANK": "1"})
    assert "NUM_NODES=2" in said
    assert "WORLD_SIZE=6" in said


@pytest.mark.parametrize(
    ("environ", "mends"),
    [
        (BATCH, "srun -N$SLURM_NNODES"),
        ({**STEP, "SLURM_STEP_NUM_TASKS": "32"}, "one task a node"),
        ({**STEP, "SLURM_STEP_NODELIST": "gpu[1-3]"}, "has 3 nodes and SLURM_STEP_NUM_NODES=4"),
        ({**STEP, "SLURM_STEP_NODELIST": "gpu[1-"}, "--master-addr=HOST"),
        ({**MPI, "OMPI_COMM_WORLD_LOCAL_SIZE": "8"}, "mpirun --map-by ppr:1:node"),
        (MPI, "--master-addr=HOST, the host of rank 0"),
        ({**recorded.AZURE_ML, "WORLD_SIZE": "16"}, "process_count_per_instance: 1"),
        ({"JOB_COMPLETION_INDEX": "1", "PET_NNODES": "2"}, "a headless Service"),
        ({"TORCHELASTIC_RUN_ID": "x", "LOCAL_RANK": "3"}, "torchrun started this process already"),
        ({**recorded.EIGHT, "RAY_JOB_ID": "1"}, "Ray Train started this process already"),
        ({"PET_NNODES": "two"}, "expected N, or MIN:MAX"),
        ({"PET_NNODES": "2"}, "nothing says where the first one is"),
    ],
)
def test_what_cannot_work_says_what_mends_it(environ: dict[str, str], mends: str) -> None:
    assert mends in refused(environ)


def test_a_step_smaller_than_its_job_is_said() -> None:
    environ = {**STEP, "SLURM_JOB_NUM_NODES": "9"}
    assert found(environ).notes == ("this step has 4 of the job's 9 nodes (SLURM_JOB_NUM_NODES)",)


def test_a_requeued_job_is_another_one() -> None:
    again = {**STEP, "SLURM_RESTART_COUNT": "1"}
    assert (found(STEP).job, found(again).job) == ("9072.0.0", "9072.0.1")


@pytest.mark.parametrize("index", ["0", "7"])
def test_an_indexed_job_without_a_count_is_said_to_be_one_machine(index: str) -> None:
    job = found({"JOB_COMPLETION_INDEX": index})
    assert job.nodes == 1
    assert "PET_NNODES=N" in job.notes[0]


# --- node lists, endpoints ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "first", "count"),
    [
        ("gpu7", "gpu7", 1),
        ("n[1,3-5,010-012]", "n1", 7),
        ("rack[0-1]gpu[1-2]", "rack0gpu1", 4),
        ("a1,b[2-3]", "a1", 3),
        ("x[1-2]y[1,3]z[5-6]", "x1y1z5", 8),
        ("c[08-10]-ib", "c08-ib", 3),
        ("gpu[0001-9999],last", "gpu0001", 10_000),
        (",".join(f"node-{n}" for n in range(10_000)), "node-0", 10_000),
        ("n[0-999999999999]", "n0", 10**12),
    ],
)
def test_node_lists(text: str, first: str, count: int) -> None:
    assert read_nodes(text) == Nodes(first, count)


@pytest.mark.parametrize(
    "text", ["", "n[", "n[]", "n[1-]", "n[2-1]", "n]1[", "n[1-2", "a,,b", "a b", "a,", ",a", "n[x]"]
)
def test_what_is_no_node_list(text: str) -> None:
    with pytest.raises(ValueError, match=r"^"):
        read_nodes(text)


def test_said_is_a_value_and_who_said_it() -> None:
    assert given({"PET_NNODES": "2"}, "-m")["nnodes"] == Said("2", "PET_NNODES")
