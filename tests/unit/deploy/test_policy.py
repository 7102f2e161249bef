"""deploy/kubernetes against the policies of checkov: what does not meet one has a reason."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.unit.deploy.test_kubernetes import FOLDER, OVERLAYS, build
from tools import checkov

RESTRICTED = {"nonroot", "tenant"}
ACCEPTED = {
    "CKV_K8S_11": "no limit of CPUs: it would throttle DataLoader's workers; there is a request",
    "CKV_K8S_15": "an image of gigabytes is not asked for at every start",
    "CKV_K8S_21": "no namespace: kubectl's -n names it; the overlay tenant is one",
    "CKV_K8S_22": "pip installs into the image's environment",
    "CKV_K8S_40": "uid 1000 is the image's user, whose the volumes are",
    "CKV_K8S_43": "no digest: the image is built by whoever deploys it",
}
# Root starts sshd, and becomes the user; sudo.
OF_ROOT = {"CKV_K8S_20", "CKV_K8S_23", "CKV_K8S_28", "CKV_K8S_37"}


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Return the checks that fail, by file; `wrong` is a pod that is given the whole node."""
    folder = tmp_path_factory.mktemp("policy")
    texts = {name: build(FOLDER / "overlays" / name) for name in OVERLAYS}
    for path in (FOLDER / "job" / "job.yaml", FOLDER / "cluster" / "indexed-job.yaml"):
        texts[path.stem] = path.read_text()
    escalation = "allowPrivilegeEscalation: false"
    texts["wrong"] = texts["nonroot"].replace(escalation, "privileged: true")
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    options = ["--framework", "kubernetes", "--skip-download", "--quiet", "--output", "json"]
    done = subprocess.run(
        [*checkov.provide(), "--directory", str(folder), *options],
        capture_output=True,
        text=True,
        check=False,
    )
    results = json.loads(done.stdout)["results"]["failed_checks"]
    found: dict[str, set[str]] = {name: set() for name in texts}
    for one in results:
        found[Path(one["file_path"]).stem].add(one["check_id"])
    return found


@pytest.mark.parametrize("name", [*OVERLAYS, "job", "indexed-job"])
def test_what_fails_is_meant(failed: dict[str, set[str]], name: str) -> None:
    meant = set(ACCEPTED) if name in RESTRICTED else set(ACCEPTED) | OF_ROOT
    assert failed[name] <= meant


def test_a_pod_that_is_given_the_node_fails(failed: dict[str, set[str]]) -> None:
    assert "CKV_K8S_16" in failed["wrong"], "privileged"


def test_each_reason_is_still_needed(failed: dict[str, set[str]]) -> None:
    ours = set().union(*(checks for name, checks in failed.items() if name != "wrong"))
    assert ours == set(ACCEPTED) | OF_ROOT
