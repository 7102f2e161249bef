"""What cannot be true together is refused with both, what does no harm is said, the rest is let be.

No value of a platform's that cannot be read becomes one machine without a word.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping

import pytest

from launcher.cluster.agree import Master, hold_masters
from launcher.cluster.job import Job, find_job
from launcher.cluster.options import read_words
from launcher.cluster.place import HOSTS, RESOURCES, Surroundings
from launcher.detect.torchrun import find_torchrun
from launcher.model.errors import BadSetting
from launcher.model.printable import printable
from tests.unit.cluster import recorded
from tests.unit.cluster.recorded import RECORDED, Recorded
from tests.unit.cluster.test_values import HOSTILE

KNOWN = find_torchrun({"PATH": ""}, "/nonexistent/bin/python").options
Environ = dict[str, str]


def find(
    environ: Environ,
    *words: str,
    hostname: str = "node",
    processes: int = 8,
    files: Mapping[str, str] = {},
    addresses: Mapping[str, tuple[str, ...]] = {},
) -> Job:
    """Return a node's part, with what is said of other masters among its notes."""
    given = read_words([*words, "train.py"], KNOWN, environ).given
    job = find_job(given, Surroundings(environ, hostname, files), processes)
    chosen = Master(job.master or "", job.by.get("master", ""))
    return job._replace(notes=(*job.notes, *hold_masters(chosen, job.others, addresses)))


def spec(*pools: list[str], **task: object) -> Environ:
    cluster = {f"workerpool{number}": pool for number, pool in enumerate(pools)}
    return {"CLUSTER_SPEC": json.dumps({"cluster": cluster, "task": task})}


