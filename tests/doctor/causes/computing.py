"""What CUDA and PyTorch do where everything below them is well."""

from __future__ import annotations

from testing.doctor.scenario import SHORT, Scenario
from testing.doctor.tree import Changes
from tools.torch_build import FOLDER as CPU_TORCH


def cu_init(fault: str) -> Changes:
    return {"faults": {"cuInit": fault}}


CUDA = (
    Scenario(
        "cuda-hangs", "cuInit never returns.", "cuda.hung",
        changes=cu_init("hang"), environ=SHORT,
    ),
    Scenario(
        "cuda-crashes", "cuInit crashes.", "cuda.crashed",
        changes=cu_init("crash"), seen=("SIGSEGV",),
    ),
    Scenario(
        "cuda-2", "CUDA finds no memory to start in.", "cuda.out_of_memory",
        changes=cu_init("return 2"), seen=("2",), names=("ulimit -v",),
    ),
    Scenario(
        "cuda-3", "CUDA does not initialise.", "cuda.init_failed",
        changes=cu_init("return 3"), seen=("3",), names=("nvidia_uvm",),
    ),
    Scenario(
        "cuda-100", "CUDA sees no device, though NVML counts two.", "cuda.no_device",
        changes=cu_init("return 100"), seen=("100", "2 GPUs"),
    ),
    Scenario(
        "cuda-102", "A vGPU without a licence.", "cuda.not_licensed",
        changes=cu_init("return 102"), seen=("102",), names=("license",),
    ),
    Scenario(
        "cuda-46", "Every device is busy.", "cuda.busy",
        changes=cu_init("return 46"), seen=("46",), names=("nvidia-smi",),
    ),
    Scenario(
        "cuda-802", "CUDA is not ready, on a card without NVSwitches: confidential computing.",
        "cuda.not_ready", changes=cu_init("return 802"), seen=("802",), names=("conf-compute",),
    ),
    Scenario(
        "cuda-803", "CUDA refuses a driver of its own version.", "cuda.mismatch",
        changes=cu_init("return 803"), seen=("803", "550.127.05"), names=("docker run",),
    ),
    Scenario(
        "cuda-805", "CUDA meets an MPS daemon that does not let it in.", "cuda.mps",
        changes=cu_init("return 805"), seen=("805",), names=("--ipc=host",),
    ),
    Scenario(
        "cuda-808", "The MPS server takes no more clients.", "cuda.mps_server",
        changes=cu_init("return 808"), seen=("808",), names=("nvidia-cuda-mps-control",),
    ),
    Scenario(
        "cuda-800", "CUDA's start is forbidden.", "cuda.not_permitted",
        changes=cu_init("return 800"), seen=("800",), names=("seccomp",),
    ),
    Scenario(
        "cuda-304", "A system call of CUDA's is refused.", "cuda.operating_system",
        changes=cu_init("return 304"), seen=("304",), names=("seccomp",),
    ),
    Scenario(
        "cuda-214", "The memory has errors beyond correction.", "cuda.ecc",
        changes=cu_init("return 214"), seen=("214",), names=("ECC",),
    ),
    Scenario(
        "cuda-999", "CUDA fails, and does not know why.", "cuda.unknown",
        changes=cu_init("return 999"), seen=("999",), names=("nvidia_uvm",),
    ),
    Scenario(
        "cuda-other", "CUDA fails with a code that is in no table.", "cuda.error",
        changes=cu_init("return 709"), seen=("709",), names=("nvidia-smi",),
    ),
    Scenario(
        "cuda-partial", "CUDA sees one GPU of two, with nothing in the way.", "cuda.partial",
        changes={"gpu 1": {"state": "no-cuda"}}, seen=("1 of 2",), names=("dmesg",),
    ),
)  # fmt: skip

OLD_ARCHES = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]
NO_KERNEL = "CUDA error: no kernel image is available for execution on the device"
COUNT_FAILS = (
    "Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling "
    "NumCudaDevices() that might have already set an error? Error 103: integrity checks failed"
)
BUSY = "CUDA error: CUDA-capable device(s) is/are busy or unavailable"

