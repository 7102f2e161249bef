"""The checks of the layer "hardware": is there a GPU, and is it sound?  Pure."""

from __future__ import annotations

from collections.abc import Callable

from launcher.checks.check import CPU_ONLY, Check, joined_worse
from launcher.checks.facts.cards import before_turing, blackwell_or_later, in_words, last_branch
from launcher.checks.facts.device_nodes import is_gpu_node, started_without_node
from launcher.checks.facts.how_to_run import give_gpus_here, give_named, is_rented
from launcher.checks.facts.mig import is_empty, make_instance, name_empty
from launcher.checks.facts.recovery import drains, needs_reset, recover, say
from launcher.model.evidence import Evidence
from launcher.model.machine import Gpu, PciDevice

# nvmlReturn_t, nvml.h
_POWER, _NOT_LOADED, _IRQ, _INFOROM, _LOST, _RESET = 8, 9, 11, 14, 15, 16
_NAMED = (_POWER, _IRQ, _INFOROM, _LOST, _RESET)

_LOOK = "on the host: sudo dmesg | grep -i -e nvrm -e xid"
_ONLY_OTHERS = "CUDA sees only the other GPUs, if any"


def _none(seen: Evidence) -> str | None:
    nodes = [path for path in seen.hardware.device_nodes if "/infiniband/" not in path]
    shown = seen.hardware.pci or seen.hardware.kernel_driver or nodes
    if shown or "nvidia" in (seen.hardware.modules or ()):
        return None
    if seen.hardware.pci_hidden:
        what = "no NVIDIA driver and no device node; the PCI bus is hidden here"
        return what if seen.driver_failed("library") else None
    # NVML 9 without a card: the image brought the library along, unless it worked before.
    brought = seen.nvml(_NOT_LOADED) and not seen.worked_before
    absent = seen.driver_failed("library") or brought
    return "no NVIDIA GPU on the PCI bus and no NVIDIA driver" if absent else None


# --- GPUs that NVML counts and cannot open -----------------------------------------------------


def _fails_with(*codes: int) -> Callable[[Evidence], str | None]:
    """Return a check for GPUs that cannot be opened for one of these reasons."""
    return lambda seen: _unopened(seen, lambda code: code in codes)


def _unopened(seen: Evidence, wanted: Callable[[int], bool]) -> str | None:
    found: dict[tuple[int, str], list[str]] = {}
    for gpu in seen.lost:
        if wanted(gpu.code):
            found.setdefault((gpu.code, gpu.error), []).append(str(gpu.index))
    if found:
        return "; ".join(
            f"GPU {', '.join(indices)}: NVML {code}: {error.rstrip('.')}"
            for (code, error), indices in found.items()
        )
    failure = seen.report.failure
    if failure and failure.code in _NAMED and wanted(failure.code):
        return f"NVML {failure.code}: {failure.reason.rstrip('.')}"
    return None


def _all_lost(seen: Evidence) -> str | None:
    return None if seen.gpus else _fails_with(_LOST)(seen)


def _unreadable(seen: Evidence) -> str | None:
    if _refused(seen):  # whether the container may open them is the runtime's layer
        return None
    return _unopened(seen, lambda code: code not in _NAMED)


def _refused(seen: Evidence) -> bool:
    return any(
        node.fault in ("EPERM", "EACCES") and is_gpu_node(node.path) for node in seen.report.nodes
    )


# --- GPUs that the driver has and NVML does not count ------------------------------------------


def _counts_none(seen: Evidence) -> bool:
    """Return whether NVML works and counts no GPU, which nobody asked for."""
    report, hardware = seen.report, seen.hardware
    none_given = seen.environ.get("NVIDIA_VISIBLE_DEVICES") == "none"
    of_runtime = _refused(seen) or (none_given and not any(map(is_gpu_node, hardware.device_nodes)))
    elsewhere = seen.has_node("/dev/nvmap") or (seen.cuda and seen.cuda.devices)
    return not (report.failure or report.gpus or report.lost or of_runtime or elsewhere)


def _of_nvidia(seen: Evidence) -> tuple[PciDevice, ...]:
    return tuple(card for card in seen.hardware.pci if card.driver in (None, "nvidia"))


