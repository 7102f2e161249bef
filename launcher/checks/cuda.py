"""The checks of the layer "cuda".  Pure.

They judge the trial with the least in its way: where a mask, an MPS variable or another library
explains the failure, that trial is well and the layers of those speak.
"""

from __future__ import annotations

from collections.abc import Callable

from launcher.checks.check import CPU_ONLY, Check, plural
from launcher.checks.facts.how_to_run import give_gpus_here, tell
from launcher.model.evidence import CLEAN, CudaTrial, Evidence
from launcher.model.machine import Gpu

_PROHIBITED = 2  # nvmlComputeMode_t
_GIB = 1 << 30
_EVERY_PROGRAM = "no program here can use CUDA"
_LOG = "sudo dmesg | grep -i -e nvrm -e xid -e uvm"


def says(trial: CudaTrial) -> str:
    """Return a trial's failure with its exact words and code."""
    words = trial.reason or trial.name or "no reason given"
    code = f" {trial.code}" if trial.code is not None else ""
    name = f" ({trial.name})" if trial.name and trial.name not in words else ""
    return f"CUDA{code}{name}: {words}"


def _fails(*codes: int) -> Callable[[Evidence], str | None]:
    """Return a check for these codes, of CUDA's initialisation or of its first questions."""

    def look(seen: Evidence) -> str | None:
        return says(seen.cuda) if seen.cuda and seen.cuda_error(*codes) else None

    return look


def _outcome(outcome: str, what: str) -> Callable[[Evidence], str | None]:
    def look(seen: Evidence) -> str | None:
        if seen.cuda is None or seen.cuda.outcome != outcome:
            return None
        return f"{what}: {seen.cuda.reason}" if seen.cuda.reason else what

    return look


def _hung_fix(seen: Evidence) -> str:
    slow = any(gpu.persistence is False for gpu in seen.gpus)
    first = "sudo nvidia-smi -pm 1 (it starts GPUs beforehand); " if slow else ""
    return f"on the host: {first}{_LOG}; a reboot frees a hung driver"


def _out_of_memory(seen: Evidence) -> str | None:
    if seen.cuda is None or not seen.cuda_error(2):
        return None
    limit = seen.limits.memory
    return says(seen.cuda) + (f"; memory limit {limit / _GIB:.1f} GiB" if limit else "")


def _usable(seen: Evidence) -> tuple[Gpu, ...]:
    """Return the GPUs that CUDA should see, each as one device."""
    return tuple(gpu for gpu in seen.gpus if gpu.compute_mode != _PROHIBITED)


def _all_prohibited(seen: Evidence) -> bool:
    """Return whether no GPU may be used for computing; the layer "resources" says so."""
    return bool(seen.gpus) and not _usable(seen)


def _unmasked(seen: Evidence) -> bool:
    """Return whether no mask of the user's can be what hides a device from the trial."""
    return seen.trial(CLEAN) is not None or "CUDA_VISIBLE_DEVICES" not in seen.environ


def _no_device(seen: Evidence) -> str | None:
    trial = seen.cuda
    if trial is None or _all_prohibited(seen) or not _unmasked(seen):
        return None
    if seen.cuda_error(100):
        what = says(trial)
    elif trial.outcome == "ok" and not trial.devices and seen.gpus:
        what = "CUDA starts and counts no device"
    else:
        return None
    return f"{what}, though NVML counts {plural(len(seen.gpus), 'GPU')}" if seen.gpus else what


def _busy(seen: Evidence) -> str | None:
    return None if _all_prohibited(seen) else _fails(46)(seen)


def _error(seen: Evidence) -> str | None:
    if seen.cuda is None or seen.cuda.outcome != "error":
        return None
    return None if seen.cuda_error(46, 100) and _all_prohibited(seen) else says(seen.cuda)


def _mismatch(seen: Evidence) -> str | None:
    if seen.cuda is None or not seen.cuda_error(803):
        return None
    module = seen.hardware.kernel_driver or "unknown"
    return f"{says(seen.cuda)}; kernel module {module}, library {seen.cuda.library or 'unknown'}"


def _missing(seen: Evidence) -> tuple[Gpu, ...]:
    """Return the GPUs that CUDA does not give though nothing is in the way."""
    trial, expected = seen.cuda, _usable(seen)
    if trial is None or trial.outcome != "ok" or not trial.devices or not _unmasked(seen):
        return ()
    # GPUs in MIG mode show as one instance, as several, or not at all: no count tells.
    if len(trial.devices) >= len(expected) or any(gpu.mig_enabled for gpu in seen.gpus):
        return ()
    known = {device.uuid for device in trial.devices}
    return tuple(gpu for gpu in expected if gpu.uuid not in known)


def _partial(seen: Evidence) -> str | None:
    missing = _missing(seen)
    if not missing or seen.cuda is None:
        return None
    names = ", ".join(f"GPU {gpu.index} ({gpu.name})" for gpu in missing)
    count = plural(len(_usable(seen)), "GPU")
    return f"CUDA sees {len(seen.cuda.devices)} of {count} that NVML counts; not there: {names}"


