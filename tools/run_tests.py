"""Run the tests: `make test`, or some of them: `make test ARGS="tests/unit/plan -k omp"`.

All of them run in three passes, several tests beside each other in each of the first two.  The
image is built during the first, which needs no container.  Running them all fails as well where the
container suite did not run: a green run without it says little.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tools import system_packages, torch_build

PROJECT = Path(__file__).parents[1]
BUILD = PROJECT / "build"
IMAGE_LOG = BUILD / "image.log"
CONTAINER_SUITE = "tests.container."
CONTAINERS = "tests/container"
CPUS = os.cpu_count() or 1
TOLD_EVERY = 15.0  # seconds, while the image is waited for
OUTCOMES = ("failed", "passed", "skipped", "errors")


class Pass(NamedTuple):
    """Tests that run together: what pytest is told, and how many of them at once."""

    name: str
    workers: int
    arguments: tuple[str, ...]

    @property
    def report(self) -> Path:
        return BUILD / f"tests-{self.name}.xml"


# Some of these wait too.  A file is one worker's: its tests share what they make.
BESIDE_THE_BUILD = Pass(
    "units", CPUS + 1, (f"--ignore={CONTAINERS}", "--dist=loadfile", "--no-loadscope-reorder")
)
# A container test waits more than it computes.  Measured on two cores: six workers
# take 9 minutes where four take 10 and a half.
IN_CONTAINERS = (
    Pass(
        "containers",
        3 * CPUS,
        (CONTAINERS, "-m", "not alone", "--dist=loadgroup", "--no-loadscope-reorder"),
    ),
    Pass("alone", 0, (CONTAINERS, "-m", "alone")),
)


def count_container_tests(report: Path) -> int:
    """Return how many tests of the container suite ran to an end, passed or failed."""
    cases = ElementTree.parse(report).iter("testcase")
    return sum(
        case.get("classname", "").startswith(CONTAINER_SUITE) and case.find("skipped") is None
        for case in cases
    )


def summary(reports: Iterable[Path], seconds: float) -> str:
    """Return pytest's last line, for all passes together."""
    counts: Counter[str] = Counter()
    for report in reports:
        for suite in ElementTree.parse(report).iter("testsuite"):
            found = {name: int(suite.get(name, 0)) for name in ("failures", "errors", "skipped")}
            counts["failed"] += found["failures"]
            counts["errors"] += found["errors"]
            counts["skipped"] += found["skipped"]
            counts["passed"] += int(suite.get("tests", 0)) - sum(found.values())
    said = ", ".join(f"{counts[name]} {name}" for name in OUTCOMES if counts[name])
    return f" {said or 'no tests ran'} in {seconds:.0f}s ".center(80, "=")


def run_all(passes: Iterable[Pass]) -> int:
    """Run the passes one after the other, all of them even where one fails."""
    begin = time.monotonic()
    done = []
    codes = []
    for each in passes:
        print(f"--- {each.name}", flush=True)
        each.report.unlink(missing_ok=True)
        workers = f"-n{each.workers}"
        codes.append(_pytest(f"--junitxml={each.report}", workers, *each.arguments))
        if each.report.exists():
            done.append(each.report)
    print(summary(done, time.monotonic() - begin), flush=True)
    return next(filter(None, codes), 0)


def passes_with_containers(image: subprocess.Popen[bytes]) -> Iterator[Pass]:
    """Give the passes, those in containers once the image is built."""
    yield BESIDE_THE_BUILD
    if _await_image(image):
        yield from IN_CONTAINERS


@contextmanager
def _image_being_built() -> Iterator[subprocess.Popen[bytes]]:
    print(f"building the image meanwhile: {IMAGE_LOG.relative_to(PROJECT)}", flush=True)
    with IMAGE_LOG.open("wb") as log:
        build = subprocess.Popen(
            [sys.executable, "-m", "testing.container.image"],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield build
    finally:
        build.terminate()
        build.wait()


def _await_image(build: subprocess.Popen[bytes]) -> bool:
    """Wait for the image, and tell how far it is; return whether it was built."""
    while build.poll() is None:
        try:
            build.wait(TOLD_EVERY)
        except subprocess.TimeoutExpired:
            print(f"waiting for the image: {''.join(_last_lines(1))[:100]}", flush=True)
    if build.returncode:
        print("\n".join(["error: the image was not built:", *_last_lines(40)]), file=sys.stderr)
    return build.returncode == 0


def _last_lines(count: int) -> list[str]:
    lines = IMAGE_LOG.read_text(errors="replace").splitlines()
    return [line for line in lines if line.strip()][-count:]


def _pytest(*arguments: str) -> int:
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(command, cwd=PROJECT, env=environment(), check=False).returncode


def _compile_once() -> None:
    """Let one process compile the tests of a fresh clone, before every worker does it at once."""
    if not any((PROJECT / "tests").glob("**/__pycache__")):
        print("compiling the tests", flush=True)
        command = [sys.executable, "-m", "pytest", "--collect-only", "-qq", "tests"]
        # Where it fails, the pass says why.
        silent = subprocess.DEVNULL
        subprocess.run(
            command, cwd=PROJECT, env=environment(), stdout=silent, stderr=silent, check=False
        )


def environment() -> dict[str, str]:
    """Return ours without what keeps Python from storing what it compiles.

    Images set PYTHONDONTWRITEBYTECODE for what runs once in them.  Here every worker, and every
    process of every test, would compile the same modules anew.
    """
    environ = dict(os.environ)
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    return environ


def _run_all_with_containers() -> int:
    with _image_being_built() as image:
        _compile_once()
        code = run_all(passes_with_containers(image))
        if not code and image.poll():
            return 1
    reports = [each.report for each in IN_CONTAINERS if each.report.exists()]
    if not code and not sum(map(count_container_tests, reports)):
        print("error: no container test ran; SKIP_CONTAINERS=1 leaves them out", file=sys.stderr)
        return 1
    return code


def main(arguments: list[str]) -> int:
    with_containers = os.environ.get("SKIP_CONTAINERS") != "1"
    system_packages.provide("test")
    if with_containers:
        system_packages.provide("containers")
        system_packages.provide("browser")
    torch_build.provide_folder()
    BUILD.mkdir(exist_ok=True)
    if arguments:
        return _pytest(*arguments)
    if not with_containers:
        _compile_once()
        return run_all([BESIDE_THE_BUILD])
    for each in IN_CONTAINERS:
        each.report.unlink(missing_ok=True)
    return _run_all_with_containers()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
