"""The checks of the layer "pytorch".  Pure.

PyTorch ran where CUDA works (`TorchReport.how`), so what fails here is PyTorch's own build, or
shows only when a GPU computes.  It is not judged on a machine that has no GPU.
"""

from __future__ import annotations

from collections.abc import Callable

from launcher.checks.check import CPU_ONLY, Check, plural
from launcher.checks.facts import replaced
from launcher.checks.facts.computing import (
    code_of,
    computes,
    device_of,
    failing,
    first_sentence,
    gpu_of,
    is_older,
    report_of,
    said,
    trial_of,
    without_code,
    words,
)
from launcher.checks.facts.how_to_run import give_named
from launcher.checks.facts.wheels import fitting_wheel
from launcher.model.evidence import Evidence, TorchReport

_PROHIBITED, _EXCLUSIVE = 2, 3  # nvmlComputeMode_t
_MIB = 1 << 20
_TRY = "python -X faulthandler -c 'import torch; torch.ones(1, device=\"cuda\")'"
_TOO_OLD = "driver on your system is too old"  # c10/cuda/CUDAFunctions.cpp
_NVML_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"


# --- the build ---------------------------------------------------------------------------------


def _built(report: TorchReport) -> str:
    return f"PyTorch {report.version}" if report.version else "PyTorch"


def _driver_cuda(seen: Evidence) -> tuple[int, int] | None:
    """Return the highest CUDA version of the driver, as the library says that PyTorch takes."""
    trial = trial_of(seen)
    if trial and trial.driver_version:
        return trial.driver_version // 1000, trial.driver_version % 1000 // 10
    return seen.report.cuda_version


def another_build(seen: Evidence) -> str:
    """Return the command that installs the build of PyTorch that fits."""
    trial, driver = trial_of(seen), _driver_cuda(seen)
    devices = trial.devices if trial else ()
    capabilities = [device.capability for device in devices if device.capability] or [
        gpu.compute_capability for gpu in seen.gpus if gpu.compute_capability
    ]
    arm = trial is not None and "aarch64" in (trial.library or "")  # wheels has those of x86-64
    version = seen.torch.version if seen.torch else None
    wheel = fitting_wheel(driver, capabilities, version) if driver and not arm else None
    if wheel:
        return f"in the container: {wheel.install}"
    cuda = f" for CUDA {driver[0]}.{driver[1]} or older" if driver else ""
    return f"in the container: install the build{cuda} that pytorch.org/get-started/locally names"


def _outcome(outcome: str, what: str) -> Callable[[Evidence], str | None]:
    def look(seen: Evidence) -> str | None:
        report = report_of(seen)
        if report is None or report.outcome != outcome:
            return None
        return f"{what}: {report.error}" if report.error else what

    return look


def _broken_fix(seen: Evidence) -> str:
    error = (seen.torch.error if seen.torch else None) or ""
    if "symbol" in error and seen.environ.get("LD_LIBRARY_PATH"):
        return (
            "in the container: env -u LD_LIBRARY_PATH python -c 'import torch'; if that works, "
            "leave the variable unset"
        )
    return another_build(seen)


def _without_cuda(seen: Evidence, *, rocm: bool) -> str | None:
    report = report_of(seen)
    if report is None or report.outcome != "ok" or report.cuda or bool(report.hip) is not rocm:
        return None
    how = f"for AMD GPUs (ROCm {report.hip})" if rocm else "without CUDA: torch.version.cuda=None"
    return f"{_built(report)} is built {how}"


def _driver_too_old(seen: Evidence) -> str | None:
    report, driver = report_of(seen), _driver_cuda(seen)
    if report is None or report.outcome != "ok" or not report.cuda or computes(report):
        return None
    older = driver is not None and driver[0] < int(report.cuda.partition(".")[0])
    told = report.error_code == 35 or any(_TOO_OLD in text for text in words(report))
    if not (older or told or failing(seen, 222, "unsupported toolchain")):
        return None
    known = f"{driver[0]}.{driver[1]}" if driver else "an older one"
    text = next((f": {first_sentence(text)}" for text in words(report)), "")
    return f"{_built(report)} is built for CUDA {report.cuda}, the driver runs {known}{text}"


