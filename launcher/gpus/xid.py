"""What NVIDIA's driver means by an Xid: what happened, whose fault it is, what to do.  Pure.

The catalogue for Ampere and later is CATALOG (immediate action, trigger conditions; as of 2026),
the names are in open-gpu-kernel-modules, nverror.h.  Drivers from 570 on say themselves what a GPU
needs (NVML_FI_DEV_GET_GPU_RECOVERY_ACTION; nvidia-smi(1), "GPU Recovery Action"): that counts for
more than the table, which cannot know whether an error was contained.
"""

from __future__ import annotations

from collections.abc import Iterable

from launcher.model.named_tuple import NamedTuple

CATALOG = "https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html"
GUIDELINES = "https://docs.nvidia.com/deploy/gpu-debug-guidelines/index.html"
MEMORY = "https://docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt/index.html"
# NVIDIA's own device plugin leaves a GPU healthy after 13, 31, 43, 45, 68 and 109.
PLUGIN = "https://github.com/NVIDIA/k8s-device-plugin/blob/main/internal/rm/health.go"

FAULTS = {
    "program": "the program's fault",
    "driver": "the driver's fault, or its firmware's",
    "card": "the card's fault",
    "link": "the fault of a link: PCIe, NVLink or C2C",
    "power": "power or heat",
}


class Advice(NamedTuple):
    """What follows, and what mends it, in the words of a container of Docker's."""

    follows: str
    fix: str = ""  # {0} = the GPU, as nvidia-smi -i takes it; "" = nothing to do
    resets: bool = False  # nothing runs on the GPU before that


_LOOK = "on the host: sudo dmesg | grep -i -e nvrm -e xid"
_RESET = "on the host: sudo nvidia-smi --gpu-reset -i {0}"

ADVICE = {
    "nothing": Advice("the GPU works on"),
    "restart": Advice(
        "the program that hit it fails, and the GPU works on",
        f"start that program again; if it comes back: {_LOOK}",
    ),
    "debug": Advice(
        "that program fails, and the GPU works on",
        "start it again; to find the place: CUDA_LAUNCH_BLOCKING=1 python …, or "
        "compute-sanitizer python …",
    ),
    "contained": Advice(
        "the program that used that memory fails, and the GPU works on",
        f"start that program again; when nothing runs, {_RESET}",
    ),
    "reset": Advice(
        "programs on that GPU fail until it is reset",
        f"end what runs on it, and stop this box; then {_RESET}, else sudo reboot",
        resets=True,
    ),
    "reboot": Advice(
        "programs on that GPU fail until its host has been rebooted",
        "on the host: sudo reboot",
        resets=True,
    ),
    "bus": Advice(
        "programs on that GPU fail until its host has been rebooted",
        "on the host: sudo reboot; if it comes back: power, heat, riser, slot",
        resets=True,
    ),
    "drain": Advice(
        "what runs there may end in peace; nothing new is to be started on that GPU",
        "let what runs there end, and ask once more, on the host: nvidia-smi -q -i {0}",
    ),
    "drain and reset": Advice(
        "what runs there goes on, with less of the GPU than before",
        f"let it end, start nothing new there, and stop this box; then {_RESET}",
    ),
    "imex": Advice(
        "memory cannot be shared with other machines",
        "on the host: sudo systemctl restart nvidia-imex",
    ),
    "cables": Advice(
        "the card lacks power, and is slow or fails",
        "on the host: power off, seat every power cable of the card, power on",
    ),
    "update": Advice("that program fails", "on the host: update the driver"),
    "replace": Advice(
        "the GPU works on, and it may come back",
        f"{_LOOK}; if it comes back, have the card replaced (RMA)",
    ),
    "ask": Advice(
        "the GPU works on, or fails",
        "ask the driver what it needs, on the host: nvidia-smi -q -i {0} | grep -i recovery; "
        "sudo dmesg | grep -i -e nvrm -e xid",
    ),
}

_CHANGED = 154


class Need(NamedTuple):
    """What a driver says that a GPU needs."""

    words: str
    advice: Advice


# nvmlDeviceGpuRecoveryAction_t, nvml.h
_NONE = 0
_OTHER = Need("something of which this launcher has not heard", ADVICE["ask"])
_NEEDS = {
    1: Need("a reset", ADVICE["reset"]),
    2: Need("a reboot of its host", ADVICE["reboot"]),
    3: Need("what other GPUs send it to end", ADVICE["drain"]),
    4: Need("a reset, once what runs there has ended", ADVICE["drain and reset"]),
    5: Need("the IMEX service of its host anew", ADVICE["imex"]),
    6: Need("a reset of its bus", ADVICE["reset"]),
    7: Need("a reboot of its host", ADVICE["reboot"]),
}


class Xid(NamedTuple):
    """One code of the catalogue."""

    means: str
    fault: str  # a key of FAULTS; "" = nobody's
    action: str  # a key of ADVICE


UNKNOWN = Xid("an error that NVIDIA's catalogue does not explain", "", "ask")

_COPY_ENGINES = (39, 40, 41, 70, 71, 72, 75, 76, 77, 85, *range(126, 136))
_VIDEO_ENGINES = (60, 68, *range(82, 85), 86, 88, 89, *range(96, 106), 139, 142)
_NVLINK_5 = range(144, 151)
_ECC = "memory with an error that ECC could not correct"

