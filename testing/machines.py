"""Machines made of values, for the tests of everything after detect.

Each is what detect would have found there; `plan` and the banner are computed from it by the
code under test, never written here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from launcher.model.host import Account, Host
from launcher.model.machine import (
    CpuBudget,
    DriverFailure,
    Gpu,
    GpuReport,
    Hardware,
    Limits,
    LostGpu,
    Machine,
    MigDevice,
    PciDevice,
)
from launcher.model.plan import Plan, Secret, State
from launcher.model.watch import Probe
from launcher.plan.outset import Outset, set_out
from launcher.plan.plan import make_plan
from launcher.settings import load
from launcher.settings.table import Settings

GIB = 1 << 30
STARTED = 100.0  # CLOCK_MONOTONIC, seconds

ROOT = Account("root", 0, 0, "/root", "/bin/bash", (0,))
DEV = Account("dev", 1000, 1000, "/home/dev", "/bin/bash", (1000, 27))

# Made for these tests with `ssh-keygen -t ed25519`; their private halves are thrown away.
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIF7cMosylM1KchCTtxhDmChIEfgSRogins9YmBokF2AK"
LOGIN_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMD0QXduLz/35kyC9wea2nnVPHEM1mDN+V2CaaQxgIRg"

TOKEN = "t" * 43  # as long as one that the launcher makes
PASSWORD = "p" * 22
STATE = State(Secret(TOKEN), Secret(PASSWORD), HOST_KEY)

PROBES = (Probe("jupyter", True, "answers"), Probe("ssh", True, "answers"))
MODULES = ("nvidia_uvm", "nvidia_modeset", "nvidia")


def gpu(index: int, name: str = "NVIDIA H100 80GB HBM3", **changes: object) -> Gpu:
    """Return GPU `index`, whose UUID and PCI address follow from it."""
    found = Gpu(
        index=index,
        uuid=f"GPU-{index:08x}-1111-2222-3333-444444444444",
        name=name,
        pci_bus_id=f"00000000:{0x10 + index:02X}:00.0",
        memory_bytes=81559 << 20,
        compute_capability=(9, 0),
        mig_enabled=False,
    )
    return found._replace(**changes)  # type: ignore[arg-type]


def mig_gpu(index: int, instances: int) -> Gpu:
    name = "NVIDIA A100-SXM4-80GB"
    devices = tuple(
        MigDevice(
            uuid=f"MIG-{index:04x}{slot:04x}-aaaa-bbbb-cccc-dddddddddddd",
            name=f"{name} MIG 1g.10gb",
            memory_bytes=10 * GIB,
            gpu_instance=7 + slot,
            compute_instance=0,
        )
        for slot in range(instances)
    )
    return gpu(index, name, compute_capability=(8, 0), mig_enabled=True, mig_devices=devices)


def answering(*gpus: Gpu, lost: tuple[LostGpu, ...] = ()) -> GpuReport:
    """Return the report of a driver that works."""
    return GpuReport(gpus, lost, driver_version="550.54.15", cuda_version=(12, 4))


def cards(count: int) -> Hardware:
    """Return what shows of `count` GPUs that are passed into the container."""
    nodes = (
        *(f"/dev/nvidia{index}" for index in range(count)),
        "/dev/nvidiactl",
        "/dev/nvidia-uvm",
    )
    return Hardware(pci_cards("2330", count), False, "550.54.15", False, MODULES, nodes)


def pci_cards(device_id: str, count: int = 1) -> tuple[PciDevice, ...]:
    """Return GPUs as the PCI bus shows them, driven by NVIDIA's kernel module."""
    return tuple(PciDevice(f"0000:{i + 1:02x}:00.0", device_id, "nvidia") for i in range(count))


