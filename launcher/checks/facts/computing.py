"""What PyTorch did with the devices that CUDA gave it: the facts behind the checks of it.  Pure."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.checks.facts.wheels import Capability, capability_of, runs
from launcher.model.evidence import CudaDevice, CudaTrial, Evidence, TorchFailure, TorchReport
from launcher.model.machine import Gpu


def report_of(seen: Evidence) -> TorchReport | None:
    """Return what PyTorch did, where there is a GPU that it could have used."""
    trial = trial_of(seen)
    return seen.torch if seen.gpus or (trial and trial.devices) else None


def trial_of(seen: Evidence) -> CudaTrial | None:
    """Return the trial of CUDA in the environment that PyTorch ran in."""
    return seen.trial(seen.torch.how) if seen.torch else None


def device_of(seen: Evidence, failure: TorchFailure) -> CudaDevice | None:
    trial = trial_of(seen)
    devices = trial.devices if trial else ()
    return next((device for device in devices if device.index == failure.index), None)


def gpu_of(seen: Evidence, failure: TorchFailure) -> Gpu | None:
    """Return the GPU on which PyTorch failed, or that of the MIG instance."""
    device = device_of(seen, failure)
    uuid = device.uuid if device else None
    return next((gpu for gpu in seen.gpus if uuid in (gpu.uuid, *gpu.mig_uuids)), None)


def said(seen: Evidence, failure: TorchFailure) -> str:
    """Return PyTorch's name of the device, the GPU's, and the first sentence of PyTorch's words."""
    device = device_of(seen, failure)
    name = f" ({device.name})" if device and device.name else ""
    return f"cuda:{failure.index}{name}: {first_sentence(failure.message)}"


def computes(report: TorchReport) -> bool:
    """Return whether PyTorch computed, rightly, on every device that it saw."""
    # `devices` is what NVML counts where CUDA failed to start.
    started = report.outcome == "ok" and report.available and report.error is None
    return bool(started and report.devices and not report.failures)


def first_sentence(text: str) -> str:
    return text.partition(". ")[0].rstrip(".")


def words(report: TorchReport) -> Iterator[str]:
    """Yield what PyTorch itself says of what failed, the most telling first."""
    texts = (report.error or "", *report.warnings, *(one.message for one in report.failures))
    # A warning that C++ raised ends with the place in PyTorch's source.
    yield from (text.partition(" (Triggered internally")[0].strip() for text in texts if text)


def failing(seen: Evidence, code: int | None, *texts: str) -> TorchFailure | None:
    """Return the first device that fails with this cudaError_t, or with one of these words."""
    report = report_of(seen)
    for failure in report.failures if report else ():
        told = any(text in failure.message.lower() for text in texts)
        if told or (code is not None and failure.code == code):
            return failure
    return None


def without_code(seen: Evidence) -> TorchFailure | None:
    """Return the first device that fails because the build has no code for it."""
    report = report_of(seen)
    if report is None:
        return None
    return failing(seen, 209, "no kernel image") or next(
        (one for one in report.failures if not _covered(report, device_of(seen, one))), None
    )


def is_older(seen: Evidence, failure: TorchFailure) -> bool:
    """Return whether the device is older than everything that the build has code for."""
    device, code = device_of(seen, failure), code_of(seen.torch)
    return bool(device and device.capability and code and device.capability < min(code))


def code_of(report: TorchReport | None) -> list[Capability]:
    """Return what the build has code for: "sm_90a" is code for 9.0 too."""
    numbers = (arch.partition("_")[2].rstrip("af") for arch in (report.arches if report else ()))
    return [capability_of(number) for number in numbers if number.isdigit()]


def _covered(report: TorchReport, device: CudaDevice | None) -> bool:
    if device is None or device.capability is None or not report.arches:
        return True  # as far as is known
    return runs(report.arches, device.capability)
