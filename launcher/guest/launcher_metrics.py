"""The box and its GPUs as Prometheus metrics; a row each in two tables.

GPUs have dcgm-exporter's names, units and labels, so that its dashboards work unchanged
(etc/default-counters.csv there); what a device does not tell is left out.  `python
launcher_metrics.py` prints what it is given as JSON on standard input.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

try:
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
    from prometheus_client.core import Metric
except ImportError:
    if __name__ == "__main__":
        sys.exit("launcher metrics: this Python has no prometheus_client: pip install it")
    raise

__all__ = ["CONTENT_TYPE_LATEST", "exposition"]

Facts = Mapping[str, Any]
Sample = tuple[dict[str, str], float]  # labels, value
_MIB = 2.0**20


class Row(NamedTuple):
    """A metric of a GPU: from which key of a sample, and times what."""

    name: str
    kind: str
    help: str
    key: str
    factor: float = 1.0


# A counter whose name does not end in _total cannot be printed by prometheus_client as one.
_COUNTER = "unknown"
# fmt: off
_OF_GPUS = (
    Row("SM_CLOCK", "gauge", "SM clock (MHz).", "clock_sm"),
    Row("MEM_CLOCK", "gauge", "Memory clock (MHz).", "clock_memory"),
    Row("GPU_TEMP", "gauge", "Temperature (C).", "temperature"),
    Row("MEMORY_TEMP", "gauge", "Temperature of the memory (C).", "temperature_memory"),
    Row("POWER_USAGE", "gauge", "Power draw (W).", "power"),
    Row("ENFORCED_POWER_LIMIT", "gauge", "Power limit in force (W).", "power_limit"),
    Row("TOTAL_ENERGY_CONSUMPTION", _COUNTER, "Energy since the driver was loaded (mJ).",
        "energy", 1000),
    Row("PCIE_REPLAY_COUNTER", _COUNTER, "PCIe retries.", "pcie_replays"),
    Row("GPU_UTIL", "gauge", "Time in which a kernel ran (%).", "utilization"),
    Row("MEM_COPY_UTIL", "gauge", "Time in which memory was read or written (%).",
        "memory_utilization"),
    Row("ENC_UTIL", "gauge", "Use of the encoder (%).", "encoder"),
    Row("DEC_UTIL", "gauge", "Use of the decoder (%).", "decoder"),
    Row("FAN_SPEED", "gauge", "Fan (%).", "fan"),
    Row("PSTATE", "gauge", "Performance state (0: highest).", "performance_state"),
    Row("CLOCKS_EVENT_REASONS", "gauge", "Bits of what keeps the clocks down.", "slowed_by"),
    Row("XID_ERRORS", "gauge", "The last Xid since the box began; 0: none.", "xid"),
    Row("PCIE_LINK_GEN", "gauge", "PCIe generation in use.", "pcie_generation"),
    Row("PCIE_LINK_WIDTH", "gauge", "PCIe lanes in use.", "pcie_width"),
    Row("ECC_SBE_VOL_TOTAL", _COUNTER, "Corrected ECC errors since the driver was loaded.",
        "ecc_corrected"),
    Row("ECC_DBE_VOL_TOTAL", _COUNTER, "Uncorrected ECC errors since the driver was loaded.",
        "ecc_uncorrected"),
)
_OF_MEMORY = (
    Row("FB_FREE", "gauge", "Free memory (MiB).", "memory_free", 1 / _MIB),
    Row("FB_USED", "gauge", "Used memory (MiB).", "memory_used", 1 / _MIB),
    Row("FB_TOTAL", "gauge", "Memory (MiB).", "memory_total", 1 / _MIB),
    Row("FB_RESERVED", "gauge", "Memory that the driver keeps (MiB).", "memory_reserved",
        1 / _MIB),
)
_RATES = (
    Row("DCGM_FI_PROF_PCIE_TX_BYTES", "gauge", "Sent over PCIe (bytes a second).", "pcie_sent"),
    Row("DCGM_FI_PROF_PCIE_RX_BYTES", "gauge", "Received over PCIe (bytes a second).",
        "pcie_received"),
    Row("DCGM_FI_PROF_NVLINK_TX_BYTES", "gauge", "Sent over NVLink (bytes a second).",
        "nvlink_sent"),
    Row("DCGM_FI_PROF_NVLINK_RX_BYTES", "gauge", "Received over NVLink (bytes a second).",
        "nvlink_received"),
    # DCGM divides KiB by a thousand and calls it MB/s (ReadAndCacheNvLinkBandwidth).
    Row("DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL", "gauge", "Sent and received over NVLink (MB/s).",
        "nvlink_both", 1 / 1024 / 1000),
)
# fmt: on


def exposition(box: Facts, gpus: Facts, host: str | None = None) -> bytes:
    """Return the text.

    Args:
        box: what `launcher metrics --json` prints; {} where it could not be asked.
        gpus: a line of the sampler.
        host: the label; None = this host's name.
    """
    registry = CollectorRegistry()
    named = host or socket.gethostname()
    registry.register(_Given((*_of_gpus(gpus, box, named), *_of_box(box, gpus))))
    return bytes(generate_latest(registry))


class _Given:
    """A collector of metrics that are there already."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = [metric for metric in metrics if metric.samples]

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def _metric(name: str, kind: str, help: str, samples: Iterable[Sample]) -> Metric:
    base = name.removesuffix("_total") if kind == "counter" else name
    metric = Metric(base, help, kind)
    for labels, value in samples:
        metric.add_sample(name, labels, value)
    return metric


