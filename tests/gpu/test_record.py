"""`launcher record` of this machine, replayed: the simulated machine looks the same to us."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from launcher.model import codec
from launcher.model.machine import Machine
from launcher.text.text import device_lines
from sim import driver
from testing.gpu.machine import TestedMachine
from testing.gpu.report import Report
from testing.values import replace


@dataclass(frozen=True)
class Looks:
    """What we say of the machine, and of its recording."""

    machine: Machine
    topo: str
    recorded: str


@pytest.fixture(scope="module")
def looks(
    machine: TestedMachine, tmp_path_factory: pytest.TempPathFactory, report: Report
) -> tuple[Looks, Looks]:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed, so the simulated driver cannot be built")
    folder = tmp_path_factory.mktemp("recording")
    done = machine.launcher("record")
    assert done.returncode == 0, done.stderr
    report.texts["launcher record"] = done.stdout
    (folder / "recorded.machine").write_text(done.stdout)
    env = driver.environment(
        driver.build(folder / "sim"), folder / "recorded.machine", base=machine.env
    )
    return look(machine, {}), look(machine, env)


def look(machine: TestedMachine, env: Mapping[str, str]) -> Looks:
    seen = replace(machine, env={**machine.env, **env})
    return Looks(seen.detect(), seen.launcher("topo").stdout, seen.launcher("record").stdout)


def test_the_topology_is_the_same(looks: tuple[Looks, Looks]) -> None:
    real, replayed = looks
    assert replayed.topo == real.topo


def test_the_device_table_is_the_same(looks: tuple[Looks, Looks]) -> None:
    real, replayed = looks
    assert device_lines(replayed.machine) == device_lines(real.machine)


def test_every_gpu_is_the_same_but_for_what_the_recording_makes_up(
    looks: tuple[Looks, Looks],
) -> None:
    real, replayed = ([_plain(one) for one in each.machine.report.gpus] for each in looks)
    assert replayed == real


def _plain(gpu: object) -> dict[str, object]:
    """Return the fields without UUIDs, and without what changes from one moment to the next."""
    found: dict[str, object] = json.loads(codec.to_json(gpu))
    for name in ("uuid", "mig_devices", "memory_free", "slowdown"):
        found.pop(name)
    return found


def test_the_recording_names_no_machine(looks: tuple[Looks, Looks]) -> None:
    real, _ = looks
    for gpu in real.machine.report.gpus:
        for uuid in (gpu.uuid, *gpu.mig_uuids):
            assert uuid not in real.recorded
