"""`launcher topo` and `launcher record` as they are called, on simulated machines."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from launcher.model.machine import Nic
from launcher.text import topology
from sim import driver
from testing import topologies
from testing.local_box import LAUNCHER, USER
from testing.machines import answering, gpu
from testing.printed import matrices, parse

Run = Callable[..., subprocess.CompletedProcess]

SHAPES = ["h100-8x", "h100-8x-one-lost", "dgx1-v100-8x", "a10g-4x", "a100-mig", "rtx3090-2x-nvlink"]


@pytest.fixture
def run(tmp_path: Path, simulated) -> Run:
    """Run `launcher ARGUMENTS…` where a machine is simulated."""

    def run(machine: str | Path, *arguments: str, **env: str) -> subprocess.CompletedProcess:
        place = {"PATH": os.environ["PATH"], "NB_USER": USER}
        place |= {"LAUNCHER_RUN_DIR": str(tmp_path / "run")}
        return subprocess.run(
            [*LAUNCHER, *arguments],
            env={**place, **simulated(machine), **env},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def words(text: str) -> list[str]:
    """Return the lines that are not of the matrix."""
    return [line for line in text.splitlines() if "\t" not in line]


# --- the text --------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", SHAPES)
def test_the_words_fit_80_columns(run: Run, machine: str) -> None:
    done = run(machine, "topo")
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, words(done.stdout)), default=0) <= 80


@pytest.mark.parametrize("name", topologies.matrices())
def test_the_words_of_every_real_machine_fit_80_columns(name: str) -> None:
    lines = words("\n".join(topology.topology_lines(topologies.reports()[name], ())))
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("machine", "sentence"),
    [
        ("h100-8x", "GPUs 0-7: one NVLink island, NV18 through NVSwitch"),
        ("rtx3090-2x-nvlink", "GPUs 0, 1: one NVLink island, NV4"),
        ("a10g-4x", "no NVLink; PCIe through the host bridge"),
    ],
)
def test_the_sentences(run: Run, machine: str, sentence: str) -> None:
    assert sentence in run(machine, "topo").stdout


def test_the_matrix_of_a_printed_machine_comes_back(run: Run, tmp_path: Path) -> None:
    matrix = next(one for name, one in matrices().items() if name.startswith("a100-6x"))
    path = tmp_path / "crossed.machine"
    path.write_text(topologies.describe(matrix))
    done = run(path, "topo")
    assert parse(done.stdout).cells == matrix.cells
    assert "GPUs 0, 3: joined by an NVLink bridge that crosses sockets" in done.stdout


def test_a_lost_gpu_does_not_hide_its_siblings(run: Run) -> None:
    done = run("h100-8x-one-lost", "topo")
    assert parse(done.stdout).gpus == 7


def test_a_lone_gpu_has_a_matrix_and_nothing_to_say(run: Run) -> None:
    done = run("rtx4090-1x", "topo")
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].startswith("GPU0\t X \t")
    assert "NVLink" not in done.stdout


def test_network_cards_are_named_below_the_matrix() -> None:
    nic = Nic("mlx5_0", "0000:1a:00.0", ((0, "PIX"), (1, "SYS")))
    lines = topology.topology_lines(answering(gpu(0), gpu(1)), [nic])
    assert "\tNIC0\t" in lines[0]
    assert "NIC0: mlx5_0" in lines


@pytest.mark.parametrize("filtered", [False, True])
def test_an_affinity_that_the_cpuset_filtered_is_called_that(filtered: bool) -> None:
    report = answering(gpu(0, cpus="0-3", cpus_filtered=filtered))
    lines = topology.topology_lines(report, ())
    assert any("this container's cpuset" in line for line in lines) == filtered


# --- JSON ------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", SHAPES)
def test_the_json_says_what_the_text_says(run: Run, machine: str) -> None:
    found = json.loads(run(machine, "topo", "--json").stdout)
    text = run(machine, "topo").stdout
    assert set(found) == {"gpus", "pairs", "nics", "islands", "sentences", "odd"}
    assert parse(text).gpus == len(found["gpus"])
    said = " ".join(text.split())
    assert all(sentence in said for sentence in found["sentences"])
    assert all(" ".join(odd["what"].split()) in said for odd in found["odd"])


def test_the_json_has_what_programs_choose_by(run: Run) -> None:
    found = json.loads(run("rtx3090-2x-nvlink", "topo", "--json").stdout)
    assert found["islands"] == [[0, 1]]
    (pair,) = found["pairs"]
    assert set(pair) == {"a", "b", "nvlinks", "via", "path", "p2p"}
    assert (pair["nvlinks"], pair["via"]) == (4, "direct")
    fields = {"index", "uuid", "pci_bus_id", "numa_node", "cpus", "memory_free", "nvlinks"}
    assert all(fields <= set(card) for card in found["gpus"])


def test_what_is_odd_has_an_id_and_a_fix(run: Run) -> None:
    (odd, *_) = json.loads(run("a10g-4x", "topo", "--json").stdout)["odd"]
    assert set(odd) == {"id", "what", "means", "fix"}
    assert odd["id"].startswith("topology.")


# --- no answer -------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("topo",), ("topo", "--json")])
@pytest.mark.parametrize("machine", ["mismatch", "crash-init", "hung-init"])
def test_without_an_answer_of_the_driver(run: Run, machine: str, arguments: tuple) -> None:
    done = run(machine, *arguments, LAUNCHER_DETECT_TIMEOUT="0.5" if "hung" in machine else "30")
    assert (done.returncode, done.stdout) == (70, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("launcher: cannot read the topology: ")
    assert line.endswith("; see: launcher doctor")


# --- record ----------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", SHAPES)
def test_a_record_is_a_machine_with_the_same_topology(
    run: Run, machine: str, tmp_path: Path
) -> None:
    done = run(machine, "record")
    assert (done.returncode, done.stderr) == (0, "")
    path = tmp_path / "recorded.machine"
    path.write_text(done.stdout)
    assert run(path, "topo").stdout == run(machine, "topo").stdout


def test_a_record_has_none_of_the_machines_uuids(run: Run) -> None:
    real = {card["uuid"] for card in json.loads(run("h100-8x", "topo", "--json").stdout)["gpus"]}
    assert len(real) == 8
    recorded = run("h100-8x", "record").stdout
    assert not [uuid for uuid in real if uuid in recorded]


def test_a_driver_that_fails_is_recorded_as_failing(run: Run, tmp_path: Path) -> None:
    done = run("mismatch", "record")
    path = tmp_path / "recorded.machine"
    path.write_text(done.stdout)
    driver.check(driver.CACHE, path)
    assert run(path, "topo").stderr == run("mismatch", "topo").stderr


# --- the picture -----------------------------------------------------------------------------


def test_the_picture_is_written_where_it_is_told(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "topology.svg"
    done = run("h100-8x", "topo", "--svg", str(path), CUDA_VISIBLE_DEVICES="1,3")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    picture = path.read_text()
    assert run("h100-8x", "topo", "--svg", "-", CUDA_VISIBLE_DEVICES="1,3").stdout == picture
    described = ElementTree.fromstring(picture).find("{http://www.w3.org/2000/svg}desc")
    assert described is not None
    assert described.text == run("h100-8x", "topo").stdout.removesuffix("\n")
    assert (picture.count(">CUDA 0<"), picture.count(">CUDA 1<")) == (1, 1)
    assert picture.count(">hidden<") == 6


def test_a_picture_that_cannot_be_written_says_where(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "none" / "topology.svg"
    done = run("h100-8x", "topo", "--svg", str(path))
    assert (done.returncode, done.stdout) == (78, "")
    assert f"cannot write {path}: No such file or directory" in done.stderr


def test_text_and_picture_are_not_asked_for_at_once(run: Run) -> None:
    done = run("h100-8x", "topo", "--json", "--svg", "-")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--json or --svg" in done.stderr
