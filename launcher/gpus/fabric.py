"""GPUs that NVLink joins worse than their equals, and what is said of it.  Pure.

A GPU of an NVSwitch board reaches the others once the fabric manager has taken it into the fabric;
its links train without that.  nvml.h, nvmlGpuFabricInfo_v2_t: the state; the status, an
nvmlReturn_t that counts once the state is "completed"; the health mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from launcher.gpus.topology import name_gpus
from launcher.model.machine import Gpu, GpuReport
from launcher.model.named_tuple import NamedTuple
from launcher.model.plan import Finding

# Boards that only exist with NVLink: without a link that is up, something is broken.
_ALWAYS_LINKED = ("SXM", "HBM3", "HGX", "H20", "H200", "B200", "B300", "GB200")
_BRIDGE = 4  # links of one bridge, from Ampere on; older cards have two links, and one bridge

# Of the health mask: first bit, width, and what a value means (nvml.h,
# NVML_GPU_FABRIC_HEALTH_MASK_*); values that are left out are well, or not told.
_HEALTH: tuple[tuple[int, int, dict[int, str]], ...] = (
    (0, 2, {1: "its bandwidth is degraded"}),
    (2, 2, {1: "its routes are being recovered"}),
    (4, 2, {1: "a route is unhealthy"}),
    (6, 2, {1: "it recovers from access timeouts"}),
    (8, 4, {
        2: "wrong system GUID", 3: "wrong chassis serial number", 4: "no partition",
        5: "too few NVLinks", 6: "firmware that does not fit", 7: "wrong place", 8: "wrong state",
    }),
    (14, 2, {2: "the fabric manager is not connected"}),
)  # fmt: skip


class Trouble(NamedTuple):
    """One kind of it: which GPUs, with what is seen of each, and what the finding says."""

    id: str
    find: Callable[[GpuReport], dict[int, str]]  # by index: what is seen
    say: Callable[[GpuReport, dict[int, str]], str]
    means: str
    fix: Callable[[GpuReport, dict[int, str]], str]
    left_out: str = ""  # why the best N go without such a GPU; "" = they do not

    def finding(self, report: GpuReport) -> Finding | None:
        found = self.find(report)
        if not found:
            return None
        return Finding(self.id, self.say(report, found), self.means, self.fix(report, found))


def left_out(report: GpuReport) -> dict[int, str]:
    """Return the GPUs that the best N go without while others suffice, and why."""
    return {
        index: trouble.left_out
        for trouble in reversed(TROUBLES)
        if trouble.left_out
        for index in trouble.find(report)
    }


def is_on_board(gpu: Gpu) -> bool:
    """Return whether it is of a kind that only exists on boards with NVLink."""
    words = gpu.name.replace("-", " ").split()
    return not {"PCIe", "PCIE", "NVL"} & set(words) and any(
        word.startswith(sign) for word in words for sign in _ALWAYS_LINKED
    )


# --- outside the fabric -----------------------------------------------------------------------


def _equals(report: GpuReport) -> Iterator[list[Gpu]]:
    """Yield the GPUs of a board that are of one kind; MIG instances do not use NVLink."""
    kinds: dict[str, list[Gpu]] = {}
    for gpu in report.gpus:
        if not gpu.mig_enabled and (gpu.fabric or _switched(gpu) or is_on_board(gpu)):
            kinds.setdefault(gpu.name, []).append(gpu)
    yield from (gpus for gpus in kinds.values() if len(gpus) > 1)


def _switched(gpu: Gpu) -> bool:
    return any(links.to == "switch" for links in gpu.nvlinks)


def _apart(report: GpuReport, equals: Iterable[Gpu]) -> dict[int, str]:
    """Return those that reach nobody by NVLink although they should, with what is told of it."""
    reaching = {index for pair in report.pairs if pair.nvlinks for index in (pair.a, pair.b)}
    found = {}
    for gpu in equals:
        down = bool(gpu.nvlinks_down and not gpu.nvlinks_up)
        unreached = _switched(gpu) and gpu.index not in reaching
        if down or (report.pairs and unreached) or _not_joined(gpu):
            found[gpu.index] = f"{_links(gpu)}{_state(gpu)}"
    return found


def _not_joined(gpu: Gpu) -> bool:
    return bool(gpu.fabric) and (gpu.fabric != "completed" or bool(gpu.fabric_status))


def _links(gpu: Gpu) -> str:
    if gpu.nvlinks_up:
        return f"{gpu.nvlinks_up} NVLinks are up"
    return "no NVLink is up" if gpu.nvlinks_down else "no NVLink is told"


def _state(gpu: Gpu) -> str:
    if not gpu.fabric:
        return ""
    status = f", status {gpu.fabric_status}" if gpu.fabric_status else ""
    return f" (fabric: {gpu.fabric}{status})"


def _off_fabric(report: GpuReport) -> dict[int, str]:
    """Return the GPUs outside the fabric of their siblings, which are in it."""
    found: dict[int, str] = {}
    for equals in _equals(report):
        apart = _apart(report, equals)
        if len(apart) == len(equals):  # two of which one was not taken reach nobody, both
            faulty = {gpu.index for gpu in equals if _not_joined(gpu)}
            apart = {index: seen for index, seen in apart.items() if index in faulty}
        if len(apart) < len(equals):
            found |= apart
    return found


def _fabric_down(report: GpuReport) -> dict[int, str]:
    """Return the GPUs of boards on which nobody reaches anybody."""
    off, found = _off_fabric(report), dict[int, str]()
    for equals in _equals(report):
        apart = _apart(report, equals)
        if len(apart) == len(equals) and not off.keys() & apart.keys():
            found |= apart
    return found


def _each(found: dict[int, str]) -> str:
    """Return "GPUs 0-7: 18 NVLinks are up": one name for all of whom the same is seen."""
    alike: dict[str, list[int]] = {}
    for index, seen in sorted(found.items()):
        alike.setdefault(seen, []).append(index)
    return "; ".join(f"{name_gpus(indices)}: {seen}" for seen, indices in alike.items())


def _say_off(report: GpuReport, found: dict[int, str]) -> str:
    who = "it reaches none of its siblings" if len(found) == 1 else "they reach no sibling"
    return f"{_each(found)}; by NVLink {who}{_whatever_is_told(report, found)}"


def _say_down(report: GpuReport, found: dict[int, str]) -> str:
    told = _whatever_is_told(report, found)
    return f"{_each(found)}; by NVLink nobody on this board reaches anybody{told}"


def _whatever_is_told(report: GpuReport, found: dict[int, str]) -> str:
    """Return what to add where links that are up make pairs, as the matrix shows them."""
    paired = any(pair.nvlinks and {pair.a, pair.b} & found.keys() for pair in report.pairs)
    return ", whatever links and matrix say" if paired else ""


_RESTART = "on the host, with no program on any GPU: sudo systemctl restart nvidia-fabricmanager"


def _fix_off(report: GpuReport, found: dict[int, str]) -> str:
    addresses = ",".join(gpu.smi_id for gpu in report.gpus if gpu.index in found)
    rest = [str(gpu.index) for gpu in report.gpus if gpu.index not in found]
    without = ",".join(rest) if len(rest) > 1 else f"index:{rest[0]}" if rest else "none"
    reset = f"sudo nvidia-smi --gpu-reset -i {addresses}"
    return f"{_RESTART}; {reset}; until then LAUNCHER_GPUS={without}"


def _fix_down(report: GpuReport, found: dict[int, str]) -> str:
    return (
        f"{_RESTART}; systemctl status nvidia-fabricmanager says what it waits for (on B200 and "
        "later nvlsm too); nvidia-smi -q | grep -A3 Fabric then shows Completed, Success"
    )


# --- unhealthy, or with fewer links ------------------------------------------------------------


def _unhealthy(report: GpuReport) -> dict[int, str]:
    return {
        gpu.index: f"{', '.join(words)} (fabric health mask {gpu.fabric_health:#x})"
        for gpu in report.gpus
        if gpu.fabric == "completed" and (words := list(_ailments(gpu.fabric_health or 0)))
    }


def _ailments(mask: int) -> Iterator[str]:
    for first, width, words in _HEALTH:
        if said := words.get(mask >> first & ((1 << width) - 1)):
            yield said


def _fewer(report: GpuReport) -> dict[int, str]:
    """Return GPUs with fewer links up than their equals, and cards with half a bridge.

    Where all alike have links down, that is how they are built: 12 of 18 on an H100 NVL.
    """
    found: dict[int, str] = {}
    for equals in _equals(report):
        most = max(gpu.nvlinks_up for gpu in equals)
        for gpu in equals:
            if 0 < gpu.nvlinks_up < most:
                found[gpu.index] = (
                    f"{gpu.nvlinks_up} of {gpu.nvlinks_up + gpu.nvlinks_down} NVLinks are up, "
                    f"its equals have {most} ({gpu.place})"
                )
    for gpu in report.gpus:
        if not is_on_board(gpu) and _is_bridged(gpu):
            bridge = min(_BRIDGE, gpu.nvlinks_up + gpu.nvlinks_down)
            if up := gpu.nvlinks_up % bridge:
                found[gpu.index] = f"{up} of {bridge} links of its bridge are up ({gpu.place})"
    return found


def _is_bridged(gpu: Gpu) -> bool:
    """Return whether its links lead to one other card: those of a mesh lead to several."""
    ends = {(links.to, links.pci_bus_id) for links in gpu.nvlinks if links.to}
    return len(ends) == 1 and {to for to, _ in ends} == {"gpu"}


def _faulty_links(report: GpuReport) -> dict[int, str]:
    return {
        gpu.index: f"its NVLinks had to recover {times(errors.recoveries)} since the driver took "
        f"it ({errors.replays or 0} replays, {errors.crc or 0} CRC errors)"
        for gpu in report.gpus
        if (errors := gpu.nvlink_errors) and errors.recoveries
    }


def times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _say_each(report: GpuReport, found: dict[int, str]) -> str:
    return _each(found)


def _look(command: str) -> Callable[[GpuReport, dict[int, str]], str]:
    """Return a fix that looks at the first of the GPUs, by its address."""

    def fix(report: GpuReport, found: dict[int, str]) -> str:
        first = next(gpu for gpu in report.gpus if gpu.index in found)
        return command.format(first.smi_id)

    return fix


_SLOWER = "what goes to and from it takes PCIe, 10 to 100 times slower"

TROUBLES = (
    Trouble(
        "driver.off_fabric", _off_fabric, _say_off, _SLOWER, _fix_off,
        "outside the NVLink fabric",
    ),
    Trouble(
        "driver.fabric_down", _fabric_down, _say_down,
        "GPUs talk over PCIe, 10 to 100 times slower, and nothing reports an error", _fix_down,
    ),
    Trouble(
        "driver.fabric_unhealthy", _unhealthy, _say_each,
        "in the fabric, and slower there than it could be, or about to leave it",
        _look("on the host: nvidia-smi -q -i {0} | grep -A12 Fabric; sudo journalctl -u "
              "nvidia-fabricmanager; with nothing running: sudo nvidia-smi --gpu-reset -i {0}"),
        "its fabric is not healthy",
    ),
    Trouble(
        "hardware.fewer_nvlinks", _fewer, _say_each,
        "it is that much slower to talk to, and whoever waits for it is too",
        _look("on the host: nvidia-smi nvlink -s -i {0}; sudo dmesg | grep -i -e nvlink -e xid; "
              "reset the GPU, seat its bridge, or have the board looked at"),
        "fewer NVLinks than its equals",
    ),
    Trouble(
        "hardware.nvlink_errors", _faulty_links, _say_each,
        "transfers were repeated, and where that did not do, programs failed (Xid 74)",
        _look("on the host: nvidia-smi nvlink -e -i {0}; sudo dmesg | grep -i xid; if the "
              "counters grow: reset the GPU, seat its bridge, or have the board looked at"),
    ),
)  # fmt: skip