def _no_code(seen: Evidence, *, older: bool) -> str | None:
    failure, report = without_code(seen), report_of(seen)
    if failure is None or report is None or is_older(seen, failure) is not older:
        return None
    device = device_of(seen, failure)
    own = "sm_{}{}".format(*device.capability) if device and device.capability else "unknown"
    code = sorted(code_of(report))
    has = "; the build has code for sm_{}{} to sm_{}{}".format(*code[0], *code[-1]) if code else ""
    return f"{said(seen, failure)}; the GPU is {own}{has}"


# --- computing ---------------------------------------------------------------------------------


def _on_device(code: int | None, text: str) -> Callable[[Evidence], str | None]:
    def look(seen: Evidence) -> str | None:
        failure = failing(seen, code, text)
        return said(seen, failure) if failure else None

    return look


def _all_prohibited(seen: Evidence) -> bool:
    """Return whether every GPU is; the layer "resources" says so."""
    return bool(seen.gpus) and all(gpu.compute_mode == _PROHIBITED for gpu in seen.gpus)


def _busy(seen: Evidence) -> str | None:
    failure = failing(seen, 46, "busy or unavailable")
    if failure is None or _all_prohibited(seen):
        return None
    gpu = gpu_of(seen, failure)
    modes = {0: "default", _PROHIBITED: "prohibited", _EXCLUSIVE: "exclusive process"}
    mode = modes.get(gpu.compute_mode) if gpu and gpu.compute_mode is not None else None
    users = f", {gpu.processes} computing on it" if gpu and gpu.processes else ""
    return said(seen, failure) + (f"; compute mode: {mode}{users}" if mode else "")


def _busy_fix(seen: Evidence) -> str:
    failure = failing(seen, 46, "busy or unavailable")
    gpu = gpu_of(seen, failure) if failure else None
    if gpu and gpu.compute_mode in (_PROHIBITED, _EXCLUSIVE):
        return f"on the host: sudo nvidia-smi -i {gpu.smi_id} -c 0; or end who uses it"
    return "on the host: nvidia-smi shows who uses it; a vGPU: nvidia-smi -q | grep -i license"


def _out_of_memory(seen: Evidence) -> str | None:
    failure = failing(seen, 2, "out of memory", "alloc_failed")
    if failure is None:
        return None
    gpu = gpu_of(seen, failure)
    if gpu is None or gpu.memory_free is None or gpu.memory_bytes is None:
        return said(seen, failure)
    free, total = gpu.memory_free // _MIB, gpu.memory_bytes // _MIB
    return f"{said(seen, failure)}; {free} of {total} MiB free"


def _reset_fix(seen: Evidence) -> str:
    report = report_of(seen)
    gpus = [gpu_of(seen, failure) for failure in report.failures] if report else []
    ids = ",".join(gpu.smi_id for gpu in gpus if gpu)
    which = f" -i {ids}" if ids else ""
    return f"on the host: nvidia-smi -q -d ECC{which}; sudo nvidia-smi -r{which}; else replace it"


def _self_test(seen: Evidence) -> str | None:
    """cudaErrorSoftwareValidityNotEstablished: the runtime's own test of the driver (CUDA 11.2)."""
    report = report_of(seen)
    if report is None or report.error_code != _VALIDITY:
        return None
    return next(words(report), f"CUDA error {_VALIDITY}")


def _self_test_fix(seen: Evidence) -> str:
    """Return how to have PyTorch's files again as they were built, then the driver's."""
    image, origin = seen.image_torch, (seen.torch.origin if seen.torch else None) or ""
    own = image is not None and origin.startswith(f"{image.prefix}/")
    anew = "create the container anew, with the image's own PyTorch"
    return (
        f"{anew if own else another_build(seen)}; if it stays, on the host: reinstall the NVIDIA "
        "driver and reboot, then create the container anew"
    )


def _disagrees(seen: Evidence) -> str | None:
    report, trial = report_of(seen), trial_of(seen)
    if report is None or trial is None or trial.outcome != "ok" or not trial.devices:
        return None
    if report.outcome != "ok" or (report.available is not False and report.devices):
        return None
    said_so = next(words(report), "PyTorch does not say why")
    return f"CUDA gives {plural(len(trial.devices), 'device')}, PyTorch none: {said_so}"