def _uncounted(seen: Evidence) -> tuple[PciDevice, ...]:
    return _of_nvidia(seen) if seen.hardware.kernel_driver and _counts_none(seen) else ()


def _needs_open_module(seen: Evidence) -> str | None:
    cards = blackwell_or_later(_uncounted(seen))
    if not cards or seen.hardware.open_module is not False:
        return None
    return f"{in_words(cards)}, driven by the closed kernel module {seen.hardware.kernel_driver}"


def _needs_closed_module(seen: Evidence) -> str | None:
    cards, version = before_turing(_uncounted(seen)), seen.hardware.kernel_driver or ""
    too_new = int(version.partition(".")[0] or 0) > last_branch(cards)
    if not cards or not (seen.hardware.open_module or too_new):
        return None
    kind = "open kernel module" if seen.hardware.open_module else "kernel module"
    return f"{in_words(cards)}, older than Turing, and the {kind} {version}"


def _no_adapter(seen: Evidence) -> str | None:
    cards = _of_nvidia(seen)
    if not _counts_none(seen) or (seen.hardware.pci and not cards):  # others have the cards
        return None
    nodes = seen.hardware.device_nodes
    if seen.hardware.pci_hidden and nodes and not any(map(is_gpu_node, nodes)):
        return None  # then the likelier cause is that no GPU was given
    if started_without_node(seen):  # the card is well, and its node is not here
        return None
    driver = seen.hardware.kernel_driver or seen.report.driver_version
    known = [in_words(cards)] if cards else []
    known += [f"driver {driver}"] if driver else []
    return ": ".join(filter(None, (", ".join(known), "NVML counts 0 devices")))


# --- GPUs that answer: are they sound? ------------------------------------------------------------


def _where(is_meant: Callable[[Gpu], object], say: str) -> Callable[[Evidence], str | None]:
    """Return a check that names these GPUs; `say` may hold the GPU's fields."""
    return lambda seen: (
        "; ".join(
            f"GPU {gpu.index}: {say.format(**gpu._asdict())}" for gpu in seen.gpus if is_meant(gpu)
        )
        or None
    )


def _on_host(command: str, is_meant: Callable[[Gpu], object]) -> Callable[[Evidence], str]:
    """Return a fix for the first of these GPUs, by its address: a container numbers them anew."""

    def fix(seen: Evidence) -> str:
        first = next(gpu for gpu in seen.gpus if is_meant(gpu))
        return f"on the host: {command.format(first.smi_id)}"

    return fix


def _is_narrow(gpu: Gpu) -> bool:
    return bool(gpu.pcie_width and gpu.pcie_width_max and gpu.pcie_width < gpu.pcie_width_max)


def _remap_failed(gpu: Gpu) -> bool:
    return bool(gpu.remap_failed)


def _remap_pending(gpu: Gpu) -> bool:
    return bool(gpu.remap_pending)


def _ecc_errors(gpu: Gpu) -> bool:
    return bool(gpu.ecc_errors)


def _mig_empty(seen: Evidence) -> str | None:
    # Where CUDA has a device all the same, NVML only does not show the instance here.
    everywhere = all(map(is_empty, seen.gpus)) and not (seen.cuda and seen.cuda.devices)
    return name_empty(seen) if everywhere else None


def _some_mig_empty(seen: Evidence) -> str | None:
    return None if all(map(is_empty, seen.gpus)) else name_empty(seen)


_RESET_COMMAND = "with nothing running on it: sudo nvidia-smi --gpu-reset -i {0}"

NONE = "hardware.none"  # nothing is broken where there is nothing

