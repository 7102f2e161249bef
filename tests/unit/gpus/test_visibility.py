"""What a user's CUDA_VISIBLE_DEVICES does, case by case.  test_visibility_torch.py asks PyTorch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.gpus.visibility import Visibility, explain, one_line
from launcher.model.machine import DriverFailure, Gpu, GpuReport, LostGpu, MigDevice
from testing.strategies import values
from testing.values import replace

H100 = Gpu(0, "", "NVIDIA H100 80GB HBM3", "", 80 << 30, (9, 0), mig_enabled=False)
RTX3090 = replace(H100, name="NVIDIA GeForce RTX 3090", compute_capability=(8, 6))


def uuid(index: int) -> str:
    return f"GPU-{index}abc0000-1111-2222-3333-444444444444"


def mig_uuid(index: int) -> str:
    return f"MIG-{index}def0000-1111-2222-3333-444444444444"


def machine(*cards: Gpu, lost: tuple[int, ...] = (), driver: str = "550.54.15") -> GpuReport:
    """Return a report of these cards, numbered around the lost ones."""
    free = (index for index in range(16) if index not in lost)
    gpus = [
        replace(card, index=index, uuid=uuid(index))
        for card, index in zip(cards, free, strict=False)
    ]
    gone = tuple(LostGpu(index, "GPU is lost", 15) for index in lost)
    return GpuReport(tuple(gpus), gone, driver_version=driver)


def in_mig_mode(*gpu_instances: int) -> Gpu:
    """Return a card with a compute instance in each of these GPU instances."""
    instances = tuple(
        MigDevice(mig_uuid(place), "", 20 << 30, of, gpu_instances[:place].count(of))
        for place, of in enumerate(gpu_instances)
    )
    return replace(H100, mig_enabled=True, mig_devices=instances)


ONE = machine(H100)
TWO = machine(H100, H100)
FOUR = machine(*[H100] * 4)
LOST = machine(*[H100] * 3, lost=(2,))  # 0, 1 and 3 answer
MIXED = machine(RTX3090, H100)
NEW, OLD = "570.86.15", "535.104.05"

# value, machine, what CUDA sees, the banner's line.
CASES = [
    ("0,1", TWO, "GPU 0 GPU 1", "GPUs 0, 1"),
    ("3,2,1,0", FOUR, "GPU 3 GPU 2 GPU 1 GPU 0", "GPUs 3, 2, 1, 0"),
    ("1", TWO, "GPU 1", "GPU 1 alone: GPU 0 is not in the list"),
    ("0", FOUR, "GPU 0", "GPU 0 alone: GPUs 1-3 are not in the list"),
    # nothing
    ("", TWO, "", "no GPU: an empty value hides every GPU"),
    (" ", TWO, "", "no GPU: an empty value hides every GPU"),
    ("-1", TWO, "", 'no GPU: "-1" is negative'),
    ("NoDevFiles", TWO, "", 'no GPU: "NoDevFiles" is no index and no UUID'),
    ("all", TWO, "", 'no GPU: "all" is a word for NVIDIA_VISIBLE_DEVICES only'),
    ("'0,1'", TWO, "",
     """no GPU: "'0" has quotes, which are part of the value, and it ends the list"""),
    # indices
    ("0,7,1", TWO, "GPU 0",
     'GPU 0 alone: "7" is no device here (GPUs 0, 1), and it ends the list'),
    ("0,-1,1", TWO, "GPU 0", 'GPU 0 alone: "-1" is negative, and it ends the list'),
    ("0,,1", TWO, "GPU 0", 'GPU 0 alone: "" is empty, and it ends the list'),
    (",0", TWO, "", 'no GPU: "" is empty, and it ends the list'),
    ("0,1,", TWO, "GPU 0 GPU 1", "GPUs 0, 1"),
    (" 1 ,\t+0", TWO, "GPU 1 GPU 0", "GPUs 1, 0"),
    ("0,-0", TWO, "", 'no GPU: "-0" repeats an entry, which hides every GPU'),
    ("01,0", TWO, "GPU 1 GPU 0", "GPUs 1, 0"),
    ("1gpu2,2ampere", FOUR, "GPU 1 GPU 2", 'GPUs 1, 2: "1gpu2" is read as 1'),
    ("0-3", FOUR, "GPU 0", 'GPU 0 alone: "0-3" is read as 0'),
    ("9" * 5000, TWO, "", f'no GPU: "{"9" * 20}…" is no device here (GPUs 0, 1)'),
    ("3", ONE, "", 'no GPU: "3" is not here: the one GPU is 0; 3 may be its number on the host'),
    ("0,3", ONE, "GPU 0", 'GPU 0 alone: "3" is no device here (GPU 0)'),
    ("0,0", TWO, "", 'no GPU: "0" repeats an entry, which hides every GPU'),
    ("0,7,7", TWO, "", 'probably no GPU: "7" repeats an entry, which hides every GPU'),
    ("7,7", TWO, "", 'no GPU: "7" repeats an entry, which hides every GPU'),
    ("0,-1,0", TWO, "GPU 0", 'GPU 0 alone: "-1" is negative, and it ends the list'),
    # UUIDs
    (uuid(1), TWO, "GPU 1", "GPU 1 alone: GPU 0 is not in the list"),
    ("GPU-1,GPU-0a", TWO, "GPU 1 GPU 0", "GPUs 1, 0"),
    ("GPU-", TWO, "", 'no GPU: "GPU-" fits 2 devices'),
    ("GPU-", ONE, "GPU 0", "GPU 0"),
    ("GPU-0,GPU-f,GPU-1", TWO, "GPU 0",
     'GPU 0 alone: "GPU-f" is no device here, and it ends the list'),
    ("GPU-0, GPU-1", TWO, "GPU 0",
     'GPU 0 alone: " GPU-1" is no UUID: it begins with white space'),
    (" GPU-1", TWO, "", 'no GPU: " GPU-1" is no UUID: it begins with white space'),
    ("GPU-1 ,GPU-0", TWO, "",
     'no GPU: "GPU-1 " is no device here (case and spaces count), and it ends the list'),
    ("GPU-1ABC", TWO, "", 'no GPU: "GPU-1ABC" is no device here (case and spaces count)'),
    ("gpu-1", TWO, "", 'no GPU: "gpu-1" is no UUID: those begin with GPU- or MIG-, in capitals'),
    ("GPU-1,GPU-1a", TWO, "", 'no GPU: "GPU-1a" repeats an entry, which hides every GPU'),
    ("GPU-1,GPU-f,GPU-f", TWO, "",
     'probably no GPU: "GPU-f" repeats an entry, which hides every GPU'),
    ("GPU-1,GPU-f,GPU-1a", TWO, "GPU 1",
     'GPU 1 alone: "GPU-f" is no device here, and it ends the list'),
    # of mixed kinds
    ("GPU-1,0", TWO, "GPU 1", 'GPU 1 alone: "0" is an index in a list of UUIDs'),
    ("1,GPU-0", TWO, "GPU 1", 'GPU 1 alone: "GPU-0" is a UUID in a list of indices'),
    ("GPU-1,MIG-0", TWO, "GPU 1", 'GPU 1 alone: "MIG-0" is a MIG instance in a list of GPUs'),
    # what only the driver knows
    ("٣,0", FOUR, "", 'probably no GPU: "\\u0663" is no index and no UUID, and it ends the list'),
    ("2", LOST, "GPU 3",
     "probably GPU 3 alone: indices after a lost GPU, or one in MIG mode, may shift"),
    ("3", LOST, "", 'probably no GPU: "3" is no device here: CUDA counts 3, from 0'),
    ("4", LOST, "", 'no GPU: "4" is no device here: CUDA counts 3, from 0'),
    ("0", LOST, "GPU 0", "GPU 0 alone: GPUs 1, 3 are not in the list"),
    (",".join(map(uuid, (0, 1, 3))), LOST, "GPU 0 GPU 1 GPU 3",
     "GPUs 0, 1, 3: GPU 2 is lost: GPU is lost"),
    ("0", MIXED, "GPU 0", "GPU 0 alone: GPU 1 is not in the list"),
]  # fmt: skip

# As above, for machines with MIG.
MIG_CASES = [
    (mig_uuid(1), machine(in_mig_mode(3, 4)), "MIG 1 of GPU 0",
     "MIG 1 of GPU 0 alone: MIG 0 of GPU 0 is not in the list"),
    ("MIG-0,MIG-1", machine(in_mig_mode(3, 4), driver=OLD), "MIG 0 of GPU 0",
     "probably MIG 0 of GPU 0 alone: one instance per process (MIG 1 of GPU 0 hidden)"),
    ("MIG-0,MIG-1", machine(in_mig_mode(3, 4), driver=NEW), "MIG 0 of GPU 0 MIG 1 of GPU 0",
     "probably 2 MIG instances"),
    ("MIG-1,MIG-0", machine(in_mig_mode(3, 3), driver=NEW), "MIG 1 of GPU 0",
     "probably MIG 1 of GPU 0 alone: one per GPU instance (MIG 0 of GPU 0 hidden)"),
    ("MIG-1,MIG-1d", machine(in_mig_mode(3, 4)), "",
     'no GPU: "MIG-1d" repeats an entry, which hides every GPU'),
    (f"MIG-{uuid(0)}/3/1", machine(in_mig_mode(3, 3)), "MIG 1 of GPU 0",
     "probably MIG 1 of GPU 0 alone: drivers from 470 on call instances MIG-<UUID>"),
    (f"MIG-{uuid(0)}/3/7", machine(in_mig_mode(3, 3)), "",
     'no GPU: "MIG-GPU-0abc0000-111…" is no device here'),
    ("MIG-0,GPU-1", machine(in_mig_mode(3), H100), "MIG 0 of GPU 0",
     'MIG 0 of GPU 0 alone: "GPU-1" is a GPU in a list of instances'),
    ("GPU-0,GPU-1", machine(in_mig_mode(3), H100, driver=OLD), "MIG 0 of GPU 0",
     "probably MIG 0 of GPU 0 alone: one instance per process (GPU 1 hidden)"),
    ("GPU-0,GPU-1", machine(in_mig_mode(3), H100, driver=NEW), "MIG 0 of GPU 0 GPU 1",
     "probably 2 devices"),
    ("GPU-0", machine(in_mig_mode(), H100), "",
     'no GPU: "GPU-0" is in MIG mode and has no instance'),
    ("0", machine(in_mig_mode()), "", 'probably no GPU: "0" finds no MIG instance to run on'),
    ("0", machine(H100, in_mig_mode(3)), "GPU 0",
     "GPU 0 alone: MIG 0 of GPU 1 is not in the list"),
    ("1", machine(in_mig_mode(3), H100), "GPU 1",
     "probably GPU 1 alone: indices after a lost GPU, or one in MIG mode, may shift"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "report", "sees", "line"), [*CASES, *MIG_CASES])
def test_what_is_seen_and_why_no_more(value: str, report: GpuReport, sees: str, line: str) -> None:
    found = explain(value, report, "PCI_BUS_ID")
    assert " ".join(found.names) == sees
    assert found.devices == tuple(uuid_of(name, report) for name in found.names)
    assert one_line(found) == line
    assert found.certain is not line.startswith("probably")


def uuid_of(name: str, report: GpuReport) -> str:
    """Return the UUID of "GPU 1" or "MIG 0 of GPU 1"."""
    place, gpu = name.split()[1], next(g for g in report.gpus if g.index == int(name.split()[-1]))
    return gpu.mig_devices[int(place)].uuid if name.startswith("MIG") else gpu.uuid


def test_every_reason_is_there_the_most_telling_first() -> None:
    hidden = explain("1x,9,0,-1,2,3,4,5,6", FOUR, "PCI_BUS_ID").hidden
    assert hidden == (
        '"9" is no device here (GPUs 0-3), and it ends the list',
        '"1x" is read as 1',
        *(f'"{entry}" comes after the end of the list' for entry in ("0", "-1", "2", "3")),
        "3 more entries come after the end of the list",
    )


@pytest.mark.parametrize("order", ["", "FASTEST_FIRST", "pci_bus_id"])
def test_without_pci_order_mixed_cards_are_counted_as_only_the_driver_knows(order: str) -> None:
    found = explain("0", MIXED, order)
    assert found.names == ("GPU 1",)  # the newer one
    assert not found.certain
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in one_line(found)
    assert explain("GPU-0", MIXED, order).certain
    assert explain("1", TWO, order) == explain("1", TWO, "PCI_BUS_ID")


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (GpuReport(), "there is none here"),
        (GpuReport(lost=LOST.lost), "all are lost: GPU is lost"),
        (GpuReport(failure=DriverFailure("nvml", "Unknown Error", 999)),
         "the driver does not answer: Unknown Error"),
    ],
)  # fmt: skip
def test_without_gpus_the_reason_is_not_the_value(report: GpuReport, reason: str) -> None:
    found = explain("0", report, "PCI_BUS_ID")
    assert found == Visibility((), (), (reason,), certain=report.failure is None)


# 64 kB and more: an environment variable may have 128 KiB.
@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (",".join(map(str, range(16000))), 4),
        (",".join(f"GPU-{index}" for index in range(9000)), 4),
        ("0," * 32000, 0),
        ("0" * 65536 + "1", 1),
        ("0," + "x" * 65536, 1),
        ("\x1b" * 65536, 0),
        (",".join(["0", *["²"] * 20000]), 1),
    ],
)
def test_long_values(value: str, seen: int) -> None:
    found = explain(value, FOUR, "PCI_BUS_ID")
    assert len(found.devices) == seen
    assert sum(map(len, found.hidden)) < 1000


lists = st.lists(st.one_of(st.sampled_from(["0", "1", "2", "GPU-0", "GPU-1", ""]), values))


@given(lists.map(",".join), st.sampled_from([ONE, TWO, FOUR, LOST, machine(in_mig_mode(1, 2))]))
def test_whatever_the_value_the_line_fits_and_is_printable(value: str, report: GpuReport) -> None:
    found = explain(value, report, "PCI_BUS_ID")
    line = one_line(found)
    assert len(line) <= 80
    assert line.replace("…", "").isascii()
    assert line.isprintable()
    assert len(set(found.devices)) == len(found.devices) == len(found.names)
    everything = {d for gpu in report.gpus for d in (gpu.uuid, *gpu.mig_uuids)}
    assert set(found.devices) <= everything
    assert found.hidden or len(found.devices) == len(report.gpus)