# By codes that mean the same.
_ROWS: tuple[tuple[Iterable[int], Xid], ...] = (
    ((8,), Xid("a program's work did not end", "driver", "restart")),
    ((11, 25, 69), Xid("a program sent commands that the GPU does not know", "program", "restart")),
    ((13,), Xid("a program went past the end of an array, or the like", "program", "debug")),
    ((31,), Xid("a program used an address that it does not have", "program", "debug")),
    ((32, 80), Xid("commands were damaged on their way to the GPU", "link", "restart")),
    ((37, 38, 44, 66, 67, 141), Xid("an error within the driver", "driver", "nothing")),
    (_COPY_ENGINES, Xid("a copy engine failed", "driver", "restart")),
    ((43,), Xid("a program had a fault of its own and was ended", "program", "debug")),
    (
        (45,),
        Xid("a program was ended while it computed (Ctrl-C, kill, another Xid)", "", "nothing"),
    ),
    ((46, 158), Xid("the GPU stopped processing", "driver", "reset")),
    ((48, 140), Xid(_ECC, "card", "reset")),
    ((54,), Xid("a power cable of the card is not connected", "power", "cables")),
    (_VIDEO_ENGINES, Xid("a video engine failed", "driver", "restart")),
    ((62,), Xid("a controller on the card stopped", "driver", "reset")),
    (
        (63,),
        Xid("bad memory was noted, and is replaced at the next reset", "card", "nothing"),
    ),
    ((64,), Xid("bad memory could not be replaced", "card", "reset")),
    ((74,), Xid("an NVLink failed, or the GPU at its other end did", "link", "reset")),
    ((78,), Xid("the vGPU could not be started", "driver", "update")),
    ((79,), Xid("it fell off the PCI bus", "card", "bus")),
    ((92,), Xid("many memory errors, which ECC corrected", "card", "replace")),
    ((93,), Xid("the card's own configuration was written too often", "card", "nothing")),
    ((94,), Xid(f"{_ECC}, under one program alone", "card", "contained")),
    ((95,), Xid(f"{_ECC}, under more than one program", "card", "reset")),
    ((106, 107), Xid("a test message", "", "nothing")),
    ((108, 137), Xid("a program used memory of another GPU that it may not", "program", "debug")),
    # The catalogue resets the GPU; PLUGIN, a program's fault, does not.  A newer driver says which.
    ((109,), Xid("a program's work could not be set aside in time", "program", "restart")),
    ((110,), Xid("a security fault of the card", "card", "reboot")),
    ((119, 120), Xid("the card's own processor (GSP) does not answer", "driver", "reset")),
    ((121,), Xid("errors of the link to the CPU, which were corrected", "link", "nothing")),
    ((136,), Xid("an NVLink could not be trained", "link", "reset")),
    ((143,), Xid("the GPU could not be started", "card", "reset")),
    (_NVLINK_5, Xid("an error of an NVLink", "link", "ask")),
    ((151,), Xid("a key of confidential computing could not be renewed", "driver", "reboot")),
    ((152, 153), Xid("the deep learning accelerator failed", "driver", "nothing")),
    ((154,), Xid("what the GPU needs has changed", "", "ask")),
    ((155,), Xid("an NVLink went down", "link", "ask")),
    ((156,), Xid("a bad part of the card was noted, and is left out from now on", "card", "reset")),
    ((157, 161), Xid("a bad part of the card could not be left out", "card", "replace")),
    ((159,), Xid("an error of the link to the CPU", "link", "restart")),
    ((160,), Xid("a bad channel was left out", "card", "nothing")),
    ((162, 163, 164, 165), Xid("the card's power smoothing changed", "power", "nothing")),
    ((166, 170), Xid("an error of an encrypted NVLink", "link", "ask")),
    ((167,), Xid("the PCIe link did not answer", "link", "ask")),
    ((168,), Xid("bad memory where the driver keeps its own", "card", "ask")),
    ((169,), Xid("a controller on the card stopped", "driver", "ask")),
    ((171, 172), Xid("more about the Xid 48 beside it", "card", "nothing")),
    ((173,), Xid("the link to the CPU failed", "link", "ask")),
)  # fmt: skip

XIDS = {code: row for codes, row in _ROWS for code in codes}


def explain(code: int) -> Xid:
    return XIDS.get(code, UNKNOWN)


def advise(code: int, recovery: int | None) -> Advice:
    """Return what to do after an Xid.

    Args:
        code: its number.
        recovery: what the driver says that the GPU needs; None where it does not say.
    """
    action = explain(code).action
    own, open_question = ADVICE[action], ADVICE[action].resets or action == "ask"
    told = need.advice if (need := what_it_needs(recovery)) else None
    if told and (told.resets or open_question):
        return told
    if recovery == _NONE and open_question:
        return ADVICE["nothing" if code == _CHANGED else "restart"]
    return own


def what_it_needs(recovery: int | None) -> Need | None:
    """Return what the driver says that a GPU needs; None = nothing, or it does not say."""
    return _NEEDS.get(recovery, _OTHER) if recovery else None


def needs_reset(recovery: int | None) -> bool:
    """Return whether nothing runs on a GPU before a reset, or a reboot, by the driver's word."""
    need = what_it_needs(recovery)
    return need is not None and need.advice.resets


def is_worth_repeating(code: int) -> bool:
    """Return whether it matters that it comes again and again."""
    return explain(code).action != "nothing"
