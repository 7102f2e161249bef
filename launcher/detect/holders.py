"""Which of the processes that hold a GPU's memory are in this container.

NVML tells pids as its driver counts them: mostly the host's, for which nothing here has a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from launcher.detect.cgroup import attempt, read_text
from launcher.model.machine import Gpu, GpuProcess, GpuReport
from launcher.model.printable import printable

_DEVICES = ("/dev/nvidia", "/dev/dxg", "/dev/nvmap")


def recognise(report: GpuReport, root: Path = Path("/")) -> GpuReport:
    """Return the report in which our own processes have the pids and names that they have here.

    A pid is ours where a process has it in one of its namespaces (proc(5), status: NSpid) and has
    a device of NVIDIA's open: the host's pid 57 and ours need not be the same.
    """
    instances = (mig for gpu in report.gpus for mig in gpu.mig_devices)
    if not any(gpu.holders for gpu in report.gpus) and not any(mig.holders for mig in instances):
        return report
    ours = {pid: (here, name) for here, name, pids in _users_of_gpus(root) for pid in pids}

    def known(process: GpuProcess) -> GpuProcess:
        here, name = ours.get(process.pid, (None, ""))
        return process._replace(here=here, name=name)

    def told(gpu: Gpu) -> Gpu:
        instances = (
            mig._replace(holders=tuple(map(known, mig.holders))) for mig in gpu.mig_devices
        )
        holders = tuple(map(known, gpu.holders))
        return gpu._replace(holders=holders, mig_devices=tuple(instances))

    return report._replace(gpus=tuple(map(told, report.gpus)))


def _users_of_gpus(root: Path) -> Iterator[tuple[int, str, list[int]]]:
    for folder in root.glob("proc/[0-9]*"):
        if not _has_a_device(folder):
            continue
        status = read_text(folder / "status") or ""
        namespaces = re.search(r"^NSpid:\s*(.+)$", status, re.MULTILINE)
        pids = [int(folder.name), *map(int, namespaces[1].split() if namespaces else ())]
        yield int(folder.name), printable((read_text(folder / "comm") or "?").strip("\n")), pids


def _has_a_device(folder: Path) -> bool:
    """Return whether it has one open; of others' processes nobody but root may know."""
    links = attempt(lambda: list((folder / "fd").iterdir())) or []
    targets = (attempt(lambda link=link: str(link.readlink())) for link in links)  # type: ignore[misc]
    return any(target.startswith(_DEVICES) for target in targets if target)
