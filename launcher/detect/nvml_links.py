"""Read from NVML how GPUs are connected.  Only this module and `nvml` import pynvml."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from ctypes import byref
from functools import partial
from itertools import combinations
from typing import Any

import pynvml

from launcher.detect.nvml_errors import field
from launcher.model.cpu_list import write_list
from launcher.model.machine import Gpu, NvLinkErrors, NvLinks, Pair
from launcher.model.named_tuple import NamedTuple

# nvml.h, nvmlGpuTopologyLevel_t and nvmlGpuP2PStatus_t.
_PATHS = {0: "INTERNAL", 10: "PIX", 20: "PXB", 30: "PHB", 40: "NODE", 50: "SYS"}
_P2P = {0: "OK", 1: "CNS", 2: "GNS", 3: "TNS", 4: "DR", 5: "NS", 6: "U"}
_READ, _NVLINK = 0, 2  # nvmlGpuP2PCapsIndex_t; pynvml's own _READ is a tuple by mistake
_FABRIC = {1: "not started", 2: "in progress", 3: "completed"}
# NVML_NVLINK_VERSION_*, which are not the versions' own numbers, and NVML_NVLINK_DEVICE_TYPE_*.
_VERSIONS = {1: "1.0", 2: "2.0", 3: "2.2", 4: "3.0", 5: "3.1", 6: "4.0", 7: "5.0", 8: "6.0"}
_ENDS = {0: "gpu", 1: "ibmnpu", 2: "switch"}

Bus = tuple[int, int, int]  # domain, bus, device


class Fabric(NamedTuple):
    """How far the NVSwitch fabric has come, as one GPU sees it."""

    state: str | None = None
    domain: tuple[bytes, int] | None = None  # cluster and clique, once it is completed
    status: int | None = None  # nvmlReturn_t; told once it is completed
    health: int | None = None  # the mask, of drivers that have one


def read_nvlinks(device: Any) -> tuple[tuple[NvLinks, ...], str | None]:
    """Return the NVLinks of `device`, by what they lead to, and their version.

    State, remote type and address are asked link by link: NVML_ERROR_INVALID_ARGUMENT ends the
    list, NOT_SUPPORTED only skips one (nvml.h, NvLink Methods).
    """
    ends: Counter[tuple[str | None, str | None]] = Counter()
    version = None
    for link in range(pynvml.NVML_NVLINK_MAX_LINKS):
        try:
            active = pynvml.nvmlDeviceGetNvLinkState(device, link) == 1
        except pynvml.NVMLError_InvalidArgument:
            break
        except pynvml.NVMLError:
            continue
        if active:
            version = version or field(partial(pynvml.nvmlDeviceGetNvLinkVersion, device, link))
        ends[_read_end(device, link) if active else (None, None)] += 1
    links = tuple(NvLinks(count, to, bus_id) for (to, bus_id), count in ends.items())
    return links, _VERSIONS.get(version or 0)


def _read_end(device: Any, link: int) -> tuple[str, str | None]:
    kind = field(partial(pynvml.nvmlDeviceGetNvLinkRemoteDeviceType, device, link))
    remote = field(partial(pynvml.nvmlDeviceGetNvLinkRemotePciInfo, device, link))
    bus_id = remote.busId if remote and parse_bus(remote.busId) else None
    return _ENDS.get(-1 if kind is None else kind, "unknown"), bus_id


# Sums over all links: recoveries, replays, CRC errors of flits and of data.
_ERRORS = (
    pynvml.NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL,
    pynvml.NVML_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL,
    pynvml.NVML_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL,
    pynvml.NVML_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL,
)


def read_nvlink_errors(device: Any) -> NvLinkErrors | None:
    """Return the error counters of a GPU that has NVLinks; one call asks for all of them.

    Each has a return code and a type of its own (nvml.h, nvmlFieldValue_t).
    """
    recoveries, replays, *crc = _read_fields(device, _ERRORS)
    if recoveries is None:
        return None
    known = [count for count in crc if count is not None]
    return NvLinkErrors(recoveries, replays, sum(known) if known else None)


def read_field(device: Any, id: int) -> int | None:
    """Return a value that has no function of its own: NVML_FI_DEV_*."""
    return _read_fields(device, (id,))[0]


def _read_fields(device: Any, ids: Sequence[int]) -> list[int | None]:
    values = field(lambda: pynvml.nvmlDeviceGetFieldValues(device, list(ids)))
    if values is None:
        return [None] * len(ids)
    return [None if value.nvmlReturn else _number(value) for value in values]


def _number(value: Any) -> int:
    """Return a field's value by its nvmlValueType_t; another type than a whole number is 0."""
    union = {
        pynvml.NVML_VALUE_TYPE_UNSIGNED_INT: "uiVal",
        pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG: "ulVal",
        pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "ullVal",
    }
    name = union.get(value.valueType)
    return int(getattr(value.value, name)) if name else 0


