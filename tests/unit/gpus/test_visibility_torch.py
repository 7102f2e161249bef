"""PyTorch's own reading of CUDA_VISIBLE_DEVICES, over the simulated NVML, and ours: the same.

Where they differ, docs/visibility.md has the difference in its table, and DIFFERENCES knows what
PyTorch answers instead.
"""

from __future__ import annotations

import importlib.util
import json
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from launcher.gpus.visibility import explain
from launcher.model.machine import Gpu, GpuReport, LostGpu, MigDevice
from sim import description, driver
from testing.values import replace

# `make test` puts a CPU build of PyTorch there where pip finds one: of the tests only this one
# needs it, and every box that a test starts would import it.
TORCH = Path(__file__).parents[3] / ".cache" / "torch"
PAGE = Path(__file__).parents[3] / "docs" / "visibility.md"
LISTS = 1450  # for each machine, beside each entry alone

# What a process with PyTorch sees: how many devices, and their NVML indices in order.  -1 devices:
# PyTorch gives up on NVML and asks CUDA.
Answer = tuple[int, tuple[int, ...]] | str
RAISES = "ValueError"

ASK_PYTORCH = """
import ctypes, json, os, sys
from torch import cuda
nvml = ctypes.CDLL("libnvidia-ml.so.1")

def answer(value):
    os.environ["CUDA_VISIBLE_DEVICES"] = value
    try:
        count = cuda._device_count_nvml()
        return count, [cuda._get_nvml_device_index(device) for device in range(count)]
    except ValueError:
        return "ValueError"

for machine, values in json.load(sys.stdin):
    while nvml.nvmlShutdown() == 0:  # PyTorch opens a session each time and closes none
        pass
    os.environ["NVSIM_MACHINE"] = machine
    print(json.dumps([answer(value) for value in values]))
"""


@dataclass(frozen=True)
class Machine:
    """A simulated machine, and what detect would report of it."""

    path: Path
    report: GpuReport
    order: str

    def as_pytorch_counts(self, value: str) -> Answer:
        """Return our answer if lost GPUs answered and no GPU were in MIG mode."""
        whole = [replace(gpu, mig_enabled=False) for gpu in self.report.gpus]
        found = [Gpu(g.index, "lost", "", "", None, None, None) for g in self.report.lost]
        return ours(value, GpuReport((*whole, *found)), "PCI_BUS_ID")


Case = tuple[Machine, str, Answer]
Differs = Callable[[Machine, str, Answer], bool]  # Is that why PyTorch does not answer as we do?


def ours(value: str, report: GpuReport, order: str) -> Answer:
    """Return what we say that CUDA sees; a MIG instance counts as its GPU."""
    names = explain(value, report, order).names
    return len(names), tuple(int(name.split()[-1]) for name in names)


def report_of(path: Path) -> GpuReport:
    gpus, lost = [], []
    for device in description.gpus(path.read_text()):
        if device.get("state", "ok") != "ok":
            lost.append(LostGpu(device.index, "GPU is lost", 15))
            continue
        major, minor = map(int, device.get("compute_capability").split("."))
        groups = [(mig.get("uuid"), int(mig.get("gpu_instance"))) for mig in device.migs]
        migs = tuple(MigDevice(uuid, "", None, group, 0) for uuid, group in groups)
        gpus.append(
            Gpu(device.index, device.get("uuid"), device.get("name"), "", None,
                (major, minor), device.get("mig_mode") == "enabled", migs)
        )  # fmt: skip
    version = description.machine(path.read_text()).get("driver_version")
    return GpuReport(tuple(gpus), tuple(lost), driver_version=version)