def _of_gpus(said: Facts, box: Facts, host: str) -> Iterator[Metric]:
    known = [
        (_labels(gpu, said, host), {**gpu, "nvlink_both": _sum(gpu), "xid": _last_xid(gpu, box)})
        for gpu in said.get("gpus", ())
        if not gpu["fault"]
    ]
    for row in _OF_GPUS:
        yield _of(row._replace(name=f"DCGM_FI_DEV_{row.name}"), known)
    # Where a GPU is cut into instances, the memory is theirs.
    parts = [part for labels, gpu in known for part in (_instances(labels, gpu) or [(labels, gpu)])]
    for row in _OF_MEMORY:
        yield _of(row._replace(name=f"DCGM_FI_DEV_{row.name}"), parts)
    for row in _RATES:
        yield _of(row, known)


def _of(row: Row, known: Iterable[tuple[dict[str, str], Facts]]) -> Metric:
    values = ((labels, device.get(row.key)) for labels, device in known)
    told = ((labels, value * row.factor) for labels, value in values if value is not None)
    return _metric(row.name, row.kind, row.help, told)


def _labels(gpu: Facts, said: Facts, host: str) -> dict[str, str]:
    """Return dcgm-exporter's labels; it has written both names of the host's."""
    return {
        "gpu": str(gpu["index"]),
        "UUID": gpu["uuid"] or "",
        "pci_bus_id": gpu["pci_bus_id"] or "",
        "device": f"nvidia{gpu['index'] if gpu['minor'] is None else gpu['minor']}",
        "modelName": gpu["name"] or "",
        "Hostname": host,
        "hostname": host,
        "DCGM_FI_DRIVER_VERSION": said.get("driver_version") or "",
    }


def _instances(labels: dict[str, str], gpu: Facts) -> list[tuple[dict[str, str], Facts]]:
    return [
        (
            {
                **labels,
                "GPU_I_PROFILE": (one["name"] or "").rpartition("MIG ")[2],
                "GPU_I_ID": str(one["gpu_instance"]),
            },
            one,
        )
        for one in gpu["instances"]
    ]


def _last_xid(gpu: Facts, box: Facts) -> int | None:
    """Return what the box's watch heard last of a GPU; None where it watches none."""
    if "gpus" not in box.get("services", {}):
        return None
    return int(next(reversed(box.get("xids", {}).get(str(gpu["index"]), {0: 1}))))


