"""GPUs that compute well, each alone, and do not reach each other."""

from __future__ import annotations

from testing.doctor.scenario import Scenario

NO_ROOM = "Error while creating shared memory segment /dev/shm/nccl-pZafXL (size 7340384)"
NO_NVLINK = {
    "gpu *": {"nvlink 0-3": None},
    "gpu 0": {"nvlink 0-3": None},
    "gpu 1": {"nvlink 0-3": None},
    "p2p nvlink": {"0": "X NS", "1": "NS X"},
}
SHORT = {"LAUNCHER_DETECT_TIMEOUT": "5"}  # for each run: they end at once, or never


def talking(**fault: object) -> dict[str, object]:
    return {"collective": fault}


COLLECTIVE = (
    Scenario(
        "talk-without-nccl", "PyTorch was built without NCCL.", "collective.unavailable",
        collective=True, torch=talking(nccl=False), seen=("without nccl",),
    ),
    Scenario(
        "talk-p2p-hangs", "all_reduce hangs, unless P2P is left out: ACS or the IOMMU.",
        "collective.p2p", collective=True, environ=SHORT, changes=NO_NVLINK,
        torch=talking(at="all_reduce", how="hang", unless="NCCL_P2P_DISABLE=1"),
        seen=("all_reduce over 2 GPUs does not end",), names=("ACS", "NCCL_P2P_DISABLE=1"),
    ),
    Scenario(
        "talk-p2p-wrong", "What one GPU sends to the other arrives as something else, over NVLink.",
        "collective.p2p", collective=True,
        torch=talking(at="send", how="wrong", unless="NCCL_P2P_DISABLE=1"),
        seen=("point-to-point between GPUs 0, 1 is wrong",), names=("nvidia-smi nvlink",),
    ),
    Scenario(
        "talk-nvls-wrong", "Sums are wrong, unless NVLS is left out.", "collective.nvls",
        collective=True, torch=talking(at="all_reduce", how="wrong", unless="NCCL_NVLS_ENABLE=0"),
        names=("NCCL_NVLS_ENABLE=0", "nvidia-fabricmanager"),
    ),
    Scenario(
        "talk-small-shm", "NCCL finds no room in /dev/shm.", "collective.shared_memory",
        collective=True, torch=talking(at="connect", how=NO_ROOM, unless="NCCL_SHM_DISABLE=1"),
        seen=(NO_ROOM,), names=("/dev/shm",),
    ),
    Scenario(
        "talk-wrong", "Sums are wrong, whatever is left out.", "collective.wrong_result",
        collective=True, torch=talking(at="all_reduce", how="wrong"), seen=("all_reduce",),
    ),
    Scenario(
        "talk-hangs", "One pair hangs, whatever is left out.", "collective.hung",
        collective=True, environ=SHORT, torch=talking(at="send", how="hang", pair=[0, 1]),
        seen=("point-to-point between GPUs 0, 1 does not end",), names=("xid",),
    ),
    Scenario(
        "talk-crashes", "NCCL crashes.", "collective.failed",
        collective=True, torch=talking(at="connect", how="crash"), seen=("SIGSEGV",),
    ),
    Scenario(
        "talk-slow", "all_reduce goes well, and a hundred times slower than NVLinks are.",
        collective=True, torch=talking(seconds=0.05), warns=("collective.slow",),
        seen=("4 NVLinks a GPU",), names=("nvidia-smi nvlink",),
    ),
)  # fmt: skip

TALKING_WELL = (
    Scenario("talk-well", "Two GPUs that talk to each other.", collective=True),
    Scenario("talk-alone", "One GPU, which has nobody to talk to.", collective=True,
             machine="rtx4090-1x"),
)  # fmt: skip
