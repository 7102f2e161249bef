"""Who holds a GPU's memory: our own processes by name, the host's by its pids."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.checks import judge
from launcher.detect.holders import recognise
from launcher.model.evidence import Evidence
from launcher.model.machine import GpuProcess, GpuReport
from sim import description, driver
from testing.machines import answering, gpu, machine, mig_gpu
from testing.topologies import read_texts

MIB = 1 << 20
FULL = {"memory_bytes": 24576 * MIB, "memory_free": 100 * MIB, "memory_reserved": 0}


def process(root: Path, pid: int, name: str, nspid: str = "", device: str = "") -> None:
    folder = root / "proc" / str(pid)
    (folder / "fd").mkdir(parents=True)
    (folder / "comm").write_text(f"{name}\n")
    (folder / "status").write_text(f"Name:\t{name}\nPid:\t{pid}\n{nspid}")
    (folder / "fd" / "0").symlink_to("/dev/null")
    if device:
        (folder / "fd" / "7").symlink_to(device)


def held(*pids: int, memory: int | None = 1024 * MIB) -> GpuReport:
    holders = tuple(GpuProcess(pid, memory) for pid in pids)
    return answering(gpu(0, **FULL, processes=len(pids), holders=holders))


def known(report: GpuReport) -> list[tuple[int | None, str]]:
    return [(one.here, one.name) for one in report.gpus[0].holders]


def said(report: GpuReport, platform: str = "docker") -> tuple[str, str]:
    found = judge(Evidence(machine(report, platform=platform), {})).warnings
    (full,) = [one for one in found if one.id == "resources.memory_full"]
    return full.what, full.fix


@pytest.mark.parametrize("device", ["/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg", "/dev/nvmap"])
def test_a_process_of_ours_is_known_by_its_pid(tmp_path: Path, device: str) -> None:
    process(tmp_path, 57, "python", device=device)
    assert known(recognise(held(57), tmp_path)) == [(57, "python")]


def test_a_process_of_ours_is_known_by_its_pid_in_another_namespace(tmp_path: Path) -> None:
    process(tmp_path, 57, "python", "NSpid:\t57\t4242\t3\n", "/dev/nvidia0")
    assert known(recognise(held(4242, 3, 5), tmp_path)) == [
        (57, "python"), (57, "python"), (None, ""),
    ]  # fmt: skip


def test_who_holds_an_instance_is_known_too(tmp_path: Path) -> None:
    process(tmp_path, 57, "python", device="/dev/nvidia0")
    cut = mig_gpu(0, 2)
    instances = (cut.mig_devices[0], cut.mig_devices[1]._replace(holders=(GpuProcess(57),)))
    found = recognise(answering(cut._replace(mig_devices=instances)), tmp_path)
    assert found.gpus[0].mig_devices[1].holders == (GpuProcess(57, None, 57, "python"),)


def test_a_pid_of_the_hosts_that_is_another_here_is_not_ours(tmp_path: Path) -> None:
    process(tmp_path, 57, "bash")
    assert known(recognise(held(57), tmp_path)) == [(None, "")]


def test_where_nobody_holds_anything_nothing_is_looked_at(tmp_path: Path) -> None:
    report = answering(gpu(0))
    assert recognise(report, tmp_path / "nowhere") is report


def test_ours_are_named_and_the_hosts_are_called_that(tmp_path: Path) -> None:
    process(tmp_path, 57, "python", device="/dev/nvidia0")
    what, fix = said(recognise(held(57, 4242), tmp_path))
    assert what == (
        "GPU 0 has 100 of 24576 MiB free, used by 2 processes: "
        "python (pid 57 here, 1024 MiB), pid 4242 of the host (1024 MiB)"
    )
    assert "on the host: nvidia-smi" in fix
    assert "--pid=host" in fix


def test_a_driver_that_tells_no_memory_of_them() -> None:
    assert said(held(4242, memory=None))[0].endswith("1 process: pid 4242 of the host")


def test_many_are_counted() -> None:
    assert said(held(*range(10, 16)))[0].endswith("pid 12 of the host (1024 MiB), 3 more")


def test_on_a_plain_machine_there_is_no_other_host() -> None:
    what, fix = said(held(4242), "plain")
    assert what.endswith("1 process: pid 4242 (1024 MiB)")
    assert fix.startswith("sudo nvidia-smi")


def test_who_cannot_be_seen_is_looked_for_elsewhere() -> None:
    what, fix = said(answering(gpu(0, **FULL, processes=0)))
    assert what.endswith("used by processes that cannot be seen from here")
    assert "--pid=host" in fix


def test_nvml_tells_pid_and_memory() -> None:
    text = driver.find("rtx3090-2x-nvlink").read_text()
    changes = {"gpu 0": {"process": "pid 4242, memory 10000 MiB"}, "gpu 1": {"process": "pid 7"}}
    (report,) = read_texts([description.edit(text, changes)])
    first, second = report.gpus
    assert (first.processes, first.holders) == (1, (GpuProcess(4242, 10000 * MIB),))
    assert second.holders == (GpuProcess(7, None),)
