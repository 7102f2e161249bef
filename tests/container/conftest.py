"""One engine, one image and as few containers as possible for the whole suite.

Nothing here skips: where the suite cannot run, it fails and says what is missing.
SKIP_CONTAINERS=1 leaves it out on purpose.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from testing.container import image as project_image
from testing.container import said
from testing.container.box import Box, Boxes, boxes
from testing.container.engine import Docker, running_engine

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist's, which reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if item.path.is_relative_to(HERE)]
    for item in ours:
        if os.environ.get("SKIP_CONTAINERS") == "1":
            item.add_marker(pytest.mark.skip(reason="SKIP_CONTAINERS=1"))
        if _shares_a_container(item):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
            item.fixturenames.insert(0, "one_worker")  # type: ignore[attr-defined]
    # What one worker must run from first to last begins first; the rest fills the gaps.
    ours.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)
    items[:] = [item for item in items if not item.path.is_relative_to(HERE)] + ours


def _shares_a_container(item: pytest.Item) -> bool:
    """Say whether the test uses a container (or a hub of them) that others of its module use."""
    return not {"shared_box", "hub"}.isdisjoint(getattr(item, "fixturenames", ()))


@pytest.fixture
def one_worker(request: pytest.FixtureRequest) -> None:
    """Fail where the tests of a module that share a container went to several workers.

    Each would start its own; a pytest that pytest-xdist does not know does that silently.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        group = f"@{request.node.path.stem}"
        assert request.node.nodeid.endswith(group), "pytest-xdist does not see the group"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the log of each container that a failed test used."""
    report = yield
    if report.failed:
        for box in filter(Box.exists, _boxes_of(item)):
            report.sections.append((f"docker logs {box.name}", box.logs()[-20_000:]))
    return report


def _boxes_of(item: pytest.Item) -> Iterator[Box]:
    for value in getattr(item, "funcargs", {}).values():
        if isinstance(value, Box):
            yield value
        elif isinstance(value, Boxes):
            yield from value.running


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    """The docker command line, with a running engine behind it."""
    with running_engine(project_image.install_gpu_hook) as command:
        yield command


@pytest.fixture(scope="session")
def image(docker: Docker) -> str:
    """The project's image, built from its Dockerfile with its default pins."""
    return project_image.provide(docker)


@pytest.fixture
def box(docker: Docker, image: str) -> Iterator[Boxes]:
    """Start containers for one test; what they said has to be explained to people."""
    with boxes(docker, image) as started:
        yield started
    said.assert_explained(started.said)


@pytest.fixture(scope="module")
def shared_box(docker: Docker, image: str) -> Iterator[Boxes]:
    """Start containers for all tests of a module: for a fixture of that module to use."""
    with boxes(docker, image) as started:
        yield started
    said.assert_explained(started.said)