def _sum(gpu: Facts) -> float | None:
    sent, received = gpu.get("nvlink_sent"), gpu.get("nvlink_received")
    return None if sent is None or received is None else sent + received


def _of_box(box: Facts, gpus: Facts) -> Iterator[Metric]:
    for name, kind, help, value in _numbers(box, gpus):
        samples: list[Sample] = [] if value is None else [({}, float(value))]
        yield _metric(f"launcher_{name}", kind, help, samples)
    info = [({"version": str(box["version"])}, 1.0)] if "version" in box else []
    yield _metric("launcher_info", "gauge", "The launcher, by its version.", info)
    services = [
        ({"service": name}, float(seen["ready"])) for name, seen in box.get("services", {}).items()
    ]
    yield _metric("launcher_service_ready", "gauge", "Whether a service answers.", services)
    programs = box.get("programs", {}).items()
    running = [({"program": name}, float(each["state"] == "running")) for name, each in programs]
    yield _metric("launcher_program_running", "gauge", "Whether a program runs.", running)
    restarts = [({"program": name}, float(each["restarts"])) for name, each in programs]
    help = "How often a program was started again."
    yield _metric("launcher_program_restarts_total", "counter", help, restarts)
    xids = [
        ({"gpu": gpu, "xid": code}, float(count))
        for gpu, codes in box.get("xids", {}).items()
        for code, count in codes.items()
    ]
    help = "How often each Xid came since the box began."
    yield _metric("launcher_gpu_xids_total", "counter", help, xids)
    limits = box.get("limits", {})
    for name, key, help in (
        ("cpus", "cpus", "CPUs that the box may use."),
        ("memory_limit_bytes", "memory", "Memory that the box may use."),
        ("memory_available_bytes", "memory_available", "Memory that it can still use."),
    ):
        told: list[Sample] = [({}, float(limits[key]))] if limits.get(key) is not None else []
        yield _metric(f"launcher_{name}", "gauge", help, told)
    room = box.get("room", {}).items()
    for key in ("free", "size"):
        bytes_ = [({"path": path}, float(each[key])) for path, each in room]
        help = f"{'Free space' if key == 'free' else 'Size'} of a file system of the box."
        yield _metric(f"launcher_filesystem_{key}_bytes", "gauge", help, bytes_)


def _numbers(box: Facts, gpus: Facts) -> Iterator[tuple[str, str, str, float | None]]:
    """Yield what has no label: name, kind, help, value."""
    listed, get = gpus.get("gpus", ()), box.get
    lost = sum(1 for gpu in listed if gpu["fault"])
    yield "up", "gauge", "Whether the launcher could be asked how the box is.", bool(box)
    yield "healthy", "gauge", "Whether the box is healthy.", get("healthy")
    yield "uptime_seconds", "gauge", "Since the box was started.", get("uptime")
    help = "From the start until every service answered."
    yield "ready_seconds", "gauge", help, get("ready_after")
    help = "Processes of the box that the kernel killed for want of memory."
    yield "memory_kills_total", "counter", help, get("memory_kills")
    yield "kernels", "gauge", "Jupyter's kernels.", get("kernels")
    help = "Sessions in the box, by SSH or by a terminal of the engine's."
    yield "logins", "gauge", help, get("logins")
    yield "gpus_visible", "gauge", "Devices that CUDA was given at the start.", get("devices")
    yield "gpu_driver_up", "gauge", "Whether the NVIDIA driver answers.", not gpus.get("fault")
    yield "gpus", "gauge", "GPUs that the driver lists and that answer.", len(listed) - lost
    yield "gpus_lost", "gauge", "GPUs that the driver lists and that do not answer.", lost
    yield "gpu_sample_age_seconds", "gauge", "Age of what is said of the GPUs.", gpus.get("age")


def main() -> None:
    given = json.load(sys.stdin)
    sys.stdout.buffer.write(exposition(given["box"], given["gpus"]))


if __name__ == "__main__":
    main()