def machine(
    report: GpuReport, hardware: Hardware | None = None, shm: int = 8 * GIB, **host: object
) -> Machine:
    """Return a container of the project's image in Docker, but for what is given."""
    found = Host("docker", True, "3f2a1b", ROOT, DEV, False, True, "/usr/sbin/sshd")
    return Machine(
        report=report,
        hardware=hardware or cards(len(report.gpus) + len(report.lost)),
        limits=Limits(CpuBudget(128, 128, 16.0), 256 * GIB, shm, None, None),
        host=found._replace(**{"tensorboard": True, **host}),  # type: ignore[arg-type]
    )


def settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of a container started with `environ`."""
    image = {"PATH": "/opt/venv/bin:/usr/bin:/bin", "LAUNCHER_PYTHON": "/opt/venv/bin/python"}
    nowhere = {"LAUNCHER_KEYS_DIR": "/nonexistent", "NO_COLOR": "1"}
    return load.load_settings({**image, **nowhere, **(environ or {})})


def outset(machine: Machine, settings: Settings) -> Outset:
    """Return what a plan is made from, on this machine."""
    return set_out(machine, settings, "/opt/guest", STARTED)


@dataclass(frozen=True)
class Case:
    """A machine, and the environment that its container was started with."""

    machine: Machine
    environ: Mapping[str, str] = field(default_factory=dict)
    state: State | None = STATE

    def settings(self) -> Settings:
        return settings(self.environ)

    def plan(self) -> Plan:
        """Return the plan; every key that the settings name is taken for a good one."""
        settings = self.settings()
        state = self.state and self.state._replace(keys=settings.key_lines)
        return make_plan(outset(self.machine, settings), state)


NO_LIBRARY = DriverFailure(
    "library", "libnvidia-ml.so.1: cannot open shared object file: No such file or directory"
)
NOT_INJECTED = Hardware(pci_cards("2684"), False, "550.54.15", False, MODULES)
NO_CARD = Hardware()

LOST = LostGpu(3, "GPU is lost", 15)

# The shapes that the banner is read on, by name of its golden file.
CASES: dict[str, Case] = {
    "h100-8x": Case(machine(answering(*(gpu(index) for index in range(8))))),
    "rtx4090-1x": Case(
        machine(
            answering(
                gpu(0, "NVIDIA GeForce RTX 4090", memory_bytes=24564 << 20,
                    compute_capability=(8, 9), mig_enabled=None)
            ),
            shm=64 << 20,
        ),
        {"PUBLIC_KEY": f"{LOGIN_KEY} me@laptop"},
    ),
    "rtx3090-2x": Case(
        machine(
            answering(
                *(gpu(index, "NVIDIA GeForce RTX 3090", memory_bytes=24 * GIB,
                      compute_capability=(8, 6), mig_enabled=None) for index in range(2))
            ),
            platform="podman",
        ),
        {"CUDA_VISIBLE_DEVICES": "1", "JUPYTER_TOKEN": "my own/token?&", "SSH_PORT_HOST": "2200"},
    ),
    "a100-mig": Case(machine(answering(mig_gpu(0, 3)))),
    "one-lost": Case(machine(answering(*(gpu(index) for index in (0, 1, 2)), lost=(LOST,)))),
    "not-injected": Case(machine(GpuReport(failure=NO_LIBRARY), NOT_INJECTED)),
    "hung": Case(
        machine(
            GpuReport(failure=DriverFailure("hung", "no answer within 30 s")), cards(1),
            me=DEV, account=None,
        ),
        {"SSH_PORT": "2022"},
    ),
    "no-gpu-runpod": Case(
        machine(
            GpuReport(failure=NO_LIBRARY), NO_CARD, platform="runpod", workspace_writable=False
        ),
        {
            "RUNPOD_POD_ID": "abc123",
            "RUNPOD_PUBLIC_IP": "203.0.113.7",
            "RUNPOD_TCP_PORT_22": "14022",
            "RUNPOD_TCP_PORT_8888": "14088",
            "PUBLIC_KEY": "null",
        },
    ),
}  # fmt: skip
