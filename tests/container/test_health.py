"""Health of a running box: a GPU that is lost, a server that hangs, and what says so."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from sim import description
from testing.container.box import BANNER, SSH_ALONE, Box, Boxes
from testing.container.engine import poll
from testing.container.gpus import ALL, machine

CHECKED_OFTEN = ("--health-interval", "1s", "--health-retries", "1")
SOON = {"LAUNCHER_DETECT_TIMEOUT": "10"}  # until a driver that does not answer is one that hangs
LOST = "launcher: GPUs are lost: "
BACK = "launcher: the GPUs are back: "
MINUTE = 60.0  # seconds, within which a loss is said
DESCRIPTION = "/usr/lib/x86_64-linux-gnu/nvsim.machine"

Changes = Mapping[str, Mapping[str, str | None]]


@pytest.fixture(scope="module")
def watched(shared_box: Boxes) -> Box:
    """Return a box with eight GPUs that are looked at every five seconds."""
    started = shared_box(*ALL, *CHECKED_OFTEN, env={"LAUNCHER_GPU_WATCH": "5", **SOON})
    started.wait_for_banner()
    _await_health(started, "healthy")
    return started


# --- GPUs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        pytest.param(
            {"gpu 3": {"state": "lost"}}, "GPU 3: NVML 15: GPU is lost", id="fallen-off-the-bus"
        ),
        pytest.param(
            {"faults": {"nvmlInit": "return 999"}}, "NVML 999: Unknown Error", id="unknown-error"
        ),
        pytest.param(
            {"faults": {"nvmlInit": "hang"}}, "does not answer: no answer within 10 s", id="hung"
        ),
    ],
)
def test_a_loss_and_its_end_are_one_line_each(watched: Box, changes: Changes, what: str) -> None:
    machine_of_the_start = watched.exec("cat", DESCRIPTION).stdout
    before = _lines(watched)
    _become(watched, description.edit(machine_of_the_start, changes))
    (line,) = _await_news(watched, before)
    assert line.startswith(LOST)
    assert what in line
    assert "; fix: " in line
    _await_health(watched, "unhealthy")
    assert what in _last_health_output(watched)
    assert "fix: " in _last_health_output(watched)
    _become(watched, machine_of_the_start)
    _, back = _await_news(watched, before, count=2)
    assert back.startswith(f"{BACK}8 × NVIDIA H100 80GB HBM3, driver 565.57.01")
    _await_health(watched, "healthy")


def test_a_node_that_the_device_cgroup_refuses(watched: Box) -> None:
    """As after the host's `systemctl daemon-reload`; and a watch that dies meanwhile knows it."""
    before = _lines(watched)
    refused = "mknod /dev/refused c 195 255 && mv /dev/nvidiactl /dev/kept"
    watched.exec("sh", "-c", f"{refused} && mv /dev/refused /dev/nvidiactl")
    (line,) = _await_news(watched, before)
    assert line.startswith(f"{LOST}the GPUs worked when this container started; now ")
    assert "/dev/nvidiactl: EPERM" in line
    assert "fix: on the host: docker restart" in line
    assert "create-dev-char-symlinks" in line
    _await_health(watched, "unhealthy")

    old = _watch_pid(watched)
    watched.exec("kill", "-KILL", str(old))
    assert poll(lambda: _watch_pid(watched) != old, timeout=20)
    _await_health(watched, "unhealthy")
    watched.exec("mv", "/dev/kept", "/dev/nvidiactl")
    assert [line.partition(": ")[2][:4] for line in _await_news(watched, before, 2)] == [
        "GPUs",
        "the ",
    ]
    _await_health(watched, "healthy")
    assert len(BANNER.findall(watched.logs())) == 1


@pytest.mark.long
def test_mig_that_is_cut_otherwise_is_said_within_a_minute(box: Boxes) -> None:
    """With the default settings."""
    started = box(*SSH_ALONE, *ALL, *CHECKED_OFTEN, env=machine("a100-mig"))
    started.wait_for_banner()
    _await_health(started, "healthy")
    before = _lines(started)
    now = started.exec("cat", DESCRIPTION).stdout
    recut = {"gpu 0 mig 1": {"uuid": "MIG-11111111-2222-3333-4444-555555555555"}}
    _become(started, description.edit(now, recut))
    (line,) = _await_news(started, before)
    assert "MIG of GPU 0 was reconfigured: 1 of 3 instances are gone" in line
    _await_health(started, "unhealthy")