def _fails(seen: Evidence) -> str | None:
    report = report_of(seen)
    if report is None or report.outcome != "ok":
        return None
    failure = next(iter(report.failures), None)
    if failure:
        prohibited = failing(seen, 46, "busy or unavailable") and _all_prohibited(seen)
        return None if prohibited else said(seen, failure)
    return report.error


def _sees_fewer(seen: Evidence) -> str | None:
    report, trial = report_of(seen), trial_of(seen)
    if report is None or trial is None or not computes(report):
        return None
    if trial.outcome != "ok" or report.devices >= len(trial.devices):
        return None
    return f"PyTorch sees {report.devices} of {plural(len(trial.devices), 'device')}"


def _nvml_check(seen: Evidence) -> str | None:
    return f"{_NVML_CHECK}=1 is set" if seen.environ.get(_NVML_CHECK) == "1" else None


_VALIDITY = 103
_SET_INSIDE = (
    "in the container: python -c 'import os; print(os.getenv(\"CUDA_VISIBLE_DEVICES\"))' shows "
    "what Python's own start-up files (sitecustomize, *.pth) set"
)

CHECKS: tuple[Check, ...] = (
    Check("pytorch.missing", _outcome("missing", "there is no PyTorch here"),
          "programs that import torch fail", another_build),
    Check("pytorch.broken", _outcome("broken", "import torch fails"),
          "programs that import torch fail", _broken_fix),
    Check("pytorch.crashed", _outcome("crashed", "PyTorch crashes"),
          "programs that use PyTorch crash", f"in the container, to see where: {_TRY}"),
    Check("pytorch.hung", _outcome("hung", "PyTorch does not answer"),
          "programs that use PyTorch hang",
          f"in the container, to see where: timeout -s ABRT 60 {_TRY}; "
          "on the host: sudo dmesg | grep -i -e nvrm -e xid"),
    Check("pytorch.rocm", lambda seen: _without_cuda(seen, rocm=True), CPU_ONLY, another_build),
    Check("pytorch.cpu_build", lambda seen: _without_cuda(seen, rocm=False), CPU_ONLY,
          another_build),
    Check("pytorch.driver_too_old", _driver_too_old, CPU_ONLY,
          lambda seen: f"{another_build(seen)}; or, on the host, install a newer driver"),
    Check("pytorch.dropped_arch", lambda seen: _no_code(seen, older=True),
          "this build no longer knows so old a GPU: nothing runs on it", another_build),
    Check("pytorch.no_kernel", lambda seen: _no_code(seen, older=False),
          "this build has no code for this GPU: nothing runs on it", another_build),
    Check("pytorch.ecc", _on_device(214, "uncorrectable ecc"),
          "the GPU's memory has errors that ECC cannot correct", _reset_fix),
    Check("pytorch.wrong_result", _on_device(None, "wrong result"),
          "the GPU computes wrongly: do not trust it", _reset_fix),
    Check("pytorch.busy", _busy, "programs cannot use this GPU now", _busy_fix),
    Check("pytorch.out_of_memory", _out_of_memory, "other processes hold the GPU's memory",
          lambda seen: "on the host: nvidia-smi shows who holds it: end that; or take another "
          f"GPU: {give_named(seen, 'N')}"),
    Check("pytorch.self_test", _self_test, CPU_ONLY, _self_test_fix),
    Check("pytorch.disagrees", _disagrees, CPU_ONLY, _SET_INSIDE),
    Check("pytorch.fails", _fails, "programs cannot compute on this GPU",
          f"in the container, to see it alone: CUDA_LAUNCH_BLOCKING=1 {_TRY}"),
    Check("pytorch.sees_fewer", _sees_fewer, "programs leave the other devices idle", _SET_INSIDE),
    Check("pytorch.swapped", replaced.swapped,
          "what was built for the image's does not fit it, torchvision and torchaudio first",
          replaced.image_again, warning=True),
    Check("pytorch.mismatched", replaced.mismatched,
          "importing it fails, or its operators are missing", replaced.fitting_again,
          warning=True),
    Check("pytorch.nvml_based_check", _nvml_check,
          "torch.cuda.is_available() only counts GPUs: it says True where CUDA is broken",
          f"in the container: unset {_NVML_CHECK}, unless you fork after asking", warning=True),
)  # fmt: skip
