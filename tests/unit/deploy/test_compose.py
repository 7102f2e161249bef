"""The Compose files, by the specification's schema; one of them really starts in the containers."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

DEPLOY = Path(__file__).parents[3] / "deploy"
FILES = sorted(DEPLOY.glob("compose*.yaml"))


def read(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / name).read_text()))


@pytest.fixture(scope="module")
def specification() -> jsonschema.Draft202012Validator:
    """Return Compose's own schema, which comes with check-jsonschema."""
    folder = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    return jsonschema.Draft202012Validator(json.loads(folder.read_text()))


def test_the_files_fit_the_specification(specification: jsonschema.Draft202012Validator) -> None:
    assert {path.name for path in FILES} == {
        "compose.yaml", "compose.cpu.yaml", "compose.secrets.yaml", "compose.cluster.yaml",
    }  # fmt: skip
    for path in FILES:
        assert [error.message for error in specification.iter_errors(read(path.name))] == []
    wrong = read("compose.yaml")
    wrong["services"]["box"]["shm_sizes"] = wrong["services"]["box"].pop("shm_size")
    assert list(specification.iter_errors(wrong)), "a typo passes"


def test_the_one_without_gpus_is_the_other_but_for_the_gpus() -> None:
    with_gpus, without = read("compose.yaml"), read("compose.cpu.yaml")
    (device,) = with_gpus["services"]["box"].pop("deploy")["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    assert with_gpus == without


def test_nothing_is_called_after_the_folder() -> None:
    """`deploy` is what many projects call theirs: their `down` would take our containers along."""
    for path in (*FILES, DEPLOY.parent / "docs/deploy.md", DEPLOY.parent / "docs/cluster.md"):
        told = re.findall(r"docker compose (?!-p \w+ -f ).*-f .*", path.read_text())
        assert told == [], path
    found = read("compose.yaml")
    assert found["services"]["box"]["container_name"] == "${BOX:-box}", "docker exec box …"
    names = {name: one["name"] for name, one in found["volumes"].items()}
    assert names == {"workspace": "${BOX:-box}-workspace", "state": "${BOX:-box}-state"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_variable_has_a_default(path: Path) -> None:
    """So that `up` works as it is."""
    assert re.findall(r"\$\{\w+\}", path.read_text()) == []
