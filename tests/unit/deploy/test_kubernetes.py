"""deploy/kubernetes: built by kubectl, held strictly against the API's schemas and rules."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from launcher.settings.table import Settings

FOLDER = Path(__file__).parents[3] / "deploy" / "kubernetes"
OVERLAYS = ("gpu", "mig", "cpu", "nonroot", "tenant")
PAGE = FOLDER.parents[1] / "docs" / "deploy.md"
KUBECTL = Path(sys.executable).parent / "kubectl"


def build(overlay: Path) -> str:
    command = [KUBECTL, "kustomize", overlay]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def validate(text: str) -> None:
    """Raises kubernetes_validate.ValidationError where the API does not know a field."""
    for one in yaml.safe_load_all(text):
        kubernetes_validate.validate(one, "1.37", strict=True)


def read(text: str) -> dict[str, dict[str, Any]]:
    return {one["kind"]: one for one in yaml.safe_load_all(text)}


def pod(objects: Mapping[str, Any], kind: str = "StatefulSet") -> dict[str, Any]:
    return dict(objects[kind]["spec"]["template"]["spec"])


@pytest.fixture(scope="module")
def built() -> dict[str, str]:
    texts = {name: build(FOLDER / "overlays" / name) for name in OVERLAYS}
    return {**texts, "job": (FOLDER / "job" / "job.yaml").read_text()}


def test_there_is_no_overlay_that_nobody_looks_at() -> None:
    assert {path.name for path in (FOLDER / "overlays").iterdir()} == set(OVERLAYS)


def taken(folder: Path) -> set[Path]:
    """Return the files that kustomize reads for a folder."""
    own = folder / "kustomization.yaml"
    resources = {(folder / name).resolve() for name in yaml.safe_load(own.read_text())["resources"]}
    deeper = [taken(one) for one in resources if one.is_dir()]
    return {own, *filter(Path.is_file, resources)}.union(*deeper)


def test_every_file_is_part_of_what_is_held_against_the_api() -> None:
    read_for = set().union(*(taken((FOLDER / "overlays" / name).resolve()) for name in OVERLAYS))
    found = {path for part in ("base", "overlays") for path in (FOLDER / part).rglob("*.*")}
    assert found == read_for


@pytest.mark.parametrize("name", [*OVERLAYS, "job"])
def test_the_api_knows_every_field(built: dict[str, str], name: str) -> None:
    validate(built[name])
    wrong = built[name].replace("medium: Memory", "mediun: Memory")
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(wrong)


@pytest.mark.parametrize(
    ("name", "resource"),
    [("gpu", "nvidia.com/gpu"), ("mig", "nvidia.com/mig-1g.10gb"), ("nonroot", "nvidia.com/gpu")],
)
def test_a_gpu_is_asked_for_in_the_limits(built: dict[str, str], name: str, resource: str) -> None:
    (container,) = pod(read(built[name]))["containers"]
    assert container["resources"]["limits"][resource] == 1
    assert [key for key in container["resources"]["requests"] if "nvidia" in key] == []


def test_without_a_gpu_none_of_the_node_s_are_given(built: dict[str, str]) -> None:
    (container,) = pod(read(built["cpu"]))["containers"]
    assert {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"} in container["env"]
    assert [key for key in container["resources"]["limits"] if "nvidia" in key] == []


# Kubernetes documentation, "Pod Security Standards", restricted.
VOLUMES = {"configMap", "downwardAPI", "emptyDir", "persistentVolumeClaim", "projected", "secret"}


def refused(spec: Mapping[str, Any]) -> list[str]:
    """Return why a namespace that is restricted takes no such pod.

    Its user is named as well: the image's own is root, whom the kubelet refuses with runAsNonRoot.
    """
    (container,) = spec["containers"]
    pods, own = spec["securityContext"], container["securityContext"]
    taken = {
        "runAsNonRoot": pods.get("runAsNonRoot") is True and pods.get("runAsUser", 0) > 0,
        "seccompProfile": pods.get("seccompProfile") == {"type": "RuntimeDefault"},
        "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
        "capabilities": own.get("capabilities") == {"drop": ["ALL"]},
        "volumes": {key for one in spec["volumes"] for key in one} - {"name"} <= VOLUMES,
    }
    return [name for name, well in taken.items() if not well]


@pytest.mark.parametrize("name", ["nonroot", "tenant"])
def test_a_namespace_that_is_restricted_takes_it(built: dict[str, str], name: str) -> None:
    spec = pod(read(built[name]))
    assert refused(spec) == []
    (container,) = spec["containers"]
    assert {port["containerPort"] for port in container["ports"]} == {8888, 2222}
    assert refused(pod(read(built["gpu"]))) == [
        "runAsNonRoot", "seccompProfile", "allowPrivilegeEscalation", "capabilities",
    ]  # fmt: skip


def test_a_training_runs_beside_a_team_s_box(built: dict[str, str]) -> None:
    """It names what the tenant's quota counts, too."""
    spec = pod(read(built["job"]), "Job")
    assert refused(spec) == []
    quota = next(iter(read(built["tenant"])["ResourceQuota"]["spec"].values()))
    (container,) = spec["containers"]
    given = {f"{kind}.{name}" for kind, of in container["resources"].items() for name in of} | {
        f"requests.{name}" for name in container["resources"]["limits"]
    }
    counted = {name for name in quota if name.partition(".")[0] in ("requests", "limits")}
    assert counted - given == {"requests.storage"}