def _partial_fix(seen: Evidence) -> str:
    missing = _missing(seen)
    # NVML prints an eight-digit domain, the kernel's log a four-digit one.
    bus = " ".join(f"-e {gpu.smi_id[-12:-2].lower()}" for gpu in missing)
    ids = ",".join(gpu.smi_id for gpu in missing)
    return f"on the host: sudo dmesg | grep -i {bus}; sudo nvidia-smi -r -i {ids}, or reboot"


CHECKS: tuple[Check, ...] = (
    Check(
        "cuda.hung",
        _outcome("hung", "CUDA's initialisation does not end"),
        "every program that uses CUDA hangs at its start",
        _hung_fix,
    ),
    Check(
        "cuda.crashed",
        _outcome("crashed", "CUDA's initialisation crashes"),
        "every program that uses CUDA crashes at its start",
        f"create the container anew; if it stays, on the host: {_LOG}; reinstall the driver",
    ),
    Check(
        "cuda.out_of_memory",
        _out_of_memory,
        "CUDA cannot even start: it is host memory or address space that lacks",
        lambda seen: (
            "in the container: ulimit -v unlimited; else " + tell(seen.machine.host, "memory")
        ),
    ),
    Check(
        "cuda.init_failed",
        _fails(3),
        _EVERY_PROGRAM,
        f"on the host: {_LOG}; sudo rmmod nvidia_uvm && sudo modprobe nvidia_uvm",
    ),
    Check(
        "cuda.no_device",
        _no_device,
        CPU_ONLY,
        lambda seen: (
            "on the host: nvidia-smi -q | grep -i -e 'mig mode' -e virtualization; "
            f"then create the container anew: {give_gpus_here(seen)}"
        ),
    ),
    Check(
        "cuda.not_licensed",
        _fails(102),
        "the vGPU has no licence, so CUDA does not start",
        "on the host, the VM of the vGPU: sudo systemctl restart nvidia-gridd; nvidia-smi -q | "
        "grep -i license",
    ),
    Check(
        "cuda.busy",
        _busy,
        "another process has the GPU for itself, or a vGPU has no licence",
        "on the host: nvidia-smi; sudo nvidia-smi -c 0; nvidia-smi -q | grep -i license",
    ),
    Check(
        "cuda.not_ready",
        _fails(802),
        "the GPU waits for a service outside the container",
        "in a confidential VM, once attested: sudo nvidia-smi conf-compute -srs 1; "
        "with NVSwitches, on the host: sudo systemctl restart nvidia-fabricmanager",
    ),
    Check(
        "cuda.mismatch",
        _mismatch,
        "the host's driver was updated after this container was created",
        lambda seen: (
            tell(seen.machine.host, "recreate") + "; if it stays, on the host: sudo reboot"
        ),
    ),
    Check(
        "cuda.mps",
        _fails(805),
        "an MPS daemon was found and does not let this container in",
        lambda seen: (
            f"{tell(seen.machine.host, 'mps')} as the daemon's user; "
            "or stop it, on the host: echo quit | sudo nvidia-cuda-mps-control"
        ),
    ),
    Check(
        "cuda.mps_server",
        _fails(806, 807, 808, 809, 810),
        "the MPS server takes no more clients now",
        "on the host: end clients that failed (nvidia-smi); then "
        "echo quit | sudo nvidia-cuda-mps-control && sudo nvidia-cuda-mps-control -d",
    ),
    Check(
        "cuda.not_permitted",
        _fails(800),
        "something outside the container forbids what CUDA's start needs",
        lambda seen: f"try {tell(seen.machine.host, 'seccomp')}; under gVisor: with runc",
    ),
    Check(
        "cuda.operating_system",
        _fails(304),
        "a system call that CUDA's start needs was refused",
        lambda seen: (
            f"try {tell(seen.machine.host, 'seccomp')}; the profile must allow memfd_create"
        ),
    ),
    Check(
        "cuda.ecc",
        _fails(214),
        "the GPU's memory has errors that ECC cannot correct",
        "on the host: nvidia-smi -q -d ECC,ROW_REMAPPER; sudo nvidia-smi -r; if it stays: replace",
    ),
    Check(
        "cuda.unknown",
        _fails(999),
        _EVERY_PROGRAM,
        "on the host: sudo rmmod nvidia_uvm && sudo modprobe nvidia_uvm (needed after a suspend); "
        f"{_LOG}; else reboot",
    ),
    Check(
        "cuda.error",
        _error,
        _EVERY_PROGRAM,
        f"on the host: nvidia-smi; {_LOG}",
    ),
    Check(
        "cuda.partial",
        _partial,
        "programs run on the others only, under other numbers",
        _partial_fix,
    ),
)
