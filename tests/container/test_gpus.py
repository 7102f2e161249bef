"""What a box says and plans of GPUs: on `docker run --gpus …`, with a simulated NVIDIA driver."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from testing.container import doors, kernel
from testing.container.banner import unwrapped
from testing.container.box import PYTORCH_CHECKED, SSH_ALONE, Box, Boxes
from testing.container.engine import poll
from testing.container.gpus import ALL, gpus, machine, uuids


@dataclass(frozen=True)
class Case:
    """A way to start a box, what CUDA sees then, and what the log says."""

    options: tuple[str, ...]
    visible: str | None  # CUDA_VISIBLE_DEVICES; None: not set
    says: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    deep: str = ""  # how the line after the banner begins, where that line is waited for


# A healthy one of each kind.  The simulated driver computes nothing, so PyTorch never works.
CASES: dict[str, Case] = {
    "some": Case(
        ("--gpus", '"device=1,2"'),
        "0,1",  # NVIDIA's runtime numbers what it passes in from 0
        tuple(gpu.get("pci_bus_id") for gpu in gpus()[1:3]),
        deep="PyTorch 2.6.0+cu124: CUDA works on 0 of 2 devices: ",
    ),
    "by-uuid": Case(
        ("--gpus", f"device={uuids()[5]}"),
        "0",
        (gpus()[5].get("pci_bus_id"),),
    ),
    "chosen": Case(
        ALL,
        "3,1",
        ("CUDA_VISIBLE_DEVICES=3,1 (as LAUNCHER_GPUS asks)",),
        {"LAUNCHER_GPUS": "3,1"},
    ),
    "chosen-by-uuid": Case(
        ALL,
        f"{uuids()[6]},{uuids()[2]}",
        ("(as LAUNCHER_GPUS asks; UUIDs, as LAUNCHER_GPU_IDS asks)",),
        {"LAUNCHER_GPUS": f"{uuids()[6]},{uuids()[2][:12]}", "LAUNCHER_GPU_IDS": "uuid"},
    ),
    "the-user-s-own": Case(
        ALL,
        "5",
        ("CUDA_VISIBLE_DEVICES=5 (yours, kept)", "CUDA_DEVICE_ORDER=FASTEST_FIRST (yours, kept)"),
        {"CUDA_VISIBLE_DEVICES": "5", "CUDA_DEVICE_ORDER": "FASTEST_FIRST"},
    ),
    "one-lost": Case(
        ALL,
        ",".join(uuid for index, uuid in enumerate(uuids("h100-8x-one-lost")) if index != 3),
        (
            "3  LOST: ",
            "UUIDs, since a lost GPU shifts the indices",
            "! GPU 3: NVML 15: GPU is lost",
            "fix: on the host: sudo dmesg",
        ),
        machine("h100-8x-one-lost"),
        deep="PyTorch 2.6.0+cu124: CUDA works on 0 of 7 devices: ",
    ),
    "mig": Case(
        ALL,
        ",".join(mig.get("uuid") for mig in gpus("a100-mig")[0].migs),
        ("MIG×3", "UUIDs, since MIG instances have no index"),
        machine("a100-mig"),
        deep="PyTorch 2.6.0+cu124: CUDA works on 0 of 3 devices: ",
    ),
    "utility-only": Case(
        ALL,
        "0,1,2,3,4,5,6,7",
        ("driver 565.57.01",),
        {"NVIDIA_DRIVER_CAPABILITIES": "utility"},
        deep="CUDA does not work; libcuda.so.1: cannot open shared object file",
    ),
    "compute-only": Case(
        ALL,
        None,
        (
            "libnvidia-ml.so.1: cannot open shared object file",
            "-e NVIDIA_DRIVER_CAPABILITIES=compute,utility",
        ),
        {"NVIDIA_DRIVER_CAPABILITIES": "compute"},
    ),
    "none": Case(
        ("--gpus", "device=none"),
        None,
        ("! NVIDIA_VISIBLE_DEVICES=none: the driver without a device", "docker run --gpus all"),
    ),
    "void": Case(
        ("--gpus", "device=void"),
        None,
        ("NVIDIA_VISIBLE_DEVICES=void", "565.57.01", "docker run --gpus all"),
    ),
    "without": Case(
        (),
        None,
        ("! no NVIDIA GPU on the PCI bus and no NVIDIA driver", "GPUs      none; everything runs"),
        deep="PyTorch 2.6.0+cu124: no CUDA device, computes on the CPU",
    ),
    "mismatch": Case(
        ALL,
        None,
        (
            "! NVML 18: Driver/library version mismatch; kernel module 550.120",
            "fix: create the container anew",
        ),
        machine("mismatch"),
    ),
    "crash": Case(
        ALL,
        None,
        ("crashed: killed by SIGSEGV",),
        machine("crash-init"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_machine_starts(box: Boxes, name: str) -> None:
    """Whatever the GPUs are like: a banner that says so, and the right variables."""
    case = CASES[name]
    started = box(*SSH_ALONE, *case.options, *(PYTORCH_CHECKED if case.deep else ()), env=case.env)
    said = unwrapped(started.wait_for_banner())
    assert " Ready " in said
    for words in case.says:
        assert words in said
    env = doors.environment(started, doors.docker_exec_interactive)
    assert env.get("CUDA_VISIBLE_DEVICES") == case.visible
    if case.visible is None:
        assert "CUDA_DEVICE_ORDER" not in env
    if case.deep:
        verdict = started.wait_for_log(r"\nlauncher: ((?:PyTorch|CUDA) .*)", timeout=120)
        assert verdict[1].startswith(case.deep)


def test_a_notebook_sees_what_was_chosen(box: Boxes) -> None:
    """Through the plan to a kernel: the order counts too."""
    started = box(*ALL, env={"LAUNCHER_GPUS": "7,0"})
    printed = kernel.connect(started).run_cell(
        "import os\n"
        "import ctypes\n"
        "cuda = ctypes.CDLL('libcuda.so.1')\n"
        "count = ctypes.c_int()\n"
        "assert cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0\n"
        "bus = ctypes.create_string_buffer(20)\n"
        "for device in range(count.value):\n"
        "    assert cuda.cuDeviceGetPCIBusId(bus, 20, device) == 0\n"
        "    print(bus.value.decode())\n"
    )
    # CUDA writes a PCI domain with four digits, NVML with eight.
    assert printed.upper().split() == [gpus()[index].get("pci_bus_id")[4:] for index in (7, 0)]


def test_a_hung_driver_is_said_at_once(box: Boxes) -> None:
    """And the box works as soon as the wait is over."""
    hung = {**machine("hung-init"), "LAUNCHER_DETECT_TIMEOUT": "3"}
    started = box(*ALL, *PYTORCH_CHECKED, env=hung)
    first = started.wait_for_log("launcher: .*")
    assert first[0] == "launcher: still asking the NVIDIA driver …"
    said = unwrapped(started.wait_for_banner())
    assert " Ready " in said
    assert "no answer within 3 s" in said
    assert "fix: on the host: sudo dmesg | grep -i -e nvrm -e xid" in said
    assert kernel.connect(started).run_cell("print('works')") == "works\n"
    # PyTorch hangs on it too, for minutes, and meanwhile somebody must look after the services.
    stamp = _health_stamp(started)
    assert poll(lambda: _health_stamp(started) > stamp, timeout=20)


def _health_stamp(box: Box) -> float:
    return float(json.loads(box.exec("cat", "/run/launcher/health.json").stdout)["stamp"])


# --- a GPU is asked for --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "env", "says"),
    [
        pytest.param((), {}, "no NVIDIA GPU on the PCI bus and no NVIDIA driver", id="without"),
        pytest.param(ALL, machine("mismatch"), "Driver/library version mismatch", id="mismatch"),
        pytest.param(
            ALL,
            {**machine("hung-init"), "LAUNCHER_DETECT_TIMEOUT": "1"},
            "no answer within 1 s",
            id="hung",
        ),
        pytest.param(
            ALL,
            {"LAUNCHER_REQUIRE_GPU": "9"},
            "LAUNCHER_REQUIRE_GPU=9, but 8 GPUs are usable",
            id="9",
        ),
    ],
)
def test_required_gpu_that_is_not_there(
    box: Boxes, options: tuple[str, ...], env: dict[str, str], says: str
) -> None:
    done = box.run(options=options, env={"LAUNCHER_REQUIRE_GPU": "1", **env})
    said = done.stdout.decode()
    assert done.returncode == 69
    assert says in said
    assert "LAUNCHER_REQUIRE_GPU=" in said
    assert "fix: " in said or "the others are not here" in said
    assert "Server listening" not in said, "nothing is started first"


def test_required_gpus_that_are_there(box: Boxes) -> None:
    started = box(*SSH_ALONE, *ALL, env={"LAUNCHER_REQUIRE_GPU": "8"})
    assert " Ready " in started.wait_for_banner()


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ("0,9", "LAUNCHER_GPUS: 9 matches 0 GPUs; here are:"),
        ("1,1", "LAUNCHER_GPUS: 1 is named twice"),
        ("banana", "LAUNCHER_GPUS='banana': expected all, none, a number of GPUs"),
    ],
)
def test_gpus_that_cannot_be_had(box: Boxes, wanted: str, says: str) -> None:
    done = box.run(options=ALL, env={"LAUNCHER_GPUS": wanted})
    assert done.returncode == 78
    assert says in done.stdout.decode()


def test_tasks_of_one_user_on_one_node_share_nothing(box: Boxes, tmp_path: Path) -> None:
    """As `srun --ntasks-per-node` starts them: the node's network, one uid, one /tmp."""
    tmp_path.chmod(0o1777)
    node = ("--network", "host", "--user", "1234", "-v", f"{tmp_path}:/tmp", *ALL)

    def run(task: int) -> tuple[int, bytes, bytes]:
        env = {"SLURM_JOB_ID": "7", "SLURM_PROCID": str(task), "CUDA_VISIBLE_DEVICES": str(task)}
        done = box.run("printenv", "CUDA_VISIBLE_DEVICES", options=node, env=env)
        return done.returncode, done.stdout, done.stderr

    with ThreadPoolExecutor() as tasks:
        ended = list(tasks.map(run, range(3)))
    assert [each[:2] for each in ended] == [(0, b"%d\n" % task) for task in range(3)], ended