def test_keys_have_a_place_and_may_come_later(built: dict[str, str]) -> None:
    for name in OVERLAYS:
        spec = pod(read(built[name]))
        (container,) = spec["containers"]
        mounted = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
        (volume,) = [
            one["secret"] for one in spec["volumes"]
            if one["name"] == mounted[Settings._field_defaults["keys_dir"].default]
        ]  # fmt: skip
        assert volume["optional"] is True, "no key: a box without SSH"
        assert volume["defaultMode"] & 0o444 == 0o444, "whoever the box runs as"
        assert f"generic {volume['secretName']} --from-file=" in PAGE.read_text()


def test_a_tenant_has_everything_in_its_namespace(built: dict[str, str]) -> None:
    objects = list(yaml.safe_load_all(built["tenant"]))
    kinds = {one["kind"] for one in objects}
    assert {"Namespace", "ResourceQuota", "LimitRange", "NetworkPolicy", "StatefulSet"} <= kinds
    elsewhere = [one for one in objects if one["metadata"].get("namespace") != "team-a"]
    assert [one["kind"] for one in elsewhere] == ["Namespace"]
    assert elsewhere[0]["metadata"]["name"] == "team-a"


@pytest.mark.parametrize(("name", "kind"), [("gpu", "StatefulSet"), ("job", "Job")])
def test_a_pod_is_no_door_to_the_cluster(built: dict[str, str], name: str, kind: str) -> None:
    spec = pod(read(built[name]), kind)
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False


def test_what_is_mounted_is_there_and_lasts(built: dict[str, str]) -> None:
    objects = read(built["gpu"])
    spec = pod(objects)
    claims = {
        claim["metadata"]["name"]
        for claim in objects["StatefulSet"]["spec"]["volumeClaimTemplates"]
    }
    mounts = {it["mountPath"]: it["name"] for it in spec["containers"][0]["volumeMounts"]}
    assert set(mounts.values()) == claims | {volume["name"] for volume in spec["volumes"]}
    assert {mounts["/workspace"], mounts["/var/lib/launcher"]} == claims
    assert spec["terminationGracePeriodSeconds"] >= 30


def test_no_probe_asks_what_a_restart_does_not_mend(built: dict[str, str]) -> None:
    (container,) = pod(read(built["gpu"]))["containers"]
    assert "exec" not in container["livenessProbe"]
    assert container["readinessProbe"]["exec"]["command"] == [
        "/usr/local/bin/launcher",
        "healthcheck",
    ]
    assert container["readinessProbe"]["timeoutSeconds"] >= 3


def policies(text: str) -> dict[str, dict[str, Any]]:
    """Return the specs of the NetworkPolicies by name."""
    found = (one for one in yaml.safe_load_all(text) if one["kind"] == "NetworkPolicy")
    return {one["metadata"]["name"]: one["spec"] for one in found}


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_box_closes_no_other_pod_of_its_namespace(built: dict[str, str], name: str) -> None:
    """A policy without labels is for every pod: trainings beside the box would lose their ports."""
    labels = read(built[name])["StatefulSet"]["spec"]["template"]["metadata"]["labels"]
    assert policies(built[name])["box"]["podSelector"] == {"matchLabels": labels}


def test_a_tenant_s_pods_reach_each_other_and_nobody_else_does(built: dict[str, str]) -> None:
    team = policies(built["tenant"])["team"]
    assert team["podSelector"] == {}, "every pod of the namespace"
    assert team["ingress"] == [{"from": [{"podSelector": {}}]}], "every port"


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_service_has_the_pod_s_own_ports(built: dict[str, str], name: str) -> None:
    """A headless Service maps no port: its name is the pod's address."""
    objects = read(built[name])
    assert objects["Service"]["spec"]["clusterIP"] == "None"
    (container,) = pod(objects)["containers"]
    own = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {port["targetPort"]: port["port"] for port in objects["Service"]["spec"]["ports"]} == own


def test_a_slow_start_has_ten_minutes_here_and_on_the_page(built: dict[str, str]) -> None:
    (container,) = pod(read(built["gpu"]))["containers"]
    page = (FOLDER.parents[1] / "docs" / "operations.md").read_text()
    sample = yaml.safe_load(page[page.index("\nstartupProbe:") :].partition("```")[0])
    for probe in (container["startupProbe"], sample["startupProbe"]):
        assert probe["periodSeconds"] * probe["failureThreshold"] >= 600
    asked = [probe for probe in sample.values() if "exec" in probe]
    assert [probe for probe in asked if probe.get("timeoutSeconds", 1) < 3] == []
