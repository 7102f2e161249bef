"""Print what the GPUs do, one JSON line every two seconds, until standard input ends.

`python -I -S gpu_sampler.py` belongs to the page about the box and to its metrics.  A driver that
hangs or crashes takes this process, and nothing else.  What a device does not tell is null.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import select
import signal
import sys
import time
from typing import Any

sys.path.append(os.path.dirname(os.path.abspath(__file__)))  # -I leaves it out

from gpu_nvml import Failed, Lost, Nvml, Pci, Utilization

INTERVAL = 2.0  # seconds between two samples
RETRY = 10.0  # seconds until a driver that cannot be loaded is tried again
PROCESSES_EVERY = 3  # samples: a driver takes milliseconds to list them
_PR_SET_PDEATHSIG = 1  # prctl(2)
_FILES = 65536
_MOST_INSTANCES = 8  # of MIG, on one GPU

# What is asked once, and each time: name → function, what it wants besides.
_FIXED = {
    "minor": ("nvmlDeviceGetMinorNumber",),
    "clock_sm_max": ("nvmlDeviceGetMaxClockInfo", 1),  # MHz; NVML_CLOCK_SM
    "clock_memory_max": ("nvmlDeviceGetMaxClockInfo", 2),  # NVML_CLOCK_MEM
    "pcie_generation_max": ("nvmlDeviceGetMaxPcieLinkGeneration",),
    "pcie_width_max": ("nvmlDeviceGetMaxPcieLinkWidth",),
}
_NUMBERS = {
    "temperature": ("nvmlDeviceGetTemperature", 0),  # °C; NVML_TEMPERATURE_GPU
    "clock_sm": ("nvmlDeviceGetClockInfo", 1),
    "clock_memory": ("nvmlDeviceGetClockInfo", 2),
    "performance_state": ("nvmlDeviceGetPerformanceState",),
    "fan": ("nvmlDeviceGetFanSpeed",),  # percent
    "pcie_generation": ("nvmlDeviceGetCurrPcieLinkGeneration",),
    "pcie_width": ("nvmlDeviceGetCurrPcieLinkWidth",),
}
# NVML_FI_DEV_*: what is told as it is, and what grows: name → id, its unit in bytes.
_FIELDS = {"temperature_memory": 82, "energy": 83, "pcie_replays": 94}
_GROWING = {
    "pcie_sent": (197, 1),
    "pcie_received": (198, 1),
    "nvlink_sent": (138, 1024),
    "nvlink_received": (139, 1024),
}
_ERRORS = {  # nvmlMemoryErrorType_t, nvmlEccCounterType_t
    "ecc_corrected": (0, 0),
    "ecc_uncorrected": (1, 0),
}


class Gpu:
    """One GPU: what stays as it is, and the counters that the next sample is compared with."""

    def __init__(self, nvml: Nvml, index: int) -> None:
        """Open it.  Raises Failed."""
        self._nvml = nvml
        self._index = index
        self.device = nvml.device(index)
        pci = nvml.ask("nvmlDeviceGetPciInfo_v3", self.device, Pci())
        self._fixed = {
            "name": nvml.text("nvmlDeviceGetName", self.device),
            "uuid": nvml.text("nvmlDeviceGetUUID", self.device),
            "pci_bus_id": pci.bus_id.decode() if pci else None,
            **{name: nvml.number(ask[0], self.device, *ask[1:]) for name, ask in _FIXED.items()},
        }
        self._before: tuple[float, dict[str, int | None]] | None = None
        self._processes: list[dict[str, Any]] = []

    def sample(self, with_processes: bool) -> dict[str, Any]:
        """Return what it does now.  Raises Lost."""
        nvml, device = self._nvml, self.device
        used = nvml.ask("nvmlDeviceGetUtilizationRates", device, Utilization())
        memory = nvml.memory(device)
        if with_processes:
            self._processes = _known(nvml.processes(device))
        numbers = {name: nvml.number(ask[0], device, *ask[1:]) for name, ask in _NUMBERS.items()}
        return {
            "index": self._index,
            **self._fixed,
            "utilization": used.gpu if used else None,  # percent
            "memory_utilization": used.memory if used else None,
            **self._shares(),
            "memory_used": memory.used if memory else None,  # bytes
            "memory_free": memory.free if memory else None,
            "memory_reserved": memory.reserved if memory else None,
            "memory_total": memory.total if memory else None,
            **numbers,
            "power": _thousandth(nvml.number("nvmlDeviceGetPowerUsage", device)),  # W
            "power_limit": _thousandth(nvml.number("nvmlDeviceGetEnforcedPowerLimit", device)),
            "slowed_by": self._slowed_by(),
            **self._counters(),
            "instances": list(self._instances()),
            "processes": self._processes,
            "fault": None,
        }

    def _shares(self) -> dict[str, int | None]:
        """Return how busy encoder and decoder are, in percent."""
        found = {}
        for name in ("encoder", "decoder"):
            percent, period = ctypes.c_uint(), ctypes.c_uint()
            function = f"nvmlDeviceGet{name.title()}Utilization"
            told = self._nvml.ask(function, self.device, period, ctypes.byref(percent))
            found[name] = percent.value if told else None
        return found

    def _slowed_by(self) -> int | None:
        """Return NVML's bits of what keeps the clocks down (nvmlClocksEventReasons*)."""
        for word in ("Event", "Throttle"):  # its older name
            function = f"nvmlDeviceGetCurrentClocks{word}Reasons"
            reasons = self._nvml.ask(function, self.device, ctypes.c_ulonglong())
            if reasons is not None:
                return int(reasons.value)
        return None

    def _counters(self) -> dict[str, float | None]:
        """Return what is counted, and of what grows how much a second: bytes."""
        ids = [*_FIELDS.values(), *(id for id, _ in _GROWING.values())]
        values = dict(zip(ids, self._nvml.fields(self.device, ids), strict=True))
        found: dict[str, float | None] = {name: values[id] for name, id in _FIELDS.items()}
        now, before = time.monotonic(), self._before
        counts = {name: values[id] for name, (id, _) in _GROWING.items()}
        self._before = (now, counts)
        for name, (_, unit) in _GROWING.items():
            count, last = counts[name], before[1][name] if before else None
            grown = None if count is None or last is None or count < last else count - last
            found[name] = None if grown is None or not before else grown * unit / (now - before[0])
        for name, (kind, counter) in _ERRORS.items():
            count = self._nvml.ask(
                "nvmlDeviceGetTotalEccErrors", self.device, ctypes.c_ulonglong(), kind, counter
            )
            found[name] = None if count is None else int(count.value)
        return {**found, "energy": _thousandth(found["energy"])}  # J

    def _instances(self) -> Any:
        """Yield its MIG instances; activity is none of what NVML tells of them."""
        mode, pending = ctypes.c_uint(), ctypes.c_uint()
        told = self._nvml.ask("nvmlDeviceGetMigMode", self.device, pending, ctypes.byref(mode))
        for index in range(_MOST_INSTANCES if told and mode.value else 0):
            found = self._nvml.instance(self.device, index)
            if found is None:
                continue
            memory = self._nvml.memory(found)
            yield {
                "gpu_instance": self._nvml.number("nvmlDeviceGetGpuInstanceId", found),
                "compute_instance": self._nvml.number("nvmlDeviceGetComputeInstanceId", found),
                "name": self._nvml.text("nvmlDeviceGetName", found),
                "uuid": self._nvml.text("nvmlDeviceGetUUID", found),
                "memory_used": memory.used if memory else None,
                "memory_free": memory.free if memory else None,
                "memory_total": memory.total if memory else None,
                "processes": _known(self._nvml.processes(found)),
            }