FAMILY = recorded.PYTORCHJOB_2023
INDEXED = {"JOB_COMPLETION_INDEX": "1", "PET_NNODES": "2", "PET_MASTER_ADDR": "llm-0.llm"}
REFUSED: dict[str, tuple[Environ, tuple[str, ...]]] = {
    # What cannot be read.
    "a rank": ({**recorded.RUNPOD, "NODE_RANK": "one"}, ("NODE_RANK='one'", "from 0")),
    "no node at all": ({**recorded.LWS, "LWS_GROUP_SIZE": "0"}, ("LWS_GROUP_SIZE='0'", "1 to")),
    "a step's number": ({**recorded.STEP, "SLURM_NODEID": ""}, ("SLURM_NODEID=''",)),
    "a step's nodes": ({**recorded.STEP, "SLURM_STEP_NUM_NODES": "x"}, ("SLURM_STEP_NUM_NODES",)),
    "a step's tasks": ({**recorded.STEP, "SLURM_STEP_NUM_TASKS": "x"}, ("SLURM_STEP_NUM_TASKS",)),
    "a job's nodes": ({**recorded.BATCH, "SLURM_JOB_NUM_NODES": "x"}, ("SLURM_JOB_NUM_NODES",)),
    "a pod's number": ({**INDEXED, "JOB_COMPLETION_INDEX": "x"}, ("JOB_COMPLETION_INDEX='x'",)),
    "mpirun's count": ({**recorded.MPI, "OMPI_COMM_WORLD_SIZE": "x"}, ("OMPI_COMM_WORLD_SIZE",)),
    "what is no flag": ({"PET_STANDALONE": "yes"}, ("PET_STANDALONE='yes'", "1, or 0")),
    "a rank of torchrun's": ({"PET_NODE_RANK": "x"}, ("PET_NODE_RANK='x'",)),
    "a port of torchrun's": ({"PET_MASTER_PORT": "tcp://a:1"}, ("PET_MASTER_PORT='tcp://a:1'",)),
    "a port": ({**FAMILY, "MASTER_PORT": "abc"}, ("MASTER_PORT='abc'", "1 to 65535")),
    "a port that is too high": ({**FAMILY, "MASTER_PORT": "65536"}, ("MASTER_PORT='65536'",)),
    "a host with a port": ({**FAMILY, "MASTER_ADDR": "h:1"}, ("MASTER_ADDR='h:1'", "host")),
    "a world": ({**FAMILY, "WORLD_SIZE": "three"}, ("WORLD_SIZE='three'",)),
    "the toolkit's list": ({**recorded.SAGEMAKER, "SM_HOSTS": "algo-1"}, ("SM_HOSTS='algo-1'",)),
    "an empty list": ({**recorded.SAGEMAKER, "SM_HOSTS": "[]"}, ("SM_HOSTS='[]'",)),
    "a pool that is a word": ({"CLUSTER_SPEC": '{"cluster":{"workerpool0":"a:1"},"task":{}}'},
                              ("CLUSTER_SPEC=", "workerpool0")),
    "a pool's number": (spec(["a:1"], ["b:1"], type="workerpool1", index=0.5), ("CLUSTER_SPEC",)),
    "a pool that is none": (spec(["a:1"], type="workerpool7", index=0), ("CLUSTER_SPEC",)),
    "half of the spec": ({"CLUSTER_SPEC": '{"cluster": {"workerpool0": ["a:1"'},
                         ("CLUSTER_SPEC=",)),
    # What contradicts itself.
    "a host twice": ({**recorded.SAGEMAKER, "SM_HOSTS": '["algo-2", "algo-2"]'},
                     ("SM_HOSTS names 'algo-2' twice",)),
    "a host that is not listed": ({**recorded.SAGEMAKER, "SM_CURRENT_HOST": "algo-9"},
                                  ("SM_CURRENT_HOST", "'algo-9'", "SM_HOSTS")),
    "a pool's host twice": (spec(["a:1"], ["a:1"], type="workerpool1", index=0),
                            ("CLUSTER_SPEC names 'a:1' twice",)),
    "more addresses than nodes": (
        {**recorded.SKYPILOT, "SKYPILOT_NODE_IPS": "10.0.0.4\n10.0.0.5\n10.0.0.6"},
        ("SKYPILOT_NODE_IPS names 3 hosts", "SKYPILOT_NUM_NODES=2")),
    "an address twice": ({**recorded.SKYPILOT, "SKYPILOT_NODE_IPS": "10.0.0.4\n10.0.0.4"},
                         ("SKYPILOT_NODE_IPS names '10.0.0.4' twice",)),
    "fewer addresses than nodes": ({**recorded.DSTACK, "DSTACK_NODES_IPS": "10.1.0.2"},
                                   ("DSTACK_NODES_IPS names 1 hosts", "DSTACK_NODES_NUM=2")),
    "a master that is not listed": ({**recorded.DSTACK, "DSTACK_MASTER_NODE_IP": "10.9.9.9"},
                                    ("DSTACK_MASTER_NODE_IP=10.9.9.9", "DSTACK_NODES_IPS")),
    "torchrun's count and the family's": ({**FAMILY, "PET_NNODES": "4"},
                                          ("PET_NNODES=4", "WORLD_SIZE=3")),
    "torchrun's rank and the family's": ({**FAMILY, "PET_NODE_RANK": "1"},
                                         ("PET_NODE_RANK=1", "RANK=2")),
    "torchrun's range and a platform's": ({**recorded.STEP, "PET_NNODES": "1:2"},
                                          ("PET_NNODES=1:2", "SLURM_STEP_NUM_NODES=4")),
    "one machine and a platform's": ({**recorded.STEP, "PET_STANDALONE": "1"},
                                     ("PET_STANDALONE=1", "SLURM_STEP_NUM_NODES=4")),
    "torchrun's rank and the pod's": ({**INDEXED, "PET_NODE_RANK": "0"},
                                      ("PET_NODE_RANK=0", "JOB_COMPLETION_INDEX=1")),
    "the family's rank and the pod's": ({**FAMILY, "JOB_COMPLETION_INDEX": "1"},
                                        ("RANK=2", "JOB_COMPLETION_INDEX=1")),
    "a rank of how many": ({"PET_NODE_RANK": "1"}, ("PET_NODE_RANK=1", "--nnodes=N")),
    "two masters": ({**recorded.PYTORCHJOB, "MASTER_ADDR": "other-master-0"},
                    ("PET_MASTER_ADDR", "bert-master-0", "MASTER_ADDR", "other-master-0")),
    "two masters of one platform": ({**recorded.RUNPOD, "MASTER_ADDR": "10.65.0.9"},
                                    ("PRIMARY_ADDR", "10.65.0.2", "MASTER_ADDR", "10.65.0.9")),
    "an endpoint and a master": (
        {**FAMILY, "PET_RDZV_ENDPOINT": "h:1", "PET_NNODES": "3", "PET_NODE_RANK": "2"},
        ("PET_RDZV_ENDPOINT", "MASTER_ADDR", "bert-master-0")),
    "one platform's two ranks": ({**recorded.AZURE_ML, "AZUREML_CR_NODE_RANK": "0"},
                                 ("AZUREML_CR_NODE_RANK=0", "NODE_RANK=1")),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_with_its_variables(name: str) -> None:
    environ, words = REFUSED[name]
    hostname = "llm-1" if "pod" in name else "node"
    with pytest.raises(BadSetting) as stop:
        find(environ, hostname=hostname)
    assert all(word in str(stop.value) for word in words), stop.value


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--nnodes=2", "--rdzv-endpoint=h:abc"), "'h:abc': expected HOST:PORT"),
        (("--nnodes=2", "--rdzv-endpoint=h:65536"), "a port of 1 to 65535"),
        (("--nnodes=2", "--rdzv-endpoint=h:0"), "a port of 1 to 65535"),
        (("--nnodes=2", "--rdzv-endpoint=h:"), "a port of 1 to 65535"),
        (("--nnodes=2", "--rdzv-endpoint=h: 7"), "a port of 1 to 65535"),
        (("--nnodes=2", "--node-rank=0", "--rdzv-endpoint=h"), "a port of 1 to 65535"),
        (("--nnodes=2", "--rdzv-endpoint=fd00::1"), "in brackets: [fd00::1]:29400"),
        (("--nnodes=2", "--rdzv-endpoint=[fd00::1:7"), "in brackets"),
        (("--nnodes=2", "--rdzv-endpoint=[h]:7"), "expected HOST:PORT"),
        (("--nnodes=1", "--rdzv-backend=c10d", "--rdzv-endpoint=h:x"), "a port of 1 to 65535"),
        (("--nnodes=2", "--node-rank=0", "--master-addr=h:7"), "without a port"),
        (("--nnodes=2", "--node-rank=0", "--master-addr=h", "--master-port=0"), "1 to 65535"),
        (("--nnodes=2", "--node-rank=1x", "--master-addr=h"), "the number of a node"),
        (("--node-rank=1", "--master-addr=h"), "--node-rank=1, and nothing says how many"),
        (("--nnodes=1000001",), "1 to 1000000"),
    ],
)
def test_what_is_typed_and_cannot_be(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(BadSetting) as stop:
        find({}, *words)
    assert said in str(stop.value)
    assert str(stop.value).startswith("--")


LET_BE: dict[str, tuple[Environ, tuple[str, ...], tuple[int, int | None, str | None, int]]] = {
    "c10d on one machine": ({}, ("--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"),
                            (1, None, "localhost", 0)),
    "c10d's own port": ({}, ("--nnodes=2", "--rdzv-endpoint=[fd00::1]"),
                        (2, None, "fd00::1", 29400)),
    "one process by the family": ({"WORLD_SIZE": "1", "RANK": "0", "MASTER_ADDR": "localhost",
                                   "MASTER_PORT": "0"}, (), (1, None, None, 29500)),
    "a sweep of single nodes": ({"JOB_COMPLETION_INDEX": "7", "PET_NNODES": "1"}, (),
                                (1, None, None, 29500)),
    "a range that fits": ({**recorded.STEP, "PET_NNODES": "2:4"}, (), (4, 1, "rack0gpu1", 61000)),
    "fewer processes than the platform's": (recorded.PYTORCHJOB, ("--nproc-per-node=4",),
                                            (2, 1, "bert-master-0", 23456)),
    "PyTorchJob's count and rank, torchrun's count": (
        {**FAMILY, "WORLD_SIZE": "24", "PET_NNODES": "3"}, (), (3, 2, "bert-master-0", 23456)),
    "the master's longer name": ({**recorded.PYTORCHJOB, "MASTER_ADDR": "bert-master-0.ml.svc"}, (),
                                 (2, 1, "bert-master-0", 23456)),
    "one machine in a batch script": ({**recorded.BATCH, "PET_STANDALONE": "1"}, (),
                                      (1, None, None, 29500)),
    "what is typed": ({**recorded.PYTORCHJOB, "MASTER_ADDR": "other"}, ("--master-addr=other",),
                      (2, 1, "other", 23456)),
    "a rank in one of two Jobs' pods": ({**INDEXED, "PET_NNODES": "8", "PET_NODE_RANK": "5"}, (),
                                        (8, 5, "llm-0.llm", 29500)),
}  # fmt: skip


@pytest.mark.parametrize("name", LET_BE)
def test_what_is_meant_is_let_be(name: str) -> None:
    environ, words, expected = LET_BE[name]
    processes = 4 if "--nproc-per-node=4" in words else 8
    job = find(environ, *words, hostname="js-workers-1-1", processes=processes)
    assert (job.nodes, job.rank, job.master, job.port) == expected
    assert job.notes == ()


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({**FAMILY, "MASTER_PORT": "tcp://10.0.0.1:29500"},
         "MASTER_PORT='tcp://10.0.0.1:29500' is a Kubernetes Service's and no port"),
        ({**recorded.STEP, "MASTER_ADDR": "10.0.0.4"},
         "MASTER_ADDR=10.0.0.4 is not looked at: node 0 is rack0gpu1 (SLURM_STEP_NODELIST)"),
        ({**recorded.STEP, "MASTER_ADDR": "localhost"}, "MASTER_ADDR=localhost is not looked at"),
        ({**recorded.PYTORCHJOB, "MASTER_PORT": "1234"},
         "MASTER_PORT=1234 is not looked at: the nodes meet at port 23456 (PET_MASTER_PORT)"),
        ({**recorded.SKYPILOT, "SKYPILOT_NUM_GPUS_PER_NODE": "4"},
         "SKYPILOT_NUM_GPUS_PER_NODE=4, and what CUDA sees here makes 8 processes"),
        ({"NUM_NODES": "2", "NODE_RANK": "1"},
         "NUM_NODES='2' is half of what says a node's place, without PRIMARY_ADDR or MASTER_ADDR"),
        ({"NODE_RANK": "x", "MASTER_ADDR": "h"},
         "NODE_RANK='x' is half of what says a node's place, without NUM_NODES"),
        ({"SKYPILOT_NUM_NODES": "two"}, "SKYPILOT_NUM_NODES='two' is half"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "WORLD_SIZE='2' is half"),
        ({"SM_HOSTS": '["a", "b"]'}, "without SM_CURRENT_HOST"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "without OMPI_COMM_WORLD_RANK"),
        ({"SLURM_STEP_NUM_NODES": "2"}, "without SLURM_JOB_ID"),
    ],
)  # fmt: skip
def test_what_does_no_harm_is_said(environ: Environ, said: str) -> None:
    job = find(environ)
    assert any(said in note for note in job.notes), job.notes
    assert job.nodes > 1 or "one machine" in job.notes[0]


