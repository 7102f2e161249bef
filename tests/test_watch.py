"""What watch does around readiness: the deep look, the probes, the banner once."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from launcher import health, watch
from launcher.machine import Account
from launcher.model import Finding, Identity, Plan, Probe
from tests.local_box import free_ports
from tests.machines import CASES
from tests.probing import guest

H100 = CASES["h100-8x"]
MYSELF = Account("me", os.geteuid(), os.getegid(), "/", "/bin/sh", tuple(os.getgroups()))


def plan(tmp_path: Path) -> Plan:
    made = H100.plan()
    return replace(
        made,
        paths=replace(made.paths, run=str(tmp_path)),
        identity=Identity(MYSELF, "a test"),
    )


# --- the deep look ---------------------------------------------------------------------------

COMPUTES = """
import json
print(json.dumps({"outcome": "ok", "version": "2.6.0", "cuda": "12.4", "available": True,
                  "devices": 8, "arches": ["sm_90"]}))
"""


def looked(tmp_path: Path, environ: dict[str, str]) -> tuple[Plan, str]:
    """Return a plan in which everything of the user's runs under `environ`, and what is said."""
    made = plan(tmp_path)
    paths = replace(made.paths, guest=guest(tmp_path, COMPUTES), python=sys.executable)
    made = replace(made, paths=paths, inherited=tuple(environ.items()), environment=())
    return made, watch.verify(made, H100.machine)


def test_what_pytorch_did_is_said(simulated, tmp_path: Path) -> None:
    _, line = looked(tmp_path, simulated("h100-8x"))
    assert line == "launcher: PyTorch 2.6.0: CUDA works on 8 of 8 devices"


def test_what_only_the_deep_look_finds_is_said_with_its_fix(simulated, tmp_path: Path) -> None:
    environ = simulated("h100-8x", {"faults": {"cuInit": "return 802"}})
    made, line = looked(tmp_path, environ)
    assert "802" in line
    assert "fabric" in line
    assert "; fix: " in line
    # What the banner has said already is not said again.
    note = Finding("driver.fabric_manager", "what", "means", "fix")
    known = watch.verify(replace(made, notes=(note,)), H100.machine)
    assert "fix: " not in known


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
