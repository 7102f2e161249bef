"""What can be wrong with the cards themselves, and with the kernel's driver of them."""

from __future__ import annotations

from testing.doctor.scenario import SHORT, Scenario
from testing.doctor.tree import LIBRARIES, PCI, bound_to, removed, written

NOTHING_INJECTED = removed("dev/nvidia*", f"{LIBRARIES}/*")
NO_CARDS = removed(f"{PCI}/*")
NO_DRIVER = removed("proc/driver/nvidia", "proc/modules")
NO_GPU_ANSWERS: tuple[int, ...] = ()

OPEN_MODULE = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.127.05  Release Build\n"


def per_gpu(code: int, *gpus: int) -> dict[str, dict[str, str | None]]:
    """Let NVML refuse the handles of some GPUs with this code."""
    return {"faults": {f"nvmlDeviceGetHandleByIndex gpu {gpu}": f"return {code}" for gpu in gpus}}


def every_gpu(**values: str) -> dict[str, dict[str, str | None]]:
    return {"gpu *": dict(values)}


HARDWARE = (
    Scenario(
        "no-gpu", "A machine without an NVIDIA GPU.", "hardware.none",
        tree=(NOTHING_INJECTED, NO_CARDS, NO_DRIVER),
    ),
    Scenario(
        "one-lost", "One GPU of eight fell off the bus.", "hardware.lost",
        machine="h100-8x-one-lost", seen=("GPU 3", "15"), names=("reboot",),
    ),
    Scenario(
        "all-lost", "Every GPU fell off the bus.", "hardware.all_lost",
        changes=every_gpu(state="lost"), seen=("GPU is lost",),
    ),
    Scenario(
        "reset-required", "A GPU waits for a reset.", "hardware.reset_required",
        changes=per_gpu(16, 1), seen=("GPU 1", "16"), names=("nvidia-smi --gpu-reset",),
    ),
    Scenario(
        "power-cables", "A card has too little power.", "hardware.power_cables",
        changes=per_gpu(8, 1), names=("power",),
    ),
    Scenario(
        "interrupts", "A card's interrupts do not arrive.", "hardware.irq",
        changes=per_gpu(11, 0, 1),
    ),
    Scenario(
        "inforom", "A card's infoROM is corrupted.", "hardware.inforom",
        changes=per_gpu(14, 1), seen=("infoROM",),
    ),
    Scenario(
        "unreadable", "A GPU cannot be opened, for an unknown reason.", "hardware.unreadable",
        changes=per_gpu(999, 1), seen=("999",),
    ),
    Scenario(
        "no-adapter", "The kernel driver could not start the cards.", "hardware.no_adapter",
        gpus=NO_GPU_ANSWERS, names=("dmesg",),
        tree=(
            written(f"{PCI}/0000:0a:00.0/vendor", "0x10de\n"),
            written(f"{PCI}/0000:0a:00.0/class", "0x030000\n"),
            written(f"{PCI}/0000:0a:00.0/device", "0x2204\n"),
        ),
    ),
    Scenario(
        "needs-open-module", "A Blackwell card under the closed kernel module.",
        "hardware.needs_open_module", gpus=NO_GPU_ANSWERS, names=("open",),
        tree=(
            written(f"{PCI}/0000:0a:00.0/vendor", "0x10de\n"),
            written(f"{PCI}/0000:0a:00.0/class", "0x030000\n"),
            written(f"{PCI}/0000:0a:00.0/device", "0x2b85\n"),
        ),
    ),
    Scenario(
        "needs-closed-module", "A card older than Turing under the open kernel module.",
        "hardware.needs_closed_module", gpus=NO_GPU_ANSWERS,
        tree=(
            written(f"{PCI}/0000:0a:00.0/vendor", "0x10de\n"),
            written(f"{PCI}/0000:0a:00.0/class", "0x030000\n"),
            written(f"{PCI}/0000:0a:00.0/device", "0x1b06\n"),
            written("proc/driver/nvidia/version", OPEN_MODULE),
        ),
    ),
    Scenario(
        "remap-failed", "A card has more bad memory rows than spare ones.",
        "hardware.remap_failed", machine="h100-8x",
        changes={"gpu 3": {"remapped_rows_failure": "yes"}}, seen=("3",),
    ),
    Scenario(
        "mig-empty", "The only GPU is in MIG mode and has no instance.", "hardware.mig_empty",
        machine="h100-8x", gpus=(0,), changes=every_gpu(mig_mode="enabled"),
        names=("nvidia-smi mig",),
    ),
    Scenario(
        "remap-pending", "Bad memory waits for a reset to be replaced.",
        machine="h100-8x", changes={"gpu 3": {"remapped_rows_pending": "yes"}},
        warns=("hardware.remap_pending",), names=("nvidia-smi",),
    ),
    Scenario(
        "needs-reset", "The driver says that a GPU needs a reset.",
        machine="h100-8x", changes={"gpu 3": {"recovery_action": "gpu-reset"}},
        warns=("hardware.recovery_reset",), seen=("GPU 3", "a reset"), names=("--gpu-reset -i",),
    ),
    Scenario(
        "drains", "The driver says that a GPU needs a reset when its work has ended.",
        machine="h100-8x", changes={"gpu 3": {"recovery_action": "drain-and-reset"}},
        warns=("hardware.recovery_drain",), names=("let it end",),
    ),
    Scenario(
        "ecc-errors", "A card had memory errors that ECC could not correct.",
        machine="h100-8x", changes={"gpu 3": {"ecc_volatile_uncorrected": "2"}},
        warns=("hardware.ecc_errors",),
    ),
    Scenario(
        "pcie-width", "A card's PCIe link is narrower than it could be.",
        changes={"gpu 1": {"pcie_width": "4"}}, warns=("hardware.pcie_width",),
    ),
    Scenario(
        "some-mig-empty", "One GPU of eight is in MIG mode and has no instance.",
        machine="h100-8x", changes={"gpu 5": {"mig_mode": "enabled"}},
        warns=("hardware.some_mig_empty",), names=("nvidia-smi mig",),
    ),
    Scenario(
        "fewer-nvlinks", "A GPU has fewer NVLinks up than its equals.", machine="h100-8x",
        changes={"gpu 3": {
            "nvlink 13-17": None, "nvlink 16-17": "disabled",
            "nvlink 13-15": "enabled, version 4.0, switch 00000000:0A:00.0, p2p",
        }},
        warns=("hardware.fewer_nvlinks",), seen=("GPU 3: 16 of 18", "00000000:5D:00.0"),
        names=("nvidia-smi nvlink -s -i 00000000:5D:00.0",),
    ),
    Scenario(
        "nvlink-errors", "NVLinks of a GPU fail, and are trained anew.", machine="h100-8x",
        changes={"gpu 6": {"link_recovery_errors": "4", "link_replay_errors": "17"}},
        warns=("hardware.nvlink_errors",), seen=("GPU 6", "4 times", "17 replays"),
        names=("nvidia-smi nvlink -e -i 00000000:BA:00.0",),
    ),
)  # fmt: skip

