"""What nvidia-smi says of the GPUs, as values: the second opinion beside NVML read by us.

Sources: the XML of `nvidia-smi -q -x` (nvsmi_device_v12.dtd, v13) and the man page nvidia-smi(1).
Every "N/A" and "Not Supported" is None here, as a field that NVML does not tell is with us.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

MIB = 1 << 20

# nvmlClocksEventReason*, by the end of its element's name.
_REASONS = {
    "gpu_idle": 0x1,
    "applications_clocks_setting": 0x2,
    "sw_power_cap": 0x4,
    "hw_slowdown": 0x8,
    "sync_boost": 0x10,
    "sw_thermal_slowdown": 0x20,
    "hw_thermal_slowdown": 0x40,
    "hw_power_brake_slowdown": 0x80,
    "display_clocks_setting": 0x100,
}
_COMPUTE_MODES = {"Default": 0, "Exclusive_Thread": 1, "Prohibited": 2, "Exclusive_Process": 3}


@dataclass(frozen=True)
class SmiGpu:
    """One <gpu> of `nvidia-smi -q -x`."""

    index: int
    element: ElementTree.Element

    def text(self, *paths: str) -> str | None:
        """Return the first of these elements that says something."""
        found = (self.element.findtext(path, "").strip() for path in paths)
        return next((text for text in found if _says(text)), None)

    def number(self, *paths: str) -> int | None:
        """Return the number that an element begins with: "16x", "700.00 W", "345 MHz"."""
        match = re.match(r"-?\d+", self.text(*paths) or "")
        return int(match[0]) if match else None

    def flag(self, *paths: str) -> bool | None:
        return _FLAGS.get(self.text(*paths) or "")

    def mebibytes(self, path: str) -> int | None:
        """Return a size in bytes; nvidia-smi rounds it to MiB, up or down."""
        size = self.number(path)
        return None if size is None else size * MIB

    @property
    def compute_mode(self) -> int | None:
        return _COMPUTE_MODES.get(self.text("compute_mode") or "")

    @property
    def processes(self) -> int:
        """Return how many processes compute on it: type C, and C+G."""
        kinds = (one.findtext("type", "") for one in self.element.iterfind(".//process_info"))
        return sum("C" in kind for kind in kinds)

    @property
    def slowdown(self) -> int | None:
        """Return why its clocks are held down, as NVML's bits."""
        every = self.element.find("clocks_event_reasons")
        if every is None:  # drivers before 535
            every = self.element.find("clocks_throttle_reasons")
        said = {} if every is None else {one.tag: (one.text or "").strip() for one in every}
        if not any(map(_says, said.values())):
            return None
        return sum(
            bit
            for end, bit in _REASONS.items()
            if any(tag.endswith(f"_{end}") and text == "Active" for tag, text in said.items())
        )

    @property
    def ecc_errors(self) -> int | None:
        """Return the errors since the driver was loaded that ECC could not correct."""
        elements = self.element.iterfind("ecc_errors/volatile//*")
        found = [
            int(one.text or "")
            for one in elements
            if ("uncorrectable" in one.tag or one.tag == "double_bit")
            and (one.text or "").strip().isdecimal()
        ]
        return sum(found) if found else None

    @property
    def remap_pending(self) -> bool | None:
        paths = (
            "remapped_rows/remapped_row_pending",
            "retired_pages/pending_retirement",
            "retired_pages/pending_blacklist",
        )
        known = [flag for path in paths if (flag := self.flag(path)) is not None]
        return any(known) if known else None

    @property
    def recovery(self) -> int | None:
        """Return what the driver says that the GPU needs, as NVML's number."""
        words = ("None", "Reset", "Reboot", "Drain P2P", "Drain and Reset")
        said = self.text("gpu_recovery_action")
        return words.index(said) if said in words else None

    @property
    def mig_devices(self) -> list[tuple[int, int]]:
        """Return the GPU instance and the compute instance of each MIG device."""
        return [
            (int(one.findtext("gpu_instance_id", "")), int(one.findtext("compute_instance_id", "")))
            for one in self.element.iterfind("mig_devices/mig_device")
        ]


_FLAGS = {
    "Enabled": True, "Yes": True, "Active": True,
    "Disabled": False, "No": False, "Not Active": False,
}  # fmt: skip


def _says(text: str) -> bool:
    return bool(text) and not re.match(r"\[?(N/A|Not Supported|Requested functionality)", text)


@dataclass(frozen=True)
class Smi:
    """`nvidia-smi -q -x`, the whole of it."""

    driver_version: str
    cuda_version: str
    gpus: tuple[SmiGpu, ...]


def read(xml: str) -> Smi:
    """Return what it printed.  Raises ParseError where that is no XML."""
    root = ElementTree.fromstring(xml)
    return Smi(
        root.findtext("driver_version", ""),
        root.findtext("cuda_version", ""),
        tuple(SmiGpu(index, gpu) for index, gpu in enumerate(root.iterfind("gpu"))),
    )


def read_list(text: str) -> dict[int, list[str]]:
    """Return the UUIDs of `nvidia-smi -L`: of each GPU its own, then those of its instances."""
    found: dict[int, list[str]] = {}
    for line in text.splitlines():
        if gpu := re.match(r"GPU (\d+): .*\(UUID: (\S+)\)", line):
            found[int(gpu[1])] = [gpu[2]]
        elif mig := re.match(r"\s+MIG .*\(UUID: (\S+)\)", line):
            found[max(found)].append(mig[1])
    return found


def read_nvlinks(text: str) -> dict[int, tuple[int, int]]:
    """Return how many NVLinks of each GPU are up and down, of `nvidia-smi nvlink -s`."""
    found: dict[int, tuple[int, int]] = {}
    gpu = -1
    for line in text.splitlines():
        if match := re.match(r"GPU (\d+):", line):
            gpu = int(match[1])
        elif link := re.match(r"\s+Link \d+: (.*)", line):
            up, down = found.get(gpu, (0, 0))
            alive = "inactive" not in link[1]
            found[gpu] = (up + alive, down + (not alive))
    return found


# --- topo -m -------------------------------------------------------------------------------------


def read_topology(text: str) -> dict[tuple[str, str], str]:
    """Return each cell of `nvidia-smi topo -m` by the names of its row and column.

    It is tab separated; the header is underlined for a terminal, and a cell may be empty.
    """
    lines = re.sub(r"\x1b\[\d*m", "", text).splitlines()
    header = next(line for line in lines if re.match(r"\s*GPU0\b", line))
    columns = [name.strip() for name in header.split("\t")[1:]]
    return {
        (row, column): cell
        for line in lines
        if re.match(r"(GPU|NIC)\d+\t", line)
        for row, column, cell in _cells(line.split("\t"), columns)
    }


def _cells(parts: list[str], columns: list[str]) -> Iterator[tuple[str, str, str]]:
    row, *cells = (part.strip() for part in parts)
    devices = [name for name in columns if re.fullmatch(r"(GPU|NIC)\d+", name)]
    yield from ((row, column, cell) for column, cell in zip(devices, cells, strict=False))
    rest, named = cells[len(devices) :], columns[len(devices) :]
    if len(rest) == len(named) + 1 and not rest[-2]:  # nvidia-smi puts two tabs before the last
        del rest[-2]
    yield from ((row, column, cell) for column, cell in zip(named, rest, strict=False))
