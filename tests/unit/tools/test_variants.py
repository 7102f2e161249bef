"""docker-bake.hcl and `make image VARIANT=…` build the same images."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tools import image
from tools.variants import VARIANTS

ROOT = image.PROJECT


def text(value: Any) -> str:
    return str(value).strip('"')


@pytest.fixture(scope="module")
def parsed() -> dict[str, Any]:
    import hcl2  # seconds, which every worker would have to pay at its start

    return dict(hcl2.loads((ROOT / "docker-bake.hcl").read_text()))


@pytest.fixture(scope="module")
def targets(parsed: dict[str, Any]) -> dict[str, Any]:
    """Return the targets of docker-bake.hcl by name."""
    return {text(name): body for one in parsed["target"] for name, body in one.items()}


@pytest.fixture(scope="module")
def groups(parsed: dict[str, Any]) -> dict[str, list[str]]:
    return {
        text(name): [text(target) for target in body["targets"]]
        for one in parsed["group"]
        for name, body in one.items()
    }


def test_the_file_has_every_variant(targets: dict[str, Any], groups: dict[str, list[str]]) -> None:
    assert set(targets) - {"common"} == set(VARIANTS) == set(groups["all"])
    assert groups["default"] == ["cuda"]


@pytest.mark.parametrize("name", VARIANTS)
def test_both_build_the_same(targets: dict[str, Any], name: str) -> None:
    variant, target = VARIANTS[name], targets[name]
    arguments = {text(key): text(value) for key, value in target.get("args", {}).items()}
    assert arguments == variant.arguments
    assert variant.tag in str(target["tags"])


def test_the_build_arguments_are_those_of_the_dockerfile(targets: dict[str, Any]) -> None:
    known = set(re.findall(r"^ARG (\w+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    used = {text(key) for target in targets.values() for key in target.get("args", {})}
    assert {"TORCH", "FLAVOR", "VERSION"} <= used <= known


def test_the_workflow_publishes_every_variant() -> None:
    workflow = (ROOT / ".github/workflows/publish.yml").read_text()
    found = re.search(r"variant: \[(.+)\]", workflow)
    assert found
    assert set(found[1].split(", ")) == set(VARIANTS)
