"""Variables that hide devices, and what working CUDA needs beside itself."""

from __future__ import annotations

import os
import sys

from sim import description, driver
from testing import forbidden
from testing.doctor.scenario import Scenario
from testing.doctor.tree import written
from tests.doctor.causes.rdma import RDMA

FIRST, SECOND = (
    gpu.get("uuid") for gpu in description.gpus(driver.find("rtx3090-2x-nvlink").read_text())
)
MIG = description.gpus(driver.find("a100-mig").read_text())[0].migs[0].get("uuid")
STALE = "GPU-00000000-1111-2222-3333-444444444444"
TWINS = {"gpu 0": {"uuid": "GPU-aaaa0000"}, "gpu 1": {"uuid": "GPU-aaaa1111"}}
MPS = {"CUDA_MPS_PIPE_DIRECTORY": "/tmp/nvidia-mps"}
NO_MIG_INSTANCE = {"gpu 1": {"name": "NVIDIA A100", "mig_mode": "enabled"}}


def masked(value: str, **others: str) -> dict[str, str]:
    return {"CUDA_VISIBLE_DEVICES": value, **others}


ENVIRONMENT = (
    Scenario(
        "mask-empty", "An empty CUDA_VISIBLE_DEVICES.", "environment.hides_all",
        environ=masked(""), seen=("100",), names=("CUDA_VISIBLE_DEVICES=0,1",),
    ),
    Scenario(
        "mask-minus-one", "CUDA_VISIBLE_DEVICES=-1.", "environment.hides_all",
        environ=masked("-1"), names=("CUDA_VISIBLE_DEVICES=0,1",),
    ),
    Scenario(
        "mask-word", "A word of another variable in it: all.", "environment.not_a_device",
        environ=masked("all"), seen=("all",), names=("CUDA_VISIBLE_DEVICES=0,1",),
    ),
    Scenario(
        "mask-of-the-host", "An index of the host's, in a container with two GPUs.",
        "environment.out_of_range",
        environ=masked("7"), seen=("7",), names=("CUDA_VISIBLE_DEVICES=0,1",),
    ),
    Scenario(
        "mask-duplicate", "The same GPU twice.", "environment.duplicate",
        environ=masked("1,1"), seen=("1,1",), names=("CUDA_VISIBLE_DEVICES=1",),
    ),
    Scenario(
        "mask-stale", "The UUID of a GPU of another machine.", "environment.stale_uuid",
        environ=masked(STALE), names=("CUDA_VISIBLE_DEVICES=0,1",),
    ),
    Scenario(
        "mask-ambiguous", "The beginning of two UUIDs.", "environment.ambiguous_uuid",
        changes=TWINS, environ=masked("GPU-aaaa"), names=("CUDA_VISIBLE_DEVICES=",),
    ),
    Scenario(
        "mask-malformed", "A UUID in lower case.", "environment.malformed_uuid",
        environ=masked(SECOND.lower()), names=("CUDA_VISIBLE_DEVICES=1",),
    ),
    Scenario(
        "mask-mig-gone", "A MIG instance that was destroyed.", "environment.mig_uuid_gone",
        machine="a100-mig", environ=masked("MIG-00000000-1111-2222-3333-444444444444"),
        names=(MIG,),
    ),
    Scenario(
        "mask-no-instance", "A GPU in MIG mode that has no instance.",
        "environment.no_instance",
        changes=NO_MIG_INSTANCE, environ=masked(SECOND), names=("CUDA_VISIBLE_DEVICES=",),
        warns=("hardware.some_mig_empty",),
    ),
    Scenario(
        "mps-left-over", "A variable of an MPS daemon that is not here.", "environment.mps",
        changes={"faults": {"cuInit": "return 805, with CUDA_MPS_PIPE_DIRECTORY"}}, environ=MPS,
        seen=("805",), names=("unset CUDA_MPS_PIPE_DIRECTORY",),
    ),
    Scenario(
        "mps-renumbered", "The MPS server has a mask as well.", "environment.mps_renumbered",
        changes={"faults": {"cuInit": "return 100, with CUDA_VISIBLE_DEVICES"}},
        environ={**MPS, **masked("1")}, names=(FIRST,),
    ),
    Scenario(
        "mask-other", "A mask that hides all, by no rule that is known.", "environment.masks",
        changes={"faults": {"cuInit": "return 100, with CUDA_VISIBLE_DEVICES"}},
        environ=masked("1"), names=("unset CUDA_VISIBLE_DEVICES",),
    ),
    Scenario(
        "mask-truncated", "An index that is not here ends the list.",
        environ=masked("0,7,1"), warns=("environment.truncated",),
        names=("CUDA_VISIBLE_DEVICES=0,1",),
    ),
    Scenario(
        "mask-mixed", "UUIDs and indices in one list.",
        environ=masked(f"{FIRST},1"), warns=("environment.mixed_kinds",),
        names=("CUDA_VISIBLE_DEVICES=0,1",),
    ),
    Scenario(
        "mask-spaces", "A space before a UUID.",
        environ=masked(f"{FIRST}, {SECOND}"), warns=("environment.space_in_uuids",),
        names=("CUDA_VISIBLE_DEVICES=0,1",),
    ),
    Scenario(
        "mask-range", "A range, which CUDA reads as its first number.",
        environ=masked("0-1"), warns=("environment.read_otherwise",),
        names=("CUDA_VISIBLE_DEVICES=0,1",),
    ),
    Scenario(
        "device-order", "GPUs of two kinds, numbered by speed.",
        changes={"gpu 1": {"name": "NVIDIA GeForce RTX 3060"}},
        environ={"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}, warns=("environment.device_order",),
        names=("CUDA_DEVICE_ORDER=PCI_BUS_ID",),
    ),
)  # fmt: skip

SMALL_SHM = ("unshare", "--mount", "sh", "-c",
             'mount -t tmpfs -o size=64m tmpfs "$0/dev/shm" && exec "$@"', "ROOT")  # fmt: skip
BUSY = "CUDA error: CUDA-capable device(s) is/are busy or unavailable"
MANY_FILES = ("prlimit", "--nofile=1073741816")  # not where fs.nr_open is less, as by default
CGROUP = written("proc/self/cgroup", "0::/\n")
ROUTES = (
    "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
    "docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
    "ens5\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
)

RESOURCES = (
    Scenario(
        "compute-prohibited", "Every GPU forbids computing.", "resources.compute_prohibited",
        changes={"gpu *": {"compute_mode": "prohibited"}},
        torch={"kernel": {"0": BUSY, "1": BUSY}}, names=("-c DEFAULT",),
    ),
    Scenario(
        "some-prohibited", "One GPU forbids computing, and the mask leaves it out.",
        changes={"gpu 1": {"compute_mode": "prohibited"}}, environ=masked("0"),
        warns=("resources.some_prohibited",), names=("nvidia-smi -i 1 -c DEFAULT",),
    ),
    Scenario(
        "exclusive-in-use", "A process has a GPU for itself, as a start sees it.", at_start=True,
        changes={"gpu 1": {"compute_mode": "exclusive-process", "process": "pid 4242"}},
        warns=("resources.exclusive_in_use",), names=("nvidia-smi -i 1 -c DEFAULT",),
    ),
    Scenario(
        "memory-full", "Others hold the memory of a GPU.",
        changes={"gpu 1": {"memory_used": "24000 MiB", "process": "pid 4242"}},
        warns=("resources.memory_full",), names=("nvidia-smi",),
    ),
    Scenario(
        "instance-full", "Others hold the memory of a MIG instance.", machine="a100-mig",
        changes={"gpu 0 mig 1": {"memory_used": "19500 MiB", "process": "pid 4242"}},
        warns=("resources.memory_full",), seen=("MIG 1 of GPU 0",), names=("nvidia-smi",),
    ),
    Scenario(
        "vgpu-unlicensed", "A vGPU that has no licence yet, and works.", machine="a100-vgpu",
        warns=("resources.not_licensed",), seen=("GRID A100D-20C",), names=("nvidia-gridd",),
    ),
    Scenario(
        "too-hot", "A GPU is too hot.", changes={"gpu 1": {"clocks_event_reasons": "0x40"}},
        warns=("resources.thermal_slowdown",), names=("TEMPERATURE",),
    ),
    Scenario(
        "power-brake", "The power supply slows a GPU down.",
        changes={"gpu 1": {"clocks_event_reasons": "0x80"}},
        warns=("resources.power_brake",), names=("POWER",),
    ),
    Scenario(
        "hardware-slowdown", "A GPU slows itself down.",
        changes={"gpu 1": {"clocks_event_reasons": "0x8"}},
        warns=("resources.hardware_slowdown",), names=("PERFORMANCE",),
    ),
    Scenario(
        "small-shm", "/dev/shm of 64 MiB, as Docker makes it.", wrapper=SMALL_SHM,
        warns=("resources.shm",), names=("--shm-size",),
    ),
    *RDMA,
    Scenario(
        "few-processes", "The container may have 256 processes and threads.",
        tree=(CGROUP, written("sys/fs/cgroup/pids.max", "256\n")),
        warns=("resources.threads",), names=("--pids-limit",),
    ),
    Scenario(
        "many-files", "A process may have a thousand million files open.", wrapper=MANY_FILES,
        warns=("resources.files",), names=("--ulimit nofile=65536",),
    ),
    Scenario(
        "faccessat2-forbidden", "An engine whose seccomp filter is older than faccessat2.",
        wrapper=(sys.executable, forbidden.__file__, "faccessat2,openat2"),
        warns=("resources.system_calls",), seen=("openat2, faccessat2",), names=("20.10.10",),
    ),
    Scenario(
        "own-name-is-loopback", "With the host's network, the host's name is 127.0.1.1.",
        tree=(
            written("etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {os.uname().nodename}\n"),
            written(".dockerenv", ""),
            written("proc/net/route", ROUTES),
        ),
        warns=("resources.host_name",), names=("GLOO_SOCKET_IFNAME=ens5", "--add-host"),
    ),
    Scenario(
        "few-cpus", "One CPU for two GPUs.",
        tree=(CGROUP, written("sys/fs/cgroup/cpu.max", "100000 100000\n")),
        warns=("resources.cpus",), names=("--cpus=8",),
    ),
)  # fmt: skip
