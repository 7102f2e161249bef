"""What CUDA sees in a kernel and over SSH, on machines with connections of several kinds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from testing.container import kernel
from testing.container.banner import unwrapped
from testing.container.box import SSH_ALONE, Boxes
from testing.container.gpus import ALL, gpus, machine, uuids
from testing.container.login import login, make_key

# Machine, settings, what CUDA_VISIBLE_DEVICES must be, and what the banner says of the links.
BOXES: dict[str, tuple[str, Mapping[str, str], str, str]] = {
    "dgx-1v": ("dgx1-v100-8x", {}, "0,1,2,3,4,5,6,7", "NV1 to NV2, some pairs over a third GPU"),
    "hgx-h100": ("h100-8x", {}, "0,1,2,3,4,5,6,7", "one NVLink island, NV18 through NVSwitch"),
    "four-a10g": ("a10g-4x", {}, "0,1,2,3", "no NVLink; PCIe through the host bridge"),
    "mig": ("a100-mig", {}, ",".join(mig.get("uuid") for mig in gpus("a100-mig")[0].migs), "MIG×3"),
    "one-lost": (
        "h100-8x-one-lost",
        {},
        ",".join(uuid for at, uuid in enumerate(uuids("h100-8x-one-lost")) if at != 3),
        "GPUs 0, 1, 2, 4, 5, 6, 7: one NVLink island",
    ),
    # Two NVLinks and one PCIe switch; 0 and 1 have one NVLink.
    "best-two": (
        "dgx1-v100-8x",
        {"LAUNCHER_GPUS": "2"},
        "2,3",
        "(the best 2 of 8 usable, connected by NV2)",
    ),
}


@pytest.mark.parametrize("case", BOXES)
def test_a_kernel_and_a_login_see_what_was_planned(box: Boxes, case: str, tmp_path: Path) -> None:
    name, settings, visible, said = BOXES[case]
    key = make_key(tmp_path)
    started = box(*ALL, env={**machine(name), **settings, "PUBLIC_KEY": key.public})
    assert said in unwrapped(started.wait_for_banner())
    seen = kernel.connect(started).run_cell("import os; print(os.environ['CUDA_VISIBLE_DEVICES'])")
    assert seen.strip() == visible
    over_ssh = login(started, key).ssh("echo $CUDA_VISIBLE_DEVICES,$CUDA_DEVICE_ORDER").stdout
    assert over_ssh.strip() == f"{visible},PCI_BUS_ID"


def test_topo_prints_the_matrix_and_what_it_means(box: Boxes) -> None:
    started = box(*SSH_ALONE, *ALL, env=machine("dgx1-v100-8x"))
    started.wait_for_banner()
    lines = started.exec("launcher", "topo").stdout.splitlines()
    assert lines[1].split("\t")[:9] == [
        "GPU0", " X ", "NV1", "NV1", "NV2", "NV2", "SYS", "SYS", "SYS",
    ]  # fmt: skip
    assert "GPUs 0-7: one NVLink island, NV1 to NV2, some pairs over a third GPU" in lines


def test_asking_for_more_than_there_is_ends_the_start(box: Boxes) -> None:
    started = box(*ALL, env={**machine("a10g-4x"), "LAUNCHER_GPUS": "5"})
    assert started.wait() == 78
    assert "LAUNCHER_GPUS asks for 5 usable GPUs, 4 are here" in started.logs()
    assert all(uuid in started.logs() for uuid in uuids("a10g-4x"))