def test_an_xid_is_said_and_counted_and_unhealthy_only_where_a_reset_is_needed(
    watched: Box,
) -> None:
    _await_health(watched, "healthy")
    said = _await_xid(watched, "xid = 31, gpu 1")
    assert said.startswith("launcher: GPU 1: Xid 31: a program used an address that it does not")
    assert "(the program's fault)" in said
    assert watched.exec("launcher", "healthcheck").returncode == 0
    said = _await_xid(watched, "xid = 79, gpu 3")
    assert said.endswith(
        "fix: on the host: sudo reboot; if it comes back: power, heat, riser, slot"
    )
    _await_health(watched, "unhealthy")
    assert _last_health_output(watched).startswith("gpus: GPU 3: Xid 79: it fell off the PCI bus")
    counted = json.loads(watched.exec("launcher", "status", "--json", check=False).stdout)["xids"]
    assert set(counted) == {"1", "3"}
    assert counted["1"]["31"] >= 1
    shown = " ".join(watched.exec("launcher", "status", check=False).stdout.split())
    assert f"GPU 1: Xid 31 ×{counted['1']['31']}; GPU 3: Xid 79 ×" in shown

    machine = watched.exec("cat", DESCRIPTION).stdout
    well = description.edit(machine, {"gpu *": {"recovery_action": "none"}})
    _become(watched, well)
    line = "\nlauncher: GPU 3 needs no reset any more\n"
    assert poll(lambda: line in watched.logs(), timeout=MINUTE), watched.logs()
    _await_health(watched, "healthy")


def _await_xid(box: Box, event: str) -> str:
    """Let it happen, until it is said: before somebody listens nobody hears it."""
    code, gpu = event.removeprefix("xid = ").split(", gpu ")
    start = f"launcher: GPU {gpu}: Xid {code}: "

    def said() -> str:
        box.exec("sh", "-c", f"cat >> {DESCRIPTION}", stdin=f"\n[events]\n{event}\n")
        poll(lambda: start in box.logs(), timeout=5)
        return next((line for line in box.logs().splitlines() if line.startswith(start)), "")

    assert poll(lambda: bool(said()), timeout=MINUTE), box.logs()
    return said()


# --- services -----------------------------------------------------------------------------------


def test_a_server_that_hangs_is_unhealthy_until_it_goes_on(watched: Box) -> None:
    jupyter = watched.exec("pgrep", "-f", "guest/jupyter.py").stdout.split()[0]
    watched.exec("kill", "-STOP", jupyter)
    _await_health(watched, "unhealthy")
    assert _last_health_output(watched) == (
        "jupyter: no answer on port 8888: timed out; fix: launcher restart jupyter"
    )
    watched.exec("kill", "-CONT", jupyter)
    _await_health(watched, "healthy")


@pytest.mark.parametrize("user", ["root", "dev"])
def test_status_is_for_everybody(watched: Box, user: str) -> None:
    _await_health(watched, "healthy")
    shown = watched.exec("launcher", "status", user=user).stdout
    assert shown.startswith("healthy, up ")
    assert all(len(line) <= 80 for line in shown.splitlines())
    told = json.loads(watched.exec("launcher", "status", "--json", user=user).stdout)
    assert told["state"] == "healthy"
    assert {name for name, seen in told["services"].items() if seen["ready"]} >= {
        "jupyter",
        "ssh",
        "gpus",
    }


# --- looking at a box ---------------------------------------------------------------------------


def _become(box: Box, text: str) -> None:
    """Let the driver answer for another machine: it reads this file at each nvmlInit."""
    box.exec("sh", "-c", f"cat > {DESCRIPTION}", stdin=text)


def _lines(box: Box) -> list[str]:
    return [line for line in box.logs().splitlines() if line.startswith((LOST, BACK))]


def _await_news(box: Box, before: list[str], count: int = 1) -> list[str]:
    """Return the lines about GPUs since `before`, once there are `count`."""
    assert poll(lambda: len(_lines(box)) >= len(before) + count, timeout=MINUTE), box.logs()
    return _lines(box)[len(before) :]


def _await_health(box: Box, state: str) -> None:
    def reached() -> bool:
        return box.health() == state

    assert poll(reached, timeout=40), box.state()["Health"]


def _last_health_output(box: Box) -> str:
    return str(box.state()["Health"]["Log"][-1]["Output"]).strip()


def _watch_pid(box: Box) -> int:
    return int(json.loads(box.exec("cat", "/run/launcher/health.json").stdout)["pid"])
