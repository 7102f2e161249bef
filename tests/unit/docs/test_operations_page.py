"""docs/operations.md says what the code does: its lines, exit codes and reasons.

What boxes really say is held against it by the container tests (testing/container/said.py).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.model import errors
from launcher.watch import health
from testing import pages
from testing.container import said

LAUNCHER = Path(__file__).parents[3] / "launcher"
# A command's answer is for who typed it, and in no log.
COMMANDS = {
    "supervise/control",
    "doctor/doctor",
    "doctor/pages",
    "box/keys",
    "box/privilege",
    "box/run_dir",
}
ERRORS = {"BadSetting", "NoUsableGpu", "StartFailed", "LauncherError"}
SPEAKS = re.compile("|".join(["launcher: ", r"launcher \|", *sorted(ERRORS)]))


# --- lines of the log -------------------------------------------------------------------------


def text_of(node: ast.expr) -> str:
    """Return a string as the source has it, with a 1 for each value: a number, a name, a text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) for part in node.values)
    return "1"


def spoken(tree: ast.AST) -> Iterator[str]:
    """Yield every text that becomes a line of ours: by its beginning, or as an error's message."""
    parts = {id(part) for f in ast.walk(tree) if isinstance(f, ast.JoinedStr) for part in f.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant | ast.JoinedStr) and id(node) not in parts:
            if (text := text_of(node)).startswith(("launcher: ", "launcher | ")):
                yield text
        elif (
            isinstance(node, ast.Call)
            and node.args
            and isinstance(node.func, ast.Name)
            and node.func.id in ERRORS
        ):
            yield from (f"launcher: {line}" for line in text_of(node.args[0]).split("\n"))


def is_made_of_values_alone(line: str) -> bool:
    return not re.search("[a-z]", line.removeprefix("launcher"))


SPOKEN = sorted(
    {
        line
        for path in LAUNCHER.rglob("*.py")
        if (name := path.relative_to(LAUNCHER).with_suffix("").as_posix()) not in COMMANDS
        if not name.startswith("cli/")
        if SPEAKS.search(source := path.read_text(encoding="utf-8"))
        for line in spoken(ast.parse(source))
        if not is_made_of_values_alone(line)
    }
)


def test_the_source_is_read() -> None:
    assert "launcher: keys and configuration reloaded" in SPOKEN
    assert "launcher: cannot 1: no answer within 1 s; is the disk well?" in SPOKEN


@pytest.mark.parametrize("line", SPOKEN)
def test_every_line_of_the_source_is_explained(line: str) -> None:
    assert said.unexplained(f"{line}\n") == []


@pytest.mark.parametrize(
    "line",
    [
        "launcher: something of which nobody has heard",
        "launcher: jupyter is not well: it has a cold",
        "launcher | exited: jupyter",
        "launcher | something of supervisor's",
    ],
)
def test_a_line_that_is_not_there_is_found(line: str) -> None:
    log = f"jupyter | launcher: not ours\n{line}\nlauncher: jupyter is ready again\n"
    assert said.unexplained(log) == [line]


def test_a_fix_belongs_to_the_line_before_it() -> None:
    line, fix = "launcher: the GPU is gone: nothing computes\n", "launcher:   fix: turn it on\n"
    assert said.unexplained(line + fix) == []
    assert said.unexplained(line) == [line.strip()]


def test_a_line_that_is_cut_is_let_be() -> None:
    assert said.unexplained("launcher: still asking the NVI") == []
    assert said.unexplained("launcher: jupyter is ready again\r\n") == []


# --- exit codes and health --------------------------------------------------------------------


def test_exit_codes() -> None:
    kinds = (errors.LauncherError, *errors.LauncherError.__subclasses__())
    cells = [cell for cell, _ in pages.table("operations.md", "Exit codes")]
    assert cells[-1] == "126, 127, 128+n"  # command mode: the shell's own
    assert {int(cell) for cell in cells[:-1]} == {0, *(kind.exit_code for kind in kinds)}


def _without(service: str, why: str) -> dict[str, object]:
    return {**GOOD, "healthy": False, "services": {service: {"ready": False, "detail": why}}}


GOOD = {"stamp": 100.0, "boot": "this", "healthy": True, "services": {}}
BAD = {"healthy": False, "services": {"jupyter": {"ready": False, "detail": "no answer"}}}
STARTING = {"healthy": False, "starting": True}
REASONS = {
    *(
        health.judge_health(report, 100.0, "this")
        for report in (
            None,
            {**GOOD, "boot": "another"},
            {**GOOD, "stamp": 1.0},
            {**GOOD, **BAD},
            {**GOOD, **STARTING},
            {**GOOD, **STARTING, "services": BAD["services"]},
            {**GOOD, "healthy": False},
            _without("ssh", "no greeting on port 22: timed out; fix: launcher restart sshd"),
            _without(
                "supervise", "it does not answer: timed out; fix: on the host: docker restart …"
            ),
        )
    ),
    health.judge_health(GOOD, 100.0, "this", alive=False),
    health.judge_health(GOOD, 100.0, "this", full="/run/launcher"),
}


def test_reasons_of_being_unhealthy() -> None:
    """Each has a row, and each row is one's: the first that fits, as one reads the page."""
    rows = [pages.literals(row[0])[0] for row in pages.table("operations.md", "Health", "reason")]
    fitting = {
        reason: next((row for row in rows if re.fullmatch(pages.pattern(row), str(reason))), None)
        for reason in REASONS
    }
    assert None not in fitting.values(), fitting
    assert set(fitting.values()) == set(rows)
