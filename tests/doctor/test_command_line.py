"""`launcher doctor` itself, on this machine's own root, with simulated libraries in its way."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from launcher.checks import LAYERS
from sim import driver
from testing.doctor.scenario import PATIENCE, Scenario, prepare
from testing.local_box import LAUNCHER
from tests.doctor.causes import CAUSES, HEALTHY

# Those whose cause is in libraries and variables alone: /sys, /proc and /dev are this machine's.
ASKED = ("mask-empty", "cpu-build", "cuda-2")
SCENARIOS = {scenario.id: scenario for scenario in (*CAUSES, *HEALTHY)}


def launcher_doctor(
    scenario: Scenario, folder: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed, so the simulated driver cannot be built")
    _, environ = prepare(scenario, folder, driver.build(driver.CACHE))
    return subprocess.run(
        [*LAUNCHER, "doctor", *arguments],
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize("name", ASKED)
def test_it_names_the_layer_and_the_fix(name: str, tmp_path: Path) -> None:
    scenario = SCENARIOS[name]
    done = launcher_doctor(scenario, tmp_path)
    assert done.returncode == scenario.exit_status, done.stderr
    assert scenario.expects
    assert scenario.expects in done.stdout
    assert f"launcher explain {scenario.expects}\n" in done.stdout
    # Lines are broken between words only: what is to be pasted is whole.
    for word in scenario.names:
        assert word in " ".join(done.stdout.split())


@pytest.mark.parametrize("name", ASKED)
def test_its_json_has_a_row_for_each_layer(name: str, tmp_path: Path) -> None:
    scenario = SCENARIOS[name]
    done = launcher_doctor(scenario, tmp_path, "--json")
    document = json.loads(done.stdout)
    assert document["failure"]["id"] == scenario.expects
    assert document["exit_status"] == done.returncode == scenario.exit_status
    assert not document["healthy"]
    layers = document["layers"]
    assert [layer["name"] for layer in layers] == list(LAYERS[:-1])
    broken = scenario.exit_status - 11
    assert layers[broken]["status"] == "failed"
    assert {layer["status"] for layer in layers[broken + 1 :]} <= {"skipped"}


def test_a_healthy_machine_exits_with_0(tmp_path: Path) -> None:
    done = launcher_doctor(SCENARIOS["healthy"], tmp_path)
    assert done.returncode == 0, done.stdout
    assert "FAILED" not in done.stdout


def test_one_layer_alone_can_be_asked(tmp_path: Path) -> None:
    done = launcher_doctor(SCENARIOS["mask-empty"], tmp_path, "hardware", "driver")
    assert done.returncode == 0, done.stdout


def test_gpus_are_let_talk_where_that_is_asked_for(tmp_path: Path) -> None:
    scenario = SCENARIOS["talk-nvls-wrong"]
    done = launcher_doctor(scenario, tmp_path, "--collective")
    assert done.returncode == 19, done.stderr
    assert "launcher explain collective.nvls\n" in done.stdout
    assert "over 2 GPUs: at most 60 s, 240 s where they fail" in done.stderr
    assert "that failed; again with NCCL_NVLS_ENABLE=0" in done.stderr


def test_to_name_its_layer_asks_for_it_too(tmp_path: Path) -> None:
    done = launcher_doctor(SCENARIOS["talk-well"], tmp_path, "collective", "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert document["layers"][-1]["name"] == "collective"
    assert document["evidence"]["collective"]["trials"][0]["outcome"] == "ok"