DRIVER = (
    Scenario(
        "nvml-hangs", "The driver does not answer.", "driver.hung",
        machine="hung-init", environ=SHORT, names=("host",),
    ),
    Scenario(
        "nvml-crashes", "The driver's library crashes.", "driver.crashed",
        machine="crash-init", seen=("SIGSEGV",),
    ),
    Scenario(
        "module-not-loaded", "Cards, but no kernel driver.", "driver.not_loaded",
        tree=(NOTHING_INJECTED, NO_DRIVER, bound_to("")), names=("modprobe nvidia",),
    ),
    Scenario(
        "nouveau", "The cards belong to the driver nouveau.", "driver.nouveau",
        tree=(
            NOTHING_INJECTED, removed("proc/driver/nvidia"), bound_to("nouveau"),
            written("proc/modules", "nouveau 1 0 - Live\n"),
        ),
        names=("nouveau",),
    ),
    Scenario(
        "vfio", "The cards are kept for a virtual machine.", "driver.vfio",
        tree=(
            NOTHING_INJECTED, removed("proc/driver/nvidia"), bound_to("vfio-pci"),
            written("proc/modules", "vfio_pci 1 0 - Live\n"),
        ),
        names=("driverctl unset-override 0000:0a:00.0",),
    ),
    Scenario(
        "not-loaded-nvml", "The libraries are here, the kernel driver is not.",
        "driver.not_loaded_nvml",
        changes={"faults": {"nvmlInit": "return 9", "cuInit": "return 100"}},
        tree=(NO_DRIVER, bound_to("")), seen=("9",), names=("modprobe nvidia",),
    ),
    Scenario(
        "too-old", "The kernel driver is older than CUDA 12.", "driver.too_old",
        changes={"machine": {"driver_version": "470.256.02", "cuda_version": "11.4"}},
        torch={
            "available": False,
            "init": "The NVIDIA driver on your system is too old (found version 11040).",
        },
        seen=("470.256.02",), names=("nvidia-driver",),
    ),
    Scenario(
        "too-old-for-good", "A Kepler card, whose last driver it is.", "driver.too_old",
        machine="k80",
        torch={
            "available": False,
            "init": "The NVIDIA driver on your system is too old (found version 11040).",
        },
        names=("470", "CUDA 11", "LAUNCHER_GPUS=none"), dropped=("580", "apt install"),
    ),
    Scenario(
        "mismatch", "The driver was updated and its kernel module not reloaded.",
        "driver.mismatch",
        changes={
            "machine": {"driver_version": "565.57.01", "kernel_module_version": "550.127.05"},
            "faults": {"nvmlInit": "return 18", "cuInit": "return 803"},
        },
        seen=("18", "550.127.05"),
    ),
    Scenario(
        "uvm-not-loaded", "The kernel module nvidia_uvm is not loaded.",
        "driver.uvm_not_loaded",
        changes={"faults": {"cuInit": "return 999"}},
        tree=(
            removed("dev/nvidia-uvm*"), written("proc/modules", "nvidia 1 0 - Live\n"),
        ),
        names=("nvidia-modprobe",),
    ),
    Scenario(
        "fabric-manager", "NVSwitches, and no fabric manager runs.", "driver.fabric_manager",
        machine="h100-8x",
        changes={**every_gpu(fabric_state="not-started"), "faults": {"cuInit": "return 802"}},
        names=("nvidia-fabricmanager",),
    ),
    Scenario(
        "off-fabric", "The NVSwitch fabric did not take one GPU.",
        machine="h100-8x", changes={"gpu 2": {"fabric_status": "999"}},
        warns=("driver.off_fabric",), seen=("GPU 2", "999"),
        names=("nvidia-fabricmanager", "00000000:3A:00.0", "LAUNCHER_GPUS=0,1,3,4,5,6,7"),
    ),
    Scenario(
        "fabric-in-progress", "The NVSwitch fabric never gets ready, and CUDA works all the same.",
        machine="h100-8x", changes=every_gpu(fabric_state="in-progress"),
        warns=("driver.fabric_down",), seen=("GPUs 0-7", "in progress"),
        names=("nvidia-fabricmanager", "nvlsm"),
    ),
    Scenario(
        "fabric-degraded", "A GPU's way into the NVSwitch fabric is degraded.",
        machine="h100-8x", changes={"gpu 4": {"fabric_health_mask": "0x1a9"}},
        warns=("driver.fabric_unhealthy",), seen=("GPU 4", "0x1a9"),
        names=("nvidia-smi -q -i 00000000:9A:00.0",),
    ),
    Scenario(
        "hmm", "The open kernel module fails on HMM under KASLR.", "driver.hmm",
        changes={"faults": {"cuInit": "return 3"}},
        tree=(written("proc/driver/nvidia/version", OPEN_MODULE),),
        names=("uvm_disable_hmm=1",),
    ),
    Scenario(
        "persistence-off", "The driver lets idle GPUs of a server go.",
        machine="h100-8x", changes=every_gpu(persistence_mode="disabled"),
        warns=("driver.persistence_off",), names=("nvidia-persistenced",),
    ),
    Scenario(
        "nvml-timeout", "NVML reports a time-out.", "driver.timeout",
        changes={"faults": {"nvmlInit": "return 10"}}, seen=("10",),
    ),
    Scenario(
        "nvml-other", "NVML reports something rare.", "driver.nvml",
        changes={"faults": {"nvmlInit": "return 23"}}, seen=("23",),
    ),
)  # fmt: skip
