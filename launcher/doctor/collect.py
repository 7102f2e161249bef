"""Collect the doctor's Evidence: all that takes time, each piece in a child with a bound."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from launcher.detect import detect, user_python
from launcher.doctor import libraries as doctor_libraries
from launcher.doctor.trials import Programs, Setting, try_cuda
from launcher.model import codec
from launcher.model.evidence import AS_GIVEN, CLEAN, CudaTrial, Evidence, ImageTorch, TorchReport
from launcher.model.machine import Machine
from launcher.model.masking import is_secret, mask_text
from launcher.process.bounded import Child, wait_for

# The variables that decide about GPUs.  Evidence is printed and attached to issues.
RELEVANT = (
    "NVIDIA_", "CUDA_", "LD_", "TORCH_", "PYTORCH_", "NCCL_", "ROCR_", "HIP_", "SLURM_JOB",
    "PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH", "CONDA_PREFIX", "VIRTUAL_ENV",
    "KUBERNETES_SERVICE_HOST",
)  # fmt: skip


def relevant(environ: Mapping[str, str]) -> dict[str, str]:
    """Return those variables that matter to GPUs and are no secret (NVIDIA_API_KEY), masked."""
    return {
        name: mask_text(value)
        for name, value in sorted(environ.items())
        if name.startswith(RELEVANT) and not is_secret(name)
    }


def collect(
    machine: Machine,
    environ: Mapping[str, str],
    programs: Programs,
    *,
    with_torch: bool = True,
    cpu_only: bool = False,
    root: Path = Path("/"),
) -> Evidence:
    """Return everything that the checks look at; where no GPU is wanted, CUDA is not tried.

    Args:
        machine: as the start found it; NVML was asked in a child already.
        environ: the user's environment, the whole of it.
        programs: their deadline counts for CUDA as given, for the other tries, which run all at
            once, and for PyTorch, each.
    """
    if not machine.report.gpus and not all(card.name for card in machine.hardware.pci):
        named = detect.name_devices(machine.hardware.pci, root)
        machine = machine._replace(hardware=machine.hardware._replace(pci=named))
    libraries = doctor_libraries.find_libraries(environ, root)
    seen = Evidence(machine, relevant(environ), libraries, user=programs.user, cpu_only=cpu_only)
    programs.listener.known(seen, "hardware")
    if cpu_only:
        return seen._replace(torch=run_torch(programs, environ)) if with_torch else seen
    if seen.driver_failed("hung"):  # and CUDA would, with children that cannot be killed
        return seen
    kernel = machine.hardware.kernel_driver
    trials, settings = try_cuda(programs, environ, machine.report, kernel, libraries)
    if trials[0].library:
        libraries = doctor_libraries.take_mapped(
            libraries, doctor_libraries.CUDA, trials[0].library
        )
    seen = seen._replace(libraries=libraries, trials=trials)
    programs.listener.known(seen, "cuda")
    setting = _where_cuda_works(seen, settings)
    if with_torch and setting:
        torch = run_torch(programs, setting.for_programs(), setting.how)
        seen = seen._replace(torch=torch)
    return seen


def _where_cuda_works(seen: Evidence, settings: Mapping[str, Setting]) -> Setting | None:
    """Return the setting for PyTorch; on a machine without any GPU, the user's own."""
    for how in (AS_GIVEN, CLEAN):
        trial = seen.trial(how)
        if trial and _works(trial):
            return settings[how]
    hardware = seen.hardware
    if not (hardware.pci or hardware.kernel_driver or hardware.device_nodes or seen.gpus):
        return settings[AS_GIVEN]
    return None


def _works(trial: CudaTrial) -> bool:
    return trial.outcome == "ok" and bool(trial.devices)


def run_torch(programs: Programs, environ: Mapping[str, str], how: str = AS_GIVEN) -> TorchReport:
    """Let the user's own PyTorch run a kernel on each device, as the user.

    Importing it from a cold network disk takes minutes.
    """
    python, deadline = programs.python, programs.deadline
    try:
        child = Child([python, f"{programs.folder}/verify.py"], environ, programs.user)
    except OSError as err:
        return TorchReport("broken", f"{python}: {err.strerror}", how=how)
    slow = f"PyTorch has not answered; it has {deadline:g} s"
    (ended,) = wait_for([child], deadline, lambda: programs.listener.waiting(slow))
    answer = child.answer
    if answer is None or "outcome" not in answer:
        if not ended:
            return TorchReport("hung", f"no answer within {deadline:g} s", how=how)
        return TorchReport("crashed", child.end, how=how)
    try:
        return codec.from_json(TorchReport, json.dumps({**answer, "how": how}))
    except (ValueError, TypeError, KeyError) as err:  # another program's JSON
        return TorchReport("crashed", f"no answer that can be read: {err}", how=how)


def image_torch(python: str) -> ImageTorch | None:
    """Return the PyTorch that the image was built with; None where that is not known.

    Args:
        python: the interpreter that it was built for.
    """
    pins = user_python.constraints(python)
    if "torch" not in pins:
        return None
    beside = tuple((name, pins[name]) for name in ("torchvision", "torchaudio") if name in pins)
    return ImageTorch(pins["torch"], python.rpartition("/bin/")[0], beside)