@pytest.mark.parametrize(
    "environ",
    [{}, {"NODE_RANK": "0"}, {"WORLD_SIZE": "1", "RANK": "0"}, recorded.DSTACK_ALONE,
     {"MASTER_ADDR": "h", "MASTER_PORT": "x"}, recorded.STEP, recorded.RUNPOD],
)  # fmt: skip
def test_where_nothing_is_wrong_nothing_is_said(environ: Environ) -> None:
    assert find(environ).notes == ()


@pytest.mark.parametrize(
    ("addresses", "refused"),
    [({}, True), ({"other": ("10.0.0.7",), "bert-master-0": ("10.0.0.8",)}, True),
     ({"other": ("10.0.0.7", "10.0.0.8"), "bert-master-0": ("10.0.0.8",)}, False)],
)  # fmt: skip
def test_two_names_of_one_host_are_one(
    addresses: dict[str, tuple[str, ...]], refused: bool
) -> None:
    environ = {**recorded.PYTORCHJOB, "MASTER_ADDR": "other"}
    if refused:
        with pytest.raises(BadSetting):
            find(environ, addresses=addresses)
    else:
        assert find(environ, addresses=addresses).notes == ()


def test_a_pod_of_several_jobs_has_a_rank_beyond_its_number() -> None:
    environ = {**INDEXED, "PET_NNODES": "8", "PET_NODE_RANK": "5"}
    assert find(environ, hostname="js-workers-1-1").rank == 5
    for hostname, rank in (("llm-1", "5"), ("js-workers-1-1", "0")):
        with pytest.raises(BadSetting, match="JOB_COMPLETION_INDEX=1"):
            find({**environ, "PET_NODE_RANK": rank}, hostname=hostname)