def read_fabric(device: Any) -> Fabric:
    """Return the state of the NVSwitch fabric; A100 boards have one and say nothing of it."""
    info = pynvml.c_nvmlGpuFabricInfoV_t()  # pynvml hands it on as it is: a pointer is ours to make
    health = None
    if field(lambda: pynvml.nvmlDeviceGetGpuFabricInfoV(device, byref(info))) is not None:
        health = int(info.healthMask)
    else:
        info = pynvml.c_nvmlGpuFabricInfo_t()
        if field(lambda: pynvml.nvmlDeviceGetGpuFabricInfo(device, byref(info))) is None:
            return Fabric()
    state = _FABRIC.get(int(info.state))
    if state != "completed":
        return Fabric(state)
    return Fabric(state, (bytes(info.clusterUuid), int(info.cliqueId)), int(info.status), health)


def read_pairs(
    gpus: Sequence[Gpu], devices: Mapping[int, Any], fabrics: Mapping[int, Fabric]
) -> tuple[Pair, ...]:
    """Return how every two of `gpus` are connected; `devices` and `fabrics` are by index.

    Integrated GPUs, which have no address and no link, have none.
    """
    return tuple(
        _read_pair(one, other, devices, _in_other_domains(fabrics[one.index], fabrics[other.index]))
        for one, other in combinations((gpu for gpu in gpus if gpu.pci_bus_id), 2)
    )


def _in_other_domains(one: Fabric, other: Fabric) -> bool:
    return bool(one.domain and other.domain and one.domain != other.domain)


def _read_pair(one: Gpu, other: Gpu, devices: Mapping[int, Any], apart: bool) -> Pair:
    a, b = devices[one.index], devices[other.index]
    ancestor = field(lambda: pynvml.nvmlDeviceGetTopologyCommonAncestor(a, b))
    read = field(lambda: pynvml.nvmlDeviceGetP2PStatus(a, b, _READ))
    nvlink = field(lambda: pynvml.nvmlDeviceGetP2PStatus(a, b, _NVLINK))
    count, via = count_nvlinks(one, other)
    # nvidia-smi prints NV# only where P2P over NVLink is said to be OK.
    if nvlink not in (None, 0) or (apart and via != "direct"):
        count, via = 0, None
    return Pair(
        a=one.index,
        b=other.index,
        nvlinks=count,
        via=via,
        path=None if ancestor is None else _PATHS.get(ancestor),
        p2p=None if read is None else _P2P.get(read),
    )


def count_nvlinks(one: Gpu, other: Gpu) -> tuple[int, str | None]:
    """Return the NVLinks between two GPUs, and what they go through.

    Through NVSwitch every GPU reaches every other with all its links, so the lesser of the two
    counts.
    """
    address = parse_bus(other.pci_bus_id)
    if address and (direct := _count(one, lambda end: parse_bus(end.pci_bus_id) == address)):
        return direct, "direct"
    for via, leads_there in _SWITCHES.items():
        if shared := min(_count(one, leads_there), _count(other, leads_there)):
            return shared, via
    return 0, None


def _count(gpu: Gpu, leads_there: Callable[[NvLinks], bool]) -> int:
    return sum(links.count for links in gpu.nvlinks if leads_there(links))


# An end without an address is a switch that the VM does not see (NCCL, src/graph/xml.cc).
_SWITCHES: Mapping[str, Callable[[NvLinks], bool]] = {
    "switch": lambda end: end.to == "switch" and end.pci_bus_id is not None,
    "hidden switch": lambda end: end.to in ("switch", "unknown") and end.pci_bus_id is None,
}


def parse_bus(text: str | bytes | None) -> Bus | None:
    """Return "0000:18:00.0", in any of its spellings, as numbers; None for what is not one.

    NVML prints the domain with four digits or eight, in either case, and a switch that a VM
    does not see as an empty string or as all ones (NCCL, src/graph/xml.cc).
    """
    text = text.decode(errors="replace") if isinstance(text, bytes) else text or ""
    try:
        domain, bus, rest = text.split(":")
        device, _, _ = rest.partition(".")
        address = (int(domain, 16), int(bus, 16), int(device, 16))
    except ValueError:
        return None
    return None if address[0] >= 0xFFFFFFF else address


def list_bits(words: Sequence[int]) -> str:
    """Return a mask of CPUs or nodes, in 64-bit words, as a kernel list: "0-51,104-155"."""
    return write_list(
        64 * at + bit
        for at, word in enumerate(words)
        if word  # almost all are empty
        for bit in range(64)
        if word >> bit & 1
    )
