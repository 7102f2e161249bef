"""This process's environment, and what of it a program of root's does without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
GIVEN = "/opt/venv/lib:/usr/local/nvidia/lib64"
# As image/ours/launcher.c starts a program that was given this one, and two more.
STARTED_WITH = {
    "KEPT": "1",
    "LD_LIBRARY_PATH": "/usr/local/nvidia/lib64",
    "LAUNCHER_SET_ASIDE_LD_LIBRARY_PATH": GIVEN,
    "LAUNCHER_SET_ASIDE_LD_PRELOAD": "/workspace/x.so",
}
WHOLE = {"KEPT": "1", "LD_LIBRARY_PATH": GIVEN, "LD_PRELOAD": "/workspace/x.so"}
SAFE = {"KEPT": "1", "LD_LIBRARY_PATH": "/usr/local/nvidia/lib64"}


def answer(code: str) -> object:
    """Run Python so started; return the value of `result`."""
    script = f"import json, os, sys; sys.path.insert(0, {str(ROOT)!r})\n"
    script += f"from launcher.settings import environ\n{code}\nprint(json.dumps(result))"
    argv = [sys.executable, "-I", "-c", script]
    done = subprocess.run(argv, env=STARTED_WITH, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    if isinstance(found, dict):
        found.pop("LC_CTYPE", None)  # Python's own
    return found


def test_the_environment_is_as_it_was_given() -> None:
    assert answer("result = environ.own()") == WHOLE
    assert answer("result = environ.set_aside()") == ["LD_LIBRARY_PATH", "LD_PRELOAD"]


def test_a_program_that_is_started_does_not_follow_it() -> None:
    """Nor once the environment was replaced, as after hooks."""
    assert answer("result = dict(os.environ)") == STARTED_WITH
    replaced = "environ.replace({**environ.own(), 'NEW': '2'})\n"
    assert answer(f"{replaced}result = dict(os.environ)") == {**STARTED_WITH, "NEW": "2"}
    assert answer(f"{replaced}result = environ.own()") == {**WHOLE, "NEW": "2"}


def test_an_environment_of_its_own_has_nothing_of_it() -> None:
    replaced = "environ.replace({'PATH': '/bin'})\n"
    assert answer(f"{replaced}result = dict(os.environ)") == {"PATH": "/bin"}
    assert answer(f"{replaced}result = environ.own()") == {"PATH": "/bin"}


def test_what_a_program_of_root_s_gets() -> None:
    assert answer("result = environ.for_root(environ.own())") == SAFE
    assert answer("result = environ.as_given(environ.for_root(environ.own()))") == WHOLE


@pytest.mark.parametrize("value", ["/opt/lib", ""])
def test_what_a_program_of_root_s_sets_counts(value: str) -> None:
    code = f"result = environ.as_given({{'KEPT': '1', 'LD_LIBRARY_PATH': {value!r}}})"
    assert answer(code) == {**WHOLE, "LD_LIBRARY_PATH": value}
    replaced = f"environ.replace({{'LD_LIBRARY_PATH': {value!r}}})\n"
    assert answer(f"{replaced}result = dict(os.environ)") == {"LD_LIBRARY_PATH": value}


def test_a_hook_is_started_without_it(tmp_path: Path) -> None:
    """And what notebooks get is as it was given, unless the hook changes it."""
    hook = tmp_path / "hook.sh"
    hook.write_text(f"env -0 > {tmp_path}/seen; export NEW=2")
    code = (
        "from launcher.pid1 import hooks\n"
        f"changes = hooks.run_hooks([hooks.Hook({str(hook)!r}, 'source')], environ.own(), 2,"
        " go_on=False, quiet=True)\n"
        "result = changes.applied_to(environ.own())"
    )
    assert answer(code) == {**WHOLE, "NEW": "2"}
    seen = dict(
        item.partition("=")[::2]
        for item in os.fsdecode((tmp_path / "seen").read_bytes()).split("\0")
    )
    assert seen["LD_LIBRARY_PATH"] == SAFE["LD_LIBRARY_PATH"]
    assert not [name for name in seen if name.endswith("LD_PRELOAD")]
