"""What platforms leave in a node's environment, as their sources and recordings have it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from launcher.cluster.place import HOSTS, MPI_HOSTS, RESOURCES, Surroundings

EIGHT = {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "8"}
STEP = {
    "SLURM_JOB_ID": "9072", "SLURM_STEP_ID": "0", "SLURM_JOB_NUM_NODES": "4", "SLURM_NODEID": "1",
    "SLURM_STEP_NUM_NODES": "4", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0", "SLURM_STEP_NODELIST": "rack[0-1]gpu[1-2]", "SLURM_GPUS_ON_NODE": "8",
    "SLURM_STEP_TASKS_PER_NODE": "1(x4)",
}  # fmt: skip
BATCH = {
    "SLURM_JOB_ID": "9072", "SLURM_JOB_NUM_NODES": "3", "SLURM_NNODES": "3", "SLURM_NODEID": "0",
    "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "24",
    "SLURM_JOB_NODELIST": "gpu[1-3]",
}  # fmt: skip
TRAINER = {
    "PET_NNODES": "2", "PET_NODE_RANK": "1", "PET_NPROC_PER_NODE": "auto",
    "PET_MASTER_ADDR": "llm-node-0-0.llm", "PET_MASTER_PORT": "29500", "JOB_COMPLETION_INDEX": "1",
}  # fmt: skip
PYTORCHJOB_2023 = {
    "MASTER_ADDR": "bert-master-0", "MASTER_PORT": "23456", "WORLD_SIZE": "3", "RANK": "2",
    "PYTHONUNBUFFERED": "1",
}  # fmt: skip
PYTORCHJOB = {
    "PET_NNODES": "2", "PET_NODE_RANK": "1", "PET_NPROC_PER_NODE": "8",
    "PET_MASTER_ADDR": "bert-master-0", "PET_MASTER_PORT": "23456", "MASTER_ADDR": "bert-master-0",
    "MASTER_PORT": "23456", "WORLD_SIZE": "16", "RANK": "1",
}  # fmt: skip
ELASTIC = {
    "PET_NNODES": "1:4", "PET_RDZV_ENDPOINT": "bert-worker-0:23456", "PET_RDZV_BACKEND": "c10d",
    "PET_MAX_RESTARTS": "3", "PET_STANDALONE": "",
}  # fmt: skip
RUNPOD = {
    "RUNPOD_POD_ID": "x", "NUM_NODES": "2", "NODE_RANK": "1", "NUM_TRAINERS": "8",
    "WORLD_SIZE": "16", "PRIMARY_ADDR": "10.65.0.2", "MASTER_ADDR": "10.65.0.2",
    "MASTER_PORT": "29400", "NODE_ADDR": "10.65.0.3", "HOST_NODE_ADDR": "10.65.0.2:29400",
}  # fmt: skip
SKYPILOT = {
    "SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "0", "SKYPILOT_NUM_GPUS_PER_NODE": "8",
    "SKYPILOT_NODE_IPS": "10.0.0.4\n10.0.0.5", "SKYPILOT_TASK_ID": "sky-2026_train",
}  # fmt: skip
DSTACK = {
    "DSTACK_NODES_NUM": "2", "DSTACK_NODE_RANK": "1", "DSTACK_MASTER_NODE_IP": "10.1.0.2",
    "DSTACK_GPUS_PER_NODE": "8", "DSTACK_NODES_IPS": "10.1.0.2\n10.1.0.3",
}  # fmt: skip
DSTACK_ALONE = {"DSTACK_NODES_NUM": "1", "DSTACK_NODE_RANK": "0", "DSTACK_MASTER_NODE_IP": ""}
SAGEMAKER = {
    "SM_HOSTS": '["algo-1", "algo-2"]', "SM_CURRENT_HOST": "algo-2", "SM_NUM_GPUS": "8",
    "TRAINING_JOB_NAME": "resnet-7",
}  # fmt: skip
VERTEX = {
    "CLUSTER_SPEC": json.dumps({
        "cluster": {
            "workerpool0": ["cmle-training-workerpool0-ab-0:2222"],
            "workerpool1": ["cmle-training-workerpool1-ab-0:2222",
                            "cmle-training-workerpool1-ab-1:2222"],
        },
        "task": {"type": "workerpool1", "index": 1, "trial": "TRIAL_ID"},
    }),
    "MASTER_ADDR": "cmle-training-workerpool0-ab-0", "MASTER_PORT": "2222", "WORLD_SIZE": "3",
    "RANK": "2",
}  # fmt: skip
AZURE_ML = {
    "AZUREML_EXPERIMENT_ID": "e", "AZUREML_RUN_ID": "run_7", "AZUREML_NODE_COUNT": "2",
    "NODE_RANK": "1", "MASTER_ADDR": "10.0.0.4", "MASTER_PORT": "6105", "WORLD_SIZE": "2",
    "RANK": "1", "LOCAL_RANK": "0",
}  # fmt: skip
MPI = {
    "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": "1",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0", "OMPI_COMM_WORLD_NODE_RANK": "0",
}  # fmt: skip
LWS = {"LWS_LEADER_ADDRESS": "lws-0.lws.ns", "LWS_GROUP_SIZE": "2", "LWS_WORKER_INDEX": "1"}
PAI = {**PYTORCHJOB_2023, "NPROC_PER_NODE": "8"}
POD_HOSTS = (
    "# Kubernetes-managed hosts file.\n10.8.0.7\tllm-1.workers.ml.svc.cluster.local\tllm-1\n"
)


class Recorded(NamedTuple):
    """One node, and where it is: (nodes, rank, master, port)."""

    environ: dict[str, str]
    at: tuple[str, int | None, str | None, int]  # nodes as --nnodes has them
    hostname: str = "node"
    files: Mapping[str, str] = {}

    @property
    def surroundings(self) -> Surroundings:
        return Surroundings(self.environ, self.hostname, self.files)


ONE_MACHINE = ("1", None, None, 29500)
RECORDED = {
    "nothing": Recorded({}, ONE_MACHINE),
    "slurm step": Recorded(STEP, ("4", 1, "rack0gpu1", 61000)),
    "slurm batch script of one node": Recorded(
        {**BATCH, "SLURM_JOB_NUM_NODES": "1", "SLURM_NNODES": "1"}, ONE_MACHINE
    ),
    "slurm with enroot's hook": Recorded(
        {**STEP, "MASTER_ADDR": "rack0gpu1", "RANK": "1", "WORLD_SIZE": "4", "MASTER_PORT": "61000",
         "LOCAL_RANK": "0"},
        ("4", 1, "rack0gpu1", 61000),
    ),
    "trainer": Recorded(TRAINER, ("2", 1, "llm-node-0-0.llm", 29500), "llm-node-0-1"),
    "pytorchjob to 2023": Recorded(PYTORCHJOB_2023, ("3", 2, "bert-master-0", 23456)),
    "pytorchjob": Recorded(PYTORCHJOB, ("2", 1, "bert-master-0", 23456)),
    "pytorchjob elastic": Recorded(ELASTIC, ("1:4", None, "bert-worker-0", 23456)),
    "alibaba pai": Recorded(PAI, ("3", 2, "bert-master-0", 23456)),
    "indexed job": Recorded(
        {"JOB_COMPLETION_INDEX": "1", "PET_NNODES": "2"},
        ("2", 1, "llm-0.workers.ml.svc.cluster.local", 29500), "llm-1", {HOSTS: POD_HOSTS},
    ),
    "jobset": Recorded(
        {"JOB_COMPLETION_INDEX": "3", "PET_NNODES": "4"},
        ("4", 3, "pre-workers-0-0.pre.ml.svc.cluster.local", 29500), "pre-workers-0-3",
        {HOSTS: "127.0.0.1 localhost\n10.8.0.9 pre-workers-0-3.pre.ml.svc.cluster.local "
                "pre-workers-0-3\n"},
    ),
    "a sweep in an indexed job": Recorded({"JOB_COMPLETION_INDEX": "7"}, ONE_MACHINE, "sweep-7"),
    "leader worker set": Recorded(LWS, ("2", 1, "lws-0.lws.ns", 29500)),
    "runpod": Recorded(RUNPOD, ("2", 1, "10.65.0.2", 29400)),
    "skypilot": Recorded(SKYPILOT, ("2", 0, "10.0.0.4", 29500)),
    "dstack": Recorded(DSTACK, ("2", 1, "10.1.0.2", 29500)),
    "dstack on one node": Recorded(DSTACK_ALONE, ONE_MACHINE),
    "sagemaker's toolkit": Recorded(SAGEMAKER, ("2", 1, "algo-1", 7777)),
    "sagemaker without it": Recorded(
        {}, ("2", 0, "algo-1", 7777), "algo-1",
        {RESOURCES: '{"current_host":"algo-1","hosts":["algo-1","algo-2"]}'},
    ),
    "vertex": Recorded(VERTEX, ("3", 2, "cmle-training-workerpool0-ab-0", 2222)),
    "cluster spec of somebody else's": Recorded(
        {"CLUSTER_SPEC": '{"clusterSpec": {"Master": ["a:1"]}}'}, ONE_MACHINE
    ),
    "azure ml": Recorded(AZURE_ML, ("2", 1, "10.0.0.4", 6105)),
    "open mpi": Recorded({**MPI, "MASTER_ADDR": "h1"}, ("2", 1, "h1", 29500)),
    "mpijob": Recorded(MPI, ("2", 1, "j-worker-0.j.ml.svc", 29500), "j-worker-1",
                       {MPI_HOSTS: "j-worker-0.j.ml.svc slots=1\nj-worker-1.j.ml.svc slots=1\n"}),
    "open mpi in slurm, beside the first node": Recorded(
        {**MPI, **STEP, "SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_NODELIST": "rack0gpu2",
         "SLURM_STEP_NUM_TASKS": "1", "SLURM_NODEID": "0", "MASTER_ADDR": "rack0gpu1"},
        ("2", 1, "rack0gpu1", 29500),
    ),
    "open mpi in a slurm batch script": Recorded(
        {**MPI, **BATCH, "OMPI_COMM_WORLD_RANK": "0", "MASTER_ADDR": "gpu1"},
        ("2", 0, "gpu1", 29500),
    ),
    "mpich": Recorded({"PMI_SIZE": "2", "PMI_RANK": "1", "MPI_LOCALNRANKS": "1",
                       "MASTER_ADDR": "h1", "MASTER_PORT": "5000"}, ("2", 1, "h1", 5000)),
    "a kubernetes service called master": Recorded(
        {**PYTORCHJOB_2023, "MASTER_PORT": "tcp://10.0.0.1:29500"}, ("3", 2, "bert-master-0", 29500)
    ),
    "slurm in a federation": Recorded(
        {**STEP, "SLURM_JOB_ID": "2147483649"}, ("4", 1, "rack0gpu1", 61000 + 2147483649 % 4536)
    ),
    "runpod with an IPv6 address in brackets": Recorded(
        {**RUNPOD, "PRIMARY_ADDR": "[fd00::2]"}, ("2", 1, "fd00::2", 29400)
    ),
    "mpijob of mpich's": Recorded(
        {"PMI_SIZE": "2", "PMI_RANK": "1", "MPI_LOCALNRANKS": "1"},
        ("2", 1, "j-worker-0.j.ml.svc", 29500), "j-worker-1",
        {MPI_HOSTS: "# workers\nj-worker-0.j.ml.svc:8\nj-worker-1.j.ml.svc:8\n"},
    ),
    "what is left of half a set": Recorded({"NODE_RANK": "1", "NUM_NODES": "2"}, ONE_MACHINE),
    "ray": Recorded({"RAY_ADDRESS": "10.0.0.1:6379", "RAY_JOB_ID": "01"}, ONE_MACHINE),
}  # fmt: skip