class Machine:
    """All GPUs of it.  Raises Failed where the driver cannot be used."""

    def __init__(self) -> None:
        self._nvml = Nvml()
        self._version = self._nvml.driver_version()
        self._gpus: dict[int, Gpu] = {}
        self._samples = 0

    def sample(self) -> dict[str, Any]:
        with_processes = self._samples % PROCESSES_EVERY == 0
        self._samples += 1
        said = [self._one(index, with_processes) for index in range(self._nvml.count())]
        return {"driver_version": self._version, "gpus": said, "fault": None}

    def _one(self, index: int, with_processes: bool) -> dict[str, Any]:
        try:
            if index not in self._gpus:
                self._gpus[index] = Gpu(self._nvml, index)
            return self._gpus[index].sample(with_processes)
        except Failed as err:
            if isinstance(err, Lost):  # it may come back as another
                self._gpus.pop(index, None)
            return {"index": index, "fault": str(err)}


def _known(processes: list[Any]) -> list[dict[str, Any]]:
    """Return who holds memory; with pid and name those that are this user's, in this container.

    The driver mostly counts pids as the host does: one is ours where a process has it in one of
    its namespaces (proc(5), status: NSpid) and has a device of NVIDIA's open.
    """
    ours = dict(_users_of_gpus()) if processes else {}
    return [
        {
            "pid": ours.get(each.pid, (None, None))[0],
            "name": ours.get(each.pid, (None, None))[1],
            "memory": each.memory if each.memory < 1 << 63 else None,  # bytes
        }
        for each in processes
    ]


def _users_of_gpus() -> Any:
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            fds = os.scandir(f"/proc/{pid}/fd")
            if not any(os.readlink(fd.path).startswith(("/dev/nvidia", "/dev/dxg")) for fd in fds):
                continue
            with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as stream:
                status = stream.read()
        except OSError:  # somebody else's, or gone
            continue
        name = status.partition("\n")[0].partition(":")[2].strip()
        spaces = re.search(r"^NSpid:\s*(.+)$", status, re.MULTILINE)
        for seen in {pid, *(spaces[1].split() if spaces else ())}:
            yield int(seen), (int(pid), name)


def _thousandth(number: float | None) -> float | None:
    return None if number is None else number / 1000


def limit_files() -> None:
    """Let the driver close no thousand million files that might be open (process/fork)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft > _FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, hard))


def main() -> None:
    limit_files()
    # Whoever asked is gone: a driver that hangs is not waited for.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    machine = None
    while True:
        try:
            machine = machine or Machine()
            said = machine.sample()
        except Failed as err:
            machine, said = None, {"driver_version": None, "gpus": [], "fault": str(err)}
        print(json.dumps(said), flush=True)
        if select.select([sys.stdin], [], [], INTERVAL if machine else RETRY)[0]:
            return


if __name__ == "__main__":
    main()