CHECKS: tuple[Check, ...] = (
    Check(
        NONE, _none, CPU_ONLY,
        lambda seen: "none needed on a CPU machine; on a GPU machine: "
        + (give_gpus_here(seen) if is_rented(seen.machine.host) else "lspci -d 10de: on the host"),
    ),
    Check(
        "hardware.power_cables", _fails_with(_POWER), f"the card lacks power; {_ONLY_OTHERS}",
        "power off, seat every power cable of the card, power on",
    ),
    Check(
        "hardware.irq", _fails_with(_IRQ), f"the card's interrupts do not arrive; {_ONLY_OTHERS}",
        f"{_LOOK}; then update the BIOS, or try another slot",
    ),
    Check(
        "hardware.inforom", _fails_with(_INFOROM),
        f"the card's own configuration is damaged; {_ONLY_OTHERS}",
        "on the host: sudo reboot; if it stays, have the card replaced (RMA)",
    ),
    Check(
        "hardware.reset_required", _fails_with(_RESET),
        f"the GPU stopped after an error; {_ONLY_OTHERS}",
        "on the host, with no program on any GPU: sudo nvidia-smi --gpu-reset; else sudo reboot",
    ),
    Check(
        "hardware.all_lost", _all_lost, f"it fell off the PCI bus: {CPU_ONLY}",
        f"{_LOOK}; then sudo reboot; if it comes back: power, heat, riser, slot",
    ),
    Check(
        "hardware.lost", _fails_with(_LOST), "it fell off the PCI bus: CUDA sees only the others",
        f"{_LOOK}; then sudo reboot; if it comes back: power, heat, riser, slot",
    ),
    Check(
        "hardware.unreadable", _unreadable,
        "the driver cannot open it, and CUDA may fail on all GPUs",
        lambda seen: f"{_LOOK}; then sudo reboot; until then: "
        + give_named(seen, "UUIDS OF THE OTHERS"),
    ),
    Check(
        "hardware.needs_open_module", _needs_open_module,
        f"this card works with the open kernel module only; {CPU_ONLY}",
        "on the host: install the open module, e.g. sudo apt install nvidia-driver-580-open; "
        "sudo reboot",
    ),
    Check(
        "hardware.needs_closed_module", _needs_closed_module,
        f"it works with the closed kernel module of an older branch only; {CPU_ONLY}",
        lambda seen: "on the host: install its last one, e.g. sudo apt install "
        f"nvidia-driver-{last_branch(before_turing(_uncounted(seen)))}; sudo reboot",
    ),
    Check(
        "hardware.no_adapter", _no_adapter, f"the driver could not start the card; {CPU_ONLY}",
        "on the host: nvidia-smi -L; sudo dmesg | grep -e RmInitAdapter -e NVRM says why",
    ),
    Check(
        "hardware.mig_empty", _mig_empty, f"CUDA has no device: {CPU_ONLY}",
        make_instance,
    ),
    Check(
        "hardware.remap_failed", _where(_remap_failed, "row remapping failed"),
        "its memory is bad beyond repair, and programs on it can fail at any time",
        _on_host(
            "nvidia-smi -q -d ROW_REMAPPER -i {0}; have the card replaced (RMA)", _remap_failed
        ),
    ),
    Check(
        "hardware.some_mig_empty", _some_mig_empty, "CUDA cannot use that GPU",
        make_instance, warning=True,
    ),
    Check(
        "hardware.ecc_errors",
        _where(_ecc_errors, "uncorrectable ECC errors since the driver took it: {ecc_errors}"),
        "programs that used that memory were ended",
        _on_host(f"nvidia-smi -q -d ECC,ROW_REMAPPER -i {{0}}; {_RESET_COMMAND}", _ecc_errors),
        warning=True,
    ),
    Check(
        "hardware.remap_pending", _where(_remap_pending, "bad memory waits for a reset"),
        "the GPU works, and replaces that memory at the next reset",
        _on_host(_RESET_COMMAND, _remap_pending), warning=True,
    ),
    Check(
        "hardware.recovery_reset", say(needs_reset),
        "an error stopped it: programs on that GPU fail until then",
        recover(needs_reset), warning=True,
    ),
    Check(
        "hardware.recovery_drain", say(drains),
        "what runs there goes on, and nothing new is to be started on that GPU",
        recover(drains), warning=True,
    ),
    Check(
        "hardware.pcie_width",
        _where(_is_narrow, "{pcie_width} of {pcie_width_max} PCIe lanes in use"),
        "copies to and from the GPU are slower than they could be",
        _on_host("sudo lspci -vv -s {0} | grep LnkSta; reseat the card or its riser", _is_narrow),
        warning=True,
    ),
    *joined_worse("hardware."),
)  # fmt: skip