# --- hostile values, in every variable of every platform ---------------------------------------

SEVERAL = {name: node for name, node in RECORDED.items() if node.at[0] != "1"}


def found_or_refused(node: Recorded) -> Job | str:
    try:
        return find(node.environ, hostname=node.hostname, files=node.files)
    except BadSetting as err:
        return str(err)


def as_recorded(job: Job) -> tuple[str, int | None, str | None, int]:
    nodes = f"{job.least}:{job.nodes}" if job.is_elastic else str(job.nodes)
    return (nodes, job.rank, job.master, job.port)


@pytest.mark.parametrize("name", SEVERAL)
def test_no_value_that_cannot_be_read_is_passed_over(name: str) -> None:
    """It is refused, or it is a host's name, or nothing hangs on it, or something is said."""
    node = SEVERAL[name]
    for variable, text in itertools.product(node.environ, HOSTILE):
        if variable == "SKYPILOT_NODE_IPS" and len(text.split()) == 2:
            continue  # two nodes
        changed = node._replace(environ={**node.environ, variable: text})
        found = found_or_refused(changed)
        if isinstance(found, str):
            assert variable in found, (variable, text[:40], found)
            assert len(found) < 1000
            assert printable(found) == found
        elif as_recorded(found) != node.at and found.master != text:
            assert found.notes, (variable, text[:40], found)
            assert all(len(note) < 1000 and printable(note) == note for note in found.notes)


