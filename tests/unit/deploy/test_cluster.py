"""deploy/kubernetes/cluster: each field is known, and a pod's environment is read as what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from launcher.cluster.job import find_job
from launcher.cluster.options import read_words
from launcher.cluster.place import HOSTS, Surroundings
from launcher.detect.torchrun import find_torchrun
from tests.unit.deploy.test_kubernetes import refused

FOLDER = Path(__file__).parents[3] / "deploy" / "kubernetes" / "cluster"
FILES = ("indexed-job.yaml", "jobset.yaml", "trainer.yaml")
OPTIONS = find_torchrun({"PATH": ""}, "/nonexistent/bin/python").options

# The fields of what is used of two APIs that are no part of Kubernetes': jobset.x-k8s.io/v1alpha2
# and trainer.kubeflow.org/v1alpha1, as their CRDs have them.  A Job's template is held below.
JOB: Any = "a Job's"
JOBSET = {
    "failurePolicy": {"maxRestarts": int},
    "network": {"enableDNSHostnames": bool, "publishNotReadyAddresses": bool},
    "replicatedJobs": [{"name": str, "replicas": int, "template": JOB}],
}
KNOWN: dict[str, Any] = {
    "JobSet": JOBSET,
    "TrainingRuntime": {
        "mlPolicy": {"numNodes": int, "torch": {"numProcPerNode": str}},
        "template": {"spec": JOBSET},
    },
    "TrainJob": {
        "runtimeRef": {"name": str, "kind": str},
        "trainer": {"numNodes": int, "resourcesPerNode": dict},
    },
}


def read(name: str) -> dict[str, dict[str, Any]]:
    return {one["kind"]: one for one in yaml.safe_load_all((FOLDER / name).read_text())}


def unknown(found: Any, known: Any, path: str = "") -> list[str]:
    """Return the fields that the API does not have, or has of another type."""
    if known is JOB:
        return []
    if isinstance(known, list):
        return [one for part in found for one in unknown(part, known[0], path)]
    if not isinstance(known, dict):
        return [] if isinstance(found, known) else [path]
    wrong = [f"{path}.{name}" for name in found.keys() - known.keys()]
    both = found.keys() & known.keys()
    return wrong + [one for n in both for one in unknown(found[n], known[n], f"{path}.{n}")]


def jobs(name: str) -> list[dict[str, Any]]:
    """Return the Jobs that come of a file, with what a controller adds."""
    found = read(name)
    if "Job" in found:
        return [found["Job"]]
    spec = (
        found["JobSet"]["spec"]
        if "JobSet" in found
        else (found["TrainingRuntime"]["spec"]["template"]["spec"])
    )
    made = []
    for one in spec["replicatedJobs"]:
        template = {"apiVersion": "batch/v1", "kind": "Job", **one["template"]}
        template.setdefault("metadata", {})["name"] = f"train-{one['name']}-0"
        if "TrainingRuntime" in found:
            nodes = found["TrainJob"]["spec"]["trainer"]["numNodes"]
            template["spec"].update(completionMode="Indexed", completions=nodes, parallelism=nodes)
            template["spec"]["template"]["spec"]["restartPolicy"] = "Never"
        made.append(template)
    return made


def test_there_is_no_file_that_nobody_looks_at() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_the_apis_know_every_field(name: str) -> None:
    for kind, one in read(name).items():
        if kind in KNOWN:
            assert unknown(one["spec"], KNOWN[kind]) == []
        else:
            kubernetes_validate.validate(one, "1.37", strict=True)
    for job in jobs(name):
        kubernetes_validate.validate(job, "1.37", strict=True)
        job["spec"]["template"]["spec"]["subdomains"] = "x"
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(job, "1.37", strict=True)


def test_a_typo_in_what_kubernetes_does_not_know_is_seen() -> None:
    spec = read("jobset.yaml")["JobSet"]["spec"]
    spec["network"]["enableDNSHostname"] = True
    spec["failurePolicy"]["maxRestarts"] = "3"
    assert sorted(unknown(spec, JOBSET)) == [
        ".failurePolicy.maxRestarts", ".network.enableDNSHostname",
    ]  # fmt: skip


def environment(job: dict[str, Any], index: int) -> dict[str, str]:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    found = {one["name"]: str(one["value"]) for one in container.get("env", ())}
    return {**found, "JOB_COMPLETION_INDEX": str(index)}


def place(environ: dict[str, str], hostname: str, domain: str) -> tuple[object, ...]:
    """Return what `launcher torchrun` makes of a pod."""
    hosts = f"127.0.0.1 localhost\n10.8.0.7 {hostname}.{domain} {hostname}\n"
    around = Surroundings(environ, hostname, {HOSTS: hosts})
    job = find_job(read_words(["train.py"], OPTIONS, environ).given, around, 8)
    return job.nodes, job.rank, job.master


@pytest.mark.parametrize("index", [0, 1])
def test_the_pods_of_an_indexed_job_find_each_other(index: int) -> None:
    found = read("indexed-job.yaml")
    service, (job,) = found["Service"], jobs("indexed-job.yaml")
    spec = job["spec"]["template"]["spec"]
    assert spec["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert (service["spec"]["clusterIP"], service["spec"]["publishNotReadyAddresses"]) == (
        "None", True,
    )  # fmt: skip
    name = job["metadata"]["name"]
    domain = f"{spec['subdomain']}.default.svc.cluster.local"
    assert place(environment(job, index), f"{name}-{index}", domain) == (
        job["spec"]["completions"], index, f"{name}-0.{domain}",
    )  # fmt: skip


@pytest.mark.parametrize("index", [0, 1])
def test_the_pods_of_a_jobset_find_each_other(index: int) -> None:
    (job,) = jobs("jobset.yaml")
    name = job["metadata"]["name"]
    domain = "train.default.svc.cluster.local"
    assert place(environment(job, index), f"{name}-{index}", domain) == (
        job["spec"]["completions"], index, f"{name}-0.{domain}",
    )  # fmt: skip


@pytest.mark.parametrize("index", [0, 1])
def test_what_trainer_sets_is_read(index: int) -> None:
    """Kubeflow Trainer's torch policy sets five PET_* in the container called `node`."""
    (job,) = jobs("trainer.yaml")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    runtime = read("trainer.yaml")["TrainingRuntime"]
    assert container["name"] == "node"
    assert not any(one["name"].startswith("PET_") for one in container["env"]), "Trainer's to set"
    torch = runtime["spec"]["mlPolicy"]["torch"]
    given = {
        "PET_NNODES": str(job["spec"]["completions"]), "PET_NODE_RANK": str(index),
        "PET_NPROC_PER_NODE": torch["numProcPerNode"], "PET_MASTER_ADDR": "train-node-0-0.train",
        "PET_MASTER_PORT": "29500",
    }  # fmt: skip
    environ = {**environment(job, index), **given}
    assert place(environ, f"train-node-0-{index}", "train") == (2, index, "train-node-0-0.train")


@pytest.mark.parametrize("name", FILES[:2])
def test_every_count_of_nodes_is_the_same(name: str) -> None:
    for job in jobs(name):
        spec = job["spec"]
        assert spec["completions"] == spec["parallelism"]
        assert environment(job, 0)["PET_NNODES"] == str(spec["completions"])


@pytest.mark.parametrize("name", FILES)
def test_a_namespace_that_is_restricted_takes_them(name: str) -> None:
    for job in jobs(name):
        assert refused(job["spec"]["template"]["spec"]) == []


@pytest.mark.parametrize("name", FILES)
def test_nothing_trains_before_the_check(name: str) -> None:
    for job in jobs(name):
        (container,) = job["spec"]["template"]["spec"]["containers"]
        assert container["args"][-1].startswith("launcher cluster check && exec launcher torchrun ")
