"""`launcher doctor` in a real box: what broke, in one id, and what to type."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sim import description, driver, host_files
from testing.container.banner import unwrapped
from testing.container.box import PYTORCH_CHECKED, SSH_ALONE, Box, Boxes
from testing.container.gpus import ALL, machine

ONE = ("--gpus", '"device=0"')
# The simulated driver computes nothing, so what PyTorch itself does is told apart from the rest.
BELOW_PYTORCH = ("hardware", "driver", "runtime", "libraries", "cuda")
AROUND_PYTORCH = (*BELOW_PYTORCH, "environment", "resources")
NUMBER = {name: number for number, name in enumerate(AROUND_PYTORCH[:5], start=1)} | {
    "pytorch": 6, "environment": 7,
}  # fmt: skip


def diagnosis(box: Box, *arguments: str) -> dict[str, Any]:
    """Return what `launcher doctor --json` prints; its exit status must be what it says."""
    done = box.exec("launcher", "doctor", "--json", *arguments, check=False)
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == found["exit_status"], done.stderr
    return found


@pytest.fixture(scope="module")
def healthy(shared_box: Boxes) -> Box:
    started = shared_box(*ALL, *PYTORCH_CHECKED, "--shm-size", "2g")
    started.wait_for_log(r"launcher: PyTorch .*\n", timeout=120)
    return started


def test_a_healthy_driver_has_no_fault(healthy: Box) -> None:
    found = diagnosis(healthy, *AROUND_PYTORCH)
    assert found["healthy"], found["failure"]
    assert found["warnings"] == []
    assert {layer["status"] for layer in found["layers"] if layer["name"] in BELOW_PYTORCH} == {
        "ok"
    }
    (trial,) = found["evidence"]["trials"]
    assert len(trial["devices"]) == 8


def test_what_pytorch_says_of_a_driver_that_cannot_compute_is_kept(healthy: Box) -> None:
    found = diagnosis(healthy)
    assert found["exit_status"] == 16
    assert found["failure"]["id"] == "pytorch.self_test"
    assert "103" in found["failure"]["what"]


def test_the_text_fits_a_terminal(healthy: Box) -> None:
    text = healthy.exec("launcher", "doctor", check=False).stdout
    assert max(map(len, text.splitlines())) <= 80
    assert "8 × NVIDIA H100" in text
    assert "565.57.01, CUDA up to 12.7" in text


def test_the_workspace_user_may_ask_too(healthy: Box) -> None:
    done = healthy.exec("launcher", "doctor", "--json", *BELOW_PYTORCH, user="dev", check=False)
    assert json.loads(done.stdout)["healthy"], done.stderr


def test_a_report_to_attach(healthy: Box) -> None:
    healthy.exec("launcher", "doctor", "--report", "/tmp/report.json", check=False)
    text = healthy.exec("cat", "/tmp/report.json").stdout
    assert json.loads(text)["failure"]["id"] == "pytorch.self_test"
    for gpu in description.gpus(driver.find("h100-8x").read_text()):
        assert gpu.get("uuid") not in text
    assert healthy.exec("hostname").stdout.strip() not in text
    again = healthy.exec("launcher", "doctor", "--report", "/tmp/report.json", check=False)
    assert again.returncode == 78
    assert "exists already" in again.stderr


# --- what breaks at `docker run` ---------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """A way to start a box in which something is broken, and what must be said of it."""

    id: str
    options: tuple[str, ...]
    fix: str
    env: dict[str, str] = field(default_factory=dict)


FAULTS = {
    "void": Fault("runtime.void", ("--gpus", "device=void"), "--gpus all"),
    "none": Fault("runtime.none", ("--gpus", "device=none"), "--gpus all"),
    "utility-only": Fault(
        "runtime.no_compute",
        ALL,
        "NVIDIA_DRIVER_CAPABILITIES=compute,utility",
        {"NVIDIA_DRIVER_CAPABILITIES": "utility"},
    ),
    "masked": Fault(
        "environment.out_of_range", ONE, "CUDA_VISIBLE_DEVICES", {"CUDA_VISIBLE_DEVICES": "7"}
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_one_cause_is_one_failure(box: Boxes, name: str) -> None:
    fault = FAULTS[name]
    started = box(*SSH_ALONE, *fault.options, env=fault.env)
    banner = started.wait_for_banner()
    found = diagnosis(started, *AROUND_PYTORCH)
    assert found["failure"]["id"] == fault.id
    assert found["exit_status"] == 10 + NUMBER[fault.id.partition(".")[0]]
    assert fault.fix in found["failure"]["fix"]
    if name != "utility-only":  # without a trial of CUDA, NVML's GPUs are all that a start knows
        what = found["failure"]["what"].partition("; CUDA ")[0]  # which a start does not try
        assert what in unwrapped(banner)


def test_a_gpu_that_the_container_was_not_given(box: Boxes, tmp_path: Path) -> None:
    """The bus shows what the machine has, whatever the container was started with."""
    host_files.write_pci(tmp_path, driver.find("rtx4090-1x").read_text())
    started = box(*SSH_ALONE, "-v", f"{tmp_path}:/sys/bus/pci/devices:ro")
    banner = started.wait_for_banner()
    found = diagnosis(started)
    assert found["failure"]["id"] == "runtime.not_injected"
    assert "RTX 4090" in found["failure"]["what"]
    assert "docker run --gpus all" in found["failure"]["fix"]
    assert "RTX 4090" in banner


@pytest.mark.long
def test_a_machine_without_a_gpu(box: Boxes) -> None:
    started = box(*SSH_ALONE)
    started.wait_for_log("launcher: no usable GPU")
    assert diagnosis(started)["failure"]["id"] == "hardware.none"
    # PyTorch's processes talk to each other all the same, as the workspace user.
    found = diagnosis(started, "collective")
    assert found["exit_status"] == 0, found["failure"]
    last = found["layers"][-1]
    assert (last["name"], last["status"]) == ("collective", "ok"), last
    assert "the mechanics alone: there is no GPU" in last["text"]
    (trial,) = found["evidence"]["collective"]["trials"]
    assert trial["all_reduce"] > 0
    assert len(trial["pairs"]) == 1


def test_a_second_libcuda_in_the_image(box: Boxes, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    built = driver.build(driver.CACHE)
    shutil.copy(built / "libcuda.so.1", other / "libcuda.so.570.10.01")
    (other / "libcuda.so.1").symlink_to("libcuda.so.570.10.01")
    driver.vary("h100-8x", {"faults": {"cuInit": "return 803"}}, other / "nvsim.machine")
    volume = ("-v", f"{other}:/opt/other:ro")
    started = box(
        *SSH_ALONE, *ALL, *PYTORCH_CHECKED, *volume, env={"LD_LIBRARY_PATH": "/opt/other"}
    )
    line = started.wait_for_log(r"launcher: (CUDA|PyTorch) .*\n", timeout=120)[0]
    found = diagnosis(started, *AROUND_PYTORCH)
    assert found["exit_status"] == 14
    assert found["failure"]["id"].startswith("libraries.")
    assert "/opt/other" in found["failure"]["what"]
    assert found["failure"]["fix"] in line


# --- what breaks while the box runs ------------------------------------------------------------


def test_device_nodes_that_turn_eperm(box: Boxes) -> None:
    """What a reload of systemd on the host does: the device cgroup lets nobody open them."""
    started = box(*SSH_ALONE, *ALL)
    started.wait_for_banner()
    # The container's device cgroup has no rule for NVIDIA's major number.
    started.exec("sh", "-c", "rm /dev/nvidiactl && mknod -m 666 /dev/nvidiactl c 195 255")
    _change(started, {"faults": {"nvmlInit": "return 999", "cuInit": "return 999"}})
    found = diagnosis(started)
    assert found["failure"]["id"] == "runtime.cgroup_lost"
    assert "EPERM" in found["failure"]["what"]
    assert "nvidia-ctk system create-dev-char-symlinks" in found["failure"]["fix"]


def test_a_driver_that_ended_after_the_start(box: Boxes) -> None:
    """It asks anew: what was true at the start may not be now."""
    started = box(*SSH_ALONE, *ALL)
    started.wait_for_banner()
    _change(started, {"faults": {"nvmlInit": "return 9"}})
    found = diagnosis(started)
    assert found["failure"]["id"] == "driver.nvml"
    assert found["failure"]["what"].startswith("NVML 9: ")


def _change(box: Box, changes: dict[str, dict[str, str]]) -> None:
    """Make the simulated driver of a running box another one."""
    text = description.edit(driver.find("h100-8x").read_text(), changes)
    path = box.exec("sh", "-c", "ls /usr/lib/*/nvsim.machine").stdout.strip()
    box.exec("sh", "-c", f"cat > {path}", stdin=text)


# --- GPUs that are required --------------------------------------------------------------------


@pytest.fixture(scope="module")
def not_ready(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A machine on which NVML is well, and cuInit is not: its fabric manager does not run."""
    path = tmp_path_factory.mktemp("machines") / "not-ready.machine"
    return machine(str(driver.vary("h100-8x", {"faults": {"cuInit": "return 802"}}, path)))