PYTORCH = (
    Scenario(
        "no-torch", "There is no PyTorch.", "pytorch.missing",
        torch={"import": "missing"}, names=("pip install --force-reinstall torch==",),
    ),
    Scenario(
        "broken-torch", "import torch fails.", "pytorch.broken",
        torch={"import": "libcudart.so.12: cannot open shared object file"},
        seen=("libcudart.so.12",), names=("pip install --force-reinstall torch==",),
    ),
    Scenario(
        "torch-crashes", "PyTorch crashes as it computes.", "pytorch.crashed",
        torch={"compute": "crash"}, seen=("SIGSEGV",),
    ),
    Scenario(
        "torch-hangs", "PyTorch hangs as it computes.", "pytorch.hung",
        torch={"compute": "hang"}, environ=SHORT,
    ),
    Scenario(
        "cpu-build", "PyTorch was built without CUDA.", "pytorch.cpu_build",
        torch={"version": "2.6.0+cpu", "cuda": None},
        names=("pip install --force-reinstall torch==2.6.0",),
    ),
    Scenario(
        "real-cpu-build", "The same, found by running PyTorch's own CPU build.",
        "pytorch.cpu_build", torch=str(CPU_TORCH), environ={"LAUNCHER_DETECT_TIMEOUT": "30"},
        seen=("+cpu",), names=("pip install --force-reinstall torch==", "+cu1"),
    ),
    Scenario(
        "rocm", "PyTorch was built for AMD GPUs.", "pytorch.rocm",
        torch={"version": "2.6.0+rocm6.2.4", "cuda": None, "hip": "6.2.41134"},
        names=("pip install --force-reinstall torch==2.6.0",),
    ),
    Scenario(
        "driver-too-old", "PyTorch is built for a newer CUDA than the driver runs.",
        "pytorch.driver_too_old",
        torch={
            "version": "2.9.1+cu130", "cuda": "13.0", "available": False,
            "init": "The NVIDIA driver on your system is too old (found version 12040).",
        },
        seen=("13.0", "12.4"), names=("+cu126",),
    ),
    Scenario(
        "no-kernel", "A card newer than PyTorch.", "pytorch.no_kernel",
        changes={"gpu *": {"compute_capability": "12.0"}, "machine": {"cuda_version": "12.8"}},
        torch={"kernel": {"0": NO_KERNEL, "1": NO_KERNEL}}, seen=("sm_120",), names=("+cu128",),
    ),
    Scenario(
        "dropped-arch", "A card that this build of PyTorch dropped.", "pytorch.dropped_arch",
        machine="dgx1-v100-8x", gpus=(0,),
        torch={
            "version": "2.11.0+cu128", "cuda": "12.8", "arches": OLD_ARCHES,
            "kernel": {"0": NO_KERNEL},
        },
        seen=("sm_70",), names=("+cu126",),
    ),
    Scenario(
        "torch-ecc", "A memory error stops every kernel on one GPU.", "pytorch.ecc",
        torch={"kernel": {"1": "CUDA error: uncorrectable ECC error encountered"}},
        seen=("cuda:1",),
    ),
    Scenario(
        "wrong-result", "A GPU computes wrongly.", "pytorch.wrong_result",
        torch={"kernel": {"1": "wrong"}}, seen=("cuda:1",),
    ),
    Scenario(
        "torch-busy", "Another process has one GPU for itself.", "pytorch.busy",
        changes={"gpu 1": {"compute_mode": "exclusive-process", "process": "pid 4242"}},
        torch={"kernel": {"1": BUSY}}, seen=("cuda:1", "exclusive"), names=("-c 0",),
    ),
    Scenario(
        "torch-memory", "Other processes hold a GPU's memory.", "pytorch.out_of_memory",
        changes={"gpu 1": {"memory_used": "24200 MiB", "process": "pid 4242"}},
        torch={"kernel": {"1": "CUDA error: out of memory"}}, seen=("cuda:1", "MiB free"),
        warns=("resources.memory_full",),
    ),
    Scenario(
        "torch-self-test", "The driver fails the CUDA runtime's own test.", "pytorch.self_test",
        torch={
            "available": False, "init": COUNT_FAILS,
            "warning": f"CUDA initialization: {COUNT_FAILS}",
        },
        seen=("103",), names=("torch==2.6.0", "reinstall the NVIDIA driver"),
    ),
    Scenario(
        "torch-disagrees", "CUDA works, PyTorch says that it does not.", "pytorch.disagrees",
        torch={"available": False, "init": "No CUDA GPUs are available"},
        seen=("No CUDA GPUs are available",),
    ),
    Scenario(
        "torch-fails", "A kernel fails for a rare reason.", "pytorch.fails",
        torch={"kernel": {"1": "CUDA error: unspecified launch failure"}},
        seen=("unspecified launch failure",),
    ),
    Scenario(
        "torch-sees-fewer", "PyTorch counts one device of two.", "pytorch.sees_fewer",
        torch={"devices": 1}, seen=("1", "2"),
    ),
    Scenario(
        "torchvision-of-another", "torchvision was built for another PyTorch.",
        beside={"torchvision": ("0.22.1", "2.7.1"), "torchaudio": ("2.6.0", "2.6.0")},
        warns=("pytorch.mismatched",), seen=("torchvision 0.22.1", "2.7.1", "2.6.0+cu124"),
        names=("pip install --force-reinstall --no-deps torchvision==",),
    ),
    Scenario(
        "nvml-based-check", "PYTORCH_NVML_BASED_CUDA_CHECK is set.",
        environ={"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}, warns=("pytorch.nvml_based_check",),
        names=("unset PYTORCH_NVML_BASED_CUDA_CHECK",),
    ),
)  # fmt: skip
