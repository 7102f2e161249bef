"""Run the tests: `make test`, or some of them: `make test ARGS="tests/unit/plan -k omp"`.

Running them all fails as well where the container suite did not run: a green run without it says
little.
"""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from tools import system_packages, torch_build

PROJECT = Path(__file__).parents[1]
REPORT = PROJECT / "build" / "tests.xml"
CONTAINER_SUITE = "tests.container."


def count_container_tests(report: Path) -> int:
    """Return how many tests of the container suite ran to an end, passed or failed."""
    cases = ElementTree.parse(report).iter("testcase")
    return sum(
        case.get("classname", "").startswith(CONTAINER_SUITE) and case.find("skipped") is None
        for case in cases
    )


def main(arguments: list[str]) -> int:
    with_containers = os.environ.get("SKIP_CONTAINERS") != "1"
    system_packages.provide("test")
    if with_containers:
        system_packages.provide("containers")
    torch_build.provide_folder()
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.unlink(missing_ok=True)
    code = subprocess.run(
        [sys.executable, "-m", "pytest", f"--junitxml={REPORT}", *arguments],
        cwd=PROJECT,
        check=False,
    ).returncode
    if code == 0 and with_containers and not arguments and not count_container_tests(REPORT):
        print("error: no container test ran; SKIP_CONTAINERS=1 leaves them out", file=sys.stderr)
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