@pytest.mark.parametrize("command", [(), ("true",)], ids=["services", "command"])
def test_required_gpus_must_work_in_cuda(
    box: Boxes, not_ready: dict[str, str], command: tuple[str, ...]
) -> None:
    done = box.run(*command, options=ALL, env={**not_ready, "LAUNCHER_REQUIRE_GPU": "1"})
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 69, said
    assert "802" in said
    assert "fix: " in said
    assert "nvidia-fabricmanager" in said


def test_required_gpus_that_work(box: Boxes) -> None:
    done = box.run("true", options=ALL, env={"LAUNCHER_REQUIRE_GPU": "8"})
    assert done.returncode == 0, done.stderr
    done = box.run("true", options=ONE, env={"LAUNCHER_REQUIRE_GPU": "2"})
    assert done.returncode == 69


# --- commands ----------------------------------------------------------------------------------


def test_a_command_is_told_what_is_wrong(box: Boxes, tmp_path: Path) -> None:
    host_files.write_pci(tmp_path, driver.find("rtx4090-1x").read_text())
    done = box.run("echo", "on", options=("-v", f"{tmp_path}:/sys/bus/pci/devices:ro"))
    assert done.stdout == b"on\n"
    assert "fix: docker run --gpus all" in done.stderr.decode()


def test_a_command_where_nothing_is_wrong_is_told_one_line(box: Boxes) -> None:
    done = box.run("echo", "on", options=ALL)
    assert done.stdout == b"on\n"
    assert len(done.stderr.splitlines()) == 1