@pytest.mark.parametrize("name", SEVERAL)
def test_what_is_empty_is_not_set(name: str) -> None:
    node = SEVERAL[name]
    for variable in node.environ:
        if variable.startswith("PET_"):  # torchrun's own: left out of its environment, and said
            continue
        without = {name: text for name, text in node.environ.items() if name != variable}
        for text in ("", " "):
            changed = node._replace(environ={**without, variable: text})
            assert found_or_refused(changed) == found_or_refused(node._replace(environ=without))


@pytest.mark.parametrize("text", [*HOSTILE, "", "{}", '{"hosts": ["a"]}', '{"current_host": "a"}'])
def test_files_of_a_platform_may_say_anything(text: str) -> None:
    for name, node in RECORDED.items():
        for path in node.files:
            found_or_refused(node._replace(files={path: text}))
            assert name
    found = found_or_refused(Recorded({}, ("", None, None, 0), files={RESOURCES: text}))
    assert isinstance(found, str) == bool(text)
    found_or_refused(SEVERAL["indexed job"]._replace(files={HOSTS: text}))


@pytest.mark.parametrize("one", SEVERAL)
def test_two_platforms_at_once_are_one_of_them_or_refused(one: str) -> None:
    for other in SEVERAL:
        first, second = SEVERAL[one], SEVERAL[other]
        left = first.environ.keys() - second.environ.keys()
        if left <= {"PYTHONUNBUFFERED", "NPROC_PER_NODE"}:
            continue  # nothing of its place
        environ = {**first.environ, **second.environ}
        files = {**first.files, **second.files}
        found = found_or_refused(second._replace(environ=environ, files=files))
        if isinstance(found, str):
            continue
        if "elastic" in (one + other):  # which says no rank, and takes one
            assert found.nodes in (2, 4), (other, found)
            continue
        places = {first.at[:2], second.at[:2]}
        assert as_recorded(found)[:2] in places, (other, found)
        inner = "mpi" in (one + other)  # which knows what started it
        counted = {"indexed job", "jobset"} & {one, other}  # which may count within one of several
        assert len(places) == 1 or inner or counted, (other, found)
