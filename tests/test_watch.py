"""What watch does between readiness and health: PyTorch in a child, and the report for it."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from launcher import health, watch
from launcher.machine import Account
from launcher.model import Identity, Plan, Probe
from tests.local_box import free_ports
from tests.machines import CASES

H100 = CASES["h100-8x"]
MYSELF = Account("me", os.geteuid(), os.getegid(), "/", "/bin/sh", tuple(os.getgroups()))


def plan(tmp_path: Path, verify: str = "", python: str = sys.executable) -> Plan:
    """Return a plan whose guest program is the given text, run as whoever runs the test."""
    (tmp_path / "verify.py").write_text(verify)
    made = H100.plan()
    return replace(
        made,
        paths=replace(made.paths, guest=str(tmp_path), python=python, run=str(tmp_path)),
        identity=Identity(MYSELF, "a test"),
    )


# --- PyTorch ---------------------------------------------------------------------------------


def test_what_the_guest_prints_last_is_its_report(tmp_path: Path) -> None:
    text = 'print(\'a warning of some library\')\nprint(\'{"torch": "2.6.0", "devices": 8}\')'
    assert watch.verify(plan(tmp_path, text)) == {"torch": "2.6.0", "devices": 8}


def test_the_guest_sees_the_users_environment_and_nothing_of_ours(tmp_path: Path) -> None:
    text = "import json, os; print(json.dumps(dict(os.environ)))"
    seen = watch.verify(plan(tmp_path, text))
    assert seen.items() >= plan(tmp_path).user_environment().items()
    assert "PYTEST_CURRENT_TEST" not in seen


def test_the_guest_starts_with_clean_signals_and_a_low_priority(tmp_path: Path) -> None:
    text = """
import json, os, re
status = open("/proc/self/status").read()
blocked = re.search(r"SigBlk:\\s+(\\w+)", status)[1]
print(json.dumps({"nice": os.nice(0), "blocked": int(blocked, 16)}))
"""
    assert watch.verify(plan(tmp_path, text)) == {"nice": min(19, os.nice(0) + 10), "blocked": 0}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("import sys; sys.exit('the last words')", "the last words", id="words"),
        pytest.param("import sys; sys.exit(3)", "ended with status 3", id="status"),
        pytest.param("import os; os.kill(os.getpid(), 11)", "killed by SIGSEGV", id="crash"),
        pytest.param("import os; os.kill(os.getpid(), 40)", "killed by signal 40", id="signal-40"),
        pytest.param("print('no json')", "ended with status 0", id="no-json"),
        pytest.param("print('[1, 2]')", "ended with status 0", id="no-object"),
        pytest.param("1 / 0", "ZeroDivisionError", id="traceback"),
    ],
)
def test_a_guest_without_a_report_is_an_error_in_words(tmp_path, text: str, error: str) -> None:
    result = watch.verify(plan(tmp_path, text))
    assert result["torch"] is None
    assert error in str(result["error"])


def test_a_python_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = watch.verify(plan(tmp_path, python="/nonexistent/python"))
    assert result["error"] == "/nonexistent/python: No such file or directory"


def test_a_guest_that_hangs_is_given_up(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(watch, "_VERIFY_TIMEOUT", 0.3)
    result = watch.verify(plan(tmp_path, "import time; time.sleep(60)"))
    assert "no answer within 0.3 s" in str(result["error"])


# --- readiness and health --------------------------------------------------------------------


def quiet_plan(tmp_path: Path, timeout: float) -> Plan:
    """Return a plan of services that do not run."""
    made = plan(tmp_path)
    first, second = free_ports(2)
    return replace(
        made,
        jupyter=replace(made.jupyter, port=first, listen="127.0.0.1"),
        ssh=replace(made.ssh, port=second, listen="127.0.0.1"),
        ready_timeout=timeout,
        started=time.monotonic(),
    )


def test_what_is_not_ready_at_the_deadline_is_said(tmp_path: Path) -> None:
    begin = time.monotonic()
    probes = watch.await_services(quiet_plan(tmp_path, timeout=1.0))
    assert {probe.service: probe.ready for probe in probes} == {"jupyter": False, "ssh": False}
    assert all(probe.detail for probe in probes)
    assert 0.9 < time.monotonic() - begin < 10


def test_a_box_without_services_is_ready_at_once(tmp_path: Path) -> None:
    bare = replace(quiet_plan(tmp_path, timeout=60), jupyter=None, ssh=None)
    assert watch.await_services(bare) == ()
    assert watch.look(bare) == ()


def test_a_cheap_look_sees_that_nobody_listens(tmp_path: Path) -> None:
    probes = watch.look(quiet_plan(tmp_path, timeout=1))
    assert [(probe.service, probe.ready) for probe in probes] == [
        ("jupyter", False),
        ("ssh", False),
    ]


def test_a_watch_that_was_restarted_does_not_print_the_banner_again(tmp_path: Path) -> None:
    made = quiet_plan(tmp_path, timeout=1)
    path = f"{tmp_path}/health.json"
    assert not watch._announced(path, made)
    health.write(path, made.started, [Probe("jupyter", True, "answers")])
    assert watch._announced(path, made)
    assert not watch._announced(path, replace(made, started=made.started + 1))
