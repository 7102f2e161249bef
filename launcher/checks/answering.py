"""The checks of the layer "hardware" on GPUs that answer: are they sound?  Pure."""

from __future__ import annotations

from collections.abc import Callable

from launcher.checks.check import CPU_ONLY, Check
from launcher.model.evidence import Evidence
from launcher.model.machine import Gpu


def _where(is_meant: Callable[[Gpu], object], say: str) -> Callable[[Evidence], str | None]:
    """Return a check that names these GPUs; `say` may hold the GPU's fields."""
    return lambda seen: (
        "; ".join(
            f"GPU {gpu.index}: {say.format(**vars(gpu))}" for gpu in seen.gpus if is_meant(gpu)
        )
        or None
    )


def _on_host(command: str, is_meant: Callable[[Gpu], object]) -> Callable[[Evidence], str]:
    """Return a fix for the first of these GPUs, by its address: a container numbers them anew."""

    def fix(seen: Evidence) -> str:
        first = next(gpu for gpu in seen.gpus if is_meant(gpu))
        return f"on the host: {command.format(first.pci_bus_id)}"

    return fix


def _is_empty(gpu: Gpu) -> bool:
    return bool(gpu.mig_enabled) and not gpu.mig_devices


def _is_narrow(gpu: Gpu) -> bool:
    return bool(gpu.pcie_width and gpu.pcie_width_max and gpu.pcie_width < gpu.pcie_width_max)


def _remap_failed(gpu: Gpu) -> bool:
    return bool(gpu.remap_failed)


def _remap_pending(gpu: Gpu) -> bool:
    return bool(gpu.remap_pending)


def _ecc_errors(gpu: Gpu) -> bool:
    return bool(gpu.ecc_errors)


_NAME_EMPTY = _where(_is_empty, "MIG mode is on, and there is no MIG instance")


def _mig_empty(seen: Evidence) -> str | None:
    # Where CUDA has a device all the same, NVML only does not show the instance here.
    everywhere = all(map(_is_empty, seen.gpus)) and not (seen.cuda and seen.cuda.devices)
    return _NAME_EMPTY(seen) if everywhere else None


def _some_mig_empty(seen: Evidence) -> str | None:
    return None if all(map(_is_empty, seen.gpus)) else _NAME_EMPTY(seen)


_CREATE_INSTANCE = (
    "sudo nvidia-smi mig -i {0} -cgi 0 -C makes one of the whole GPU (mig -lgip lists others); "
    "without MIG: sudo nvidia-smi -i {0} -mig 0"
)
_RESET = "with nothing running on it: sudo nvidia-smi --gpu-reset -i {0}"

CHECKS: tuple[Check, ...] = (
    Check(
        "hardware.mig_empty",
        _mig_empty,
        f"CUDA has no device: {CPU_ONLY}",
        _on_host(_CREATE_INSTANCE, _is_empty),
    ),
    Check(
        "hardware.remap_failed",
        _where(_remap_failed, "row remapping failed"),
        "its memory is bad beyond repair, and programs on it can fail at any time",
        _on_host(
            "nvidia-smi -q -d ROW_REMAPPER -i {0}; have the card replaced (RMA)", _remap_failed
        ),
    ),
    Check(
        "hardware.some_mig_empty",
        _some_mig_empty,
        "CUDA cannot use that GPU",
        _on_host(_CREATE_INSTANCE, _is_empty),
        warning=True,
    ),
    Check(
        "hardware.ecc_errors",
        _where(_ecc_errors, "uncorrectable ECC errors since the driver took it: {ecc_errors}"),
        "programs that used that memory were ended",
        _on_host(f"nvidia-smi -q -d ECC,ROW_REMAPPER -i {{0}}; {_RESET}", _ecc_errors),
        warning=True,
    ),
    Check(
        "hardware.remap_pending",
        _where(_remap_pending, "bad memory waits for a reset"),
        "the GPU works, and replaces that memory at the next reset",
        _on_host(_RESET, _remap_pending),
        warning=True,
    ),
    Check(
        "hardware.pcie_width",
        _where(_is_narrow, "{pcie_width} of {pcie_width_max} PCIe lanes in use"),
        "copies to and from the GPU are slower than they could be",
        _on_host("sudo lspci -vv -s {0} | grep LnkSta; reseat the card or its riser", _is_narrow),
        warning=True,
    ),
)