# --- machines and values -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def machines(
    simulated: Callable[..., dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> list[Machine]:
    """Return one for each way to count, with UUIDs that share beginnings."""
    folder = tmp_path_factory.mktemp("machines")
    mig, _, _ = driver.find("a100-mig").read_text().partition("[pcie]")
    twins = {f"gpu {n}": {"uuid": f"GPU-aaaa{n // 2}{n}00-0000-1111-2222-3333"} for n in range(4)}
    newer = {"gpu 2": {"name": "NVIDIA H100 PCIe", "compute_capability": "9.0"}}
    several = {
        "machine": {"driver_version": "570.86.15"},
        "gpu 0 mig 1": {"gpu_instance": "3"},
        "gpu 1": {"name": "NVIDIA A100", "uuid": "GPU-2b", "pci_bus_id": "00000000:08:00.0",
                  "compute_capability": "8.0"},
    }  # fmt: skip
    (folder / "a100-mig-and-one.machine").write_text(description.edit(mig, several))
    driver.vary("a10g-4x", twins, folder / "twins.machine")
    driver.vary("a10g-4x", newer, folder / "mixed.machine")
    named = ("rtx4090-1x", "rtx3090-2x-nvlink", "h100-8x-one-lost", "a100-mig")
    paths = [*map(driver.find, named), *sorted(folder.iterdir())]
    assert all(simulated(path) for path in paths)  # each can be read
    return [
        Machine(path, report_of(path), "FASTEST_FIRST" if path.stem == "mixed" else "PCI_BUS_ID")
        for path in paths
    ]


INDICES = ["0", "1", "2", "3", "7", "8", "9", "63", "64", "00", "01", "4294967296", "9" * 30]
SIGNED = ["+0", "+1", "-0", "-1", "-01", "+", "-", "+ 1", "--1", "-+1", "+gpu", "-5x"]
SPACED = [" 0", "0 ", "\t1", "\n0\r", " 1 ", "\v2", "\f3", "0 1", "1\t2"]
BEGUN = ["1gpu2", "2ampere", "0-1", "0x1", "1_0", "1.5", "1e3", "0;1", "0:1", "3'"]
WORDS = ["", " ", "NoDevFiles", "none", "all", "void", "cuda:0", "gpu0", "'0", '"1"', "x" * 99]
BEYOND_C = ["²", "1²", "٣", "０", "1٣x", "\u00a00", "\x1c1", "0\u3000", "\u2003", "é", "\udcff"]
LONG = ["1" * 4300, "1" * 4301, "0" * 5000 + "1"]
FOREIGN = ["GPU", "GPU-", "MIG-", "GPU-dead", "MIG-dead", "GPU-8932f937-d72c-4106-c12f-20bd9fa"]


def entries(report: GpuReport) -> list[str]:
    """Return every kind of entry that may stand in a list on this machine."""
    found = [*INDICES, *SIGNED, *SPACED, *BEGUN, *WORDS, *BEYOND_C, *LONG, *FOREIGN]
    for gpu, uuid in [(gpu, gpu.uuid) for gpu in report.gpus]:
        found += [uuid, uuid[:8], uuid[:9], uuid[:10], uuid[:-1], uuid[4:], f"MIG-{uuid}/1/0"]
        found += [uuid + "0", uuid + " ", " " + uuid, uuid.upper(), uuid.lower()]
        found += [mig[:length] for mig in gpu.mig_uuids for length in (5, 12, 40)]
    return found


def lists(report: GpuReport, chance: random.Random) -> Iterator[str]:
    """Yield each entry alone, and lists dense in what is nearly right."""
    every = entries(report)
    right = [str(gpu.index) for gpu in report.gpus] + ["0", "1", " 2", "3 "]
    uuids = [gpu.uuid[: chance.choice((8, 9, 10, 40))] for gpu in report.gpus]
    migs = [uuid for gpu in report.gpus for uuid in gpu.mig_uuids] or ["MIG-dead"]
    yield from every
    for _ in range(LISTS):
        mostly = chance.choice((right, right, uuids, uuids, uuids, migs, every))
        size = chance.choice((1, 2, 2, 3, 3, 4, 6, 9))
        chosen = [chance.choice(mostly if chance.random() < 0.8 else every) for _ in range(size)]
        yield chance.choice(("", "", "", "", " ", ",")) + ",".join(chosen)


# --- where PyTorch answers otherwise -----------------------------------------------------------


def raises(pattern: str) -> Differs:
    def differs(machine: Machine, value: str, answer: Answer) -> bool:
        return answer == RAISES and any(re.match(pattern, e.strip()) for e in value.split(","))

    return differs


def beyond_c(machine: Machine, value: str, answer: Answer) -> bool:
    """Python reads digits and white space of every script as ASCII ones."""
    read = [" " if c.isspace() else str(int(c)) if c.isdecimal() else c for c in value]
    return "".join(read) != value and answer == machine.as_pytorch_counts("".join(read))


def asks_cuda(machine: Machine, value: str, answer: Answer) -> bool:
    return value.startswith("MIG-") and answer == (-1, ())


def counts_lost(machine: Machine, value: str, answer: Answer) -> bool:
    gives_up = value.startswith("GPU-") and answer == (-1, ())
    return bool(machine.report.lost) and (gives_up or answer == machine.as_pytorch_counts(value))


def counts_whole(machine: Machine, value: str, answer: Answer) -> bool:
    in_mig_mode = any(gpu.mig_enabled for gpu in machine.report.gpus)
    return in_mig_mode and answer == machine.as_pytorch_counts(value)


def in_pci_order(machine: Machine, value: str, answer: Answer) -> bool:
    return machine.order != "PCI_BUS_ID" and answer == ours(value, machine.report, "PCI_BUS_ID")


# By their name in the page's table.
DIFFERENCES: dict[str, Differs] = {
    "a sign without a number": raises(r"[+-](?!\d)"),
    "superscripts and the like": raises(r"[+-]?\d*[²]"),
    "more than 4300 digits": raises(r"[+-]?\d{4301}"),
    "digits and white space beyond C's": beyond_c,
    "a list of MIG instances": asks_cuda,
    "a GPU in MIG mode": counts_whole,
    "a lost GPU": counts_lost,
    "CUDA_DEVICE_ORDER": in_pci_order,
}


# --- the comparison ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compared(machines: list[Machine]) -> list[Case]:
    """Return what PyTorch answers to every value, all asked in one process."""
    if not TORCH.exists() and importlib.util.find_spec("torch") is None:
        pytest.skip(f"no torch: pip install --target {TORCH.name} finds no CPU build here")
    chance = random.Random("the same values in every run")
    asked = [(machine, list(lists(machine.report, chance))) for machine in machines]
    questions = [(machine, value) for machine, values in asked for value in values]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ASK_PYTORCH],
        input=json.dumps([(str(machine.path), values) for machine, values in asked]),
        env=driver.environment(driver.CACHE, machines[0].path)
        | {"PYTHONUTF8": "1", "PYTHONPATH": str(TORCH)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    answers = [
        found if found == RAISES else (found[0], tuple(found[1]))
        for line in done.stdout.splitlines()
        for found in json.loads(line)
    ]
    assert len(questions) >= 10_000
    return [(*question, answer) for question, answer in zip(questions, answers, strict=True)]


def test_we_and_pytorch_read_alike_but_for_what_is_documented(compared: list[Case]) -> None:
    undocumented, met = [], set()
    for machine, value, answer in compared:
        here = ours(value, machine.report, machine.order)
        if answer == here:
            continue
        known = {name for name in DIFFERENCES if DIFFERENCES[name](machine, value, answer)}
        met |= known
        if not known:
            undocumented.append(f"{machine.path} {value!r:.99}: PyTorch {answer}, we {here}")
    assert not undocumented, "\n".join(undocumented[:40])
    assert met == set(DIFFERENCES), "a difference that is documented and does not exist"


def test_the_page_lists_the_differences() -> None:
    _, _, section = PAGE.read_text(encoding="utf-8").partition("## Where PyTorch differs")
    table, _, _ = section.partition("\n## ")
    assert re.findall(r"^\| ([^|]*?) \|", table, re.MULTILINE)[1:] == list(DIFFERENCES)
