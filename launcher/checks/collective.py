"""The checks of the layer "collective": do the GPUs reach each other, all at once?  Pure.

Only `launcher doctor --collective` looks at it.  The way that was left out where all goes well is
the cause; the narrowest comes first, since without P2P there is no NVLS either.
"""

from __future__ import annotations

from collections.abc import Callable

from launcher.checks.check import Check
from launcher.checks.facts.how_to_run import tell
from launcher.checks.facts.talking import beside, failed, of_all, said
from launcher.model.collective import NCCL, NO_NVLS, NO_P2P, NO_SHM
from launcher.model.evidence import Evidence

_SHM_WORDS = "shared memory segment"  # NCCL's, src/misc/shmutils.cc
_SLOW = 0.25  # of what the links should carry
_GIB = 1 << 30
_LOOK = "sudo dmesg | grep -i -e nvrm -e xid"
_SEVERAL = "training on several GPUs"
_OWN_WORDS = "NCCL_DEBUG=INFO before your own program prints what NCCL does"


def _cured(how: str) -> Callable[[Evidence], str | None]:
    """Return a check: it fails as given, and goes well with this."""

    def look(seen: Evidence) -> str | None:
        found = failed(seen)
        if not found or not found[0].cured_by(how):
            return None
        iommu = "; the kernel's IOMMU is on" if how == NO_P2P and found[0].iommu else ""
        return f"{said(*found)}; with {how} it goes well{iommu}"

    return look


def _shared_memory(seen: Evidence) -> str | None:
    found = failed(seen)
    if found and _SHM_WORDS in found[1].reason:
        return said(*found)
    return _cured(NO_SHM)(seen)


def _outcome(*outcomes: str) -> Callable[[Evidence], str | None]:
    def look(seen: Evidence) -> str | None:
        found = failed(seen)
        return said(*found) if found and found[1].outcome in outcomes else None

    return look


def _no_nccl(seen: Evidence) -> str | None:
    """Where there are GPUs: what the CPU lacks is nobody's concern."""
    found = seen.collective
    return _outcome("missing")(seen) if found and found.backend == NCCL else None


def _slow(seen: Evidence) -> str | None:
    """Only over NVLink: what PCIe gives depends on sockets, bridges and whoever uses it."""
    trial = seen.collective.given if seen.collective else None
    expected = of_all(seen)
    if not trial or not trial.all_reduce or not expected or not expected.nvlink:
        return None
    slow = trial.all_reduce < _SLOW * expected.bytes_per_second
    return f"all_reduce {beside(trial.all_reduce, expected)}" if slow else None


# --- what mends it -----------------------------------------------------------------------------


def _until_then(how: str, mends: str) -> Callable[[Evidence], str]:
    return lambda seen: f"{mends}; until then {tell(seen.machine.host, 'variable', how)}"


def _direct(seen: Evidence) -> str:
    expected = of_all(seen)
    if expected and expected.nvlink:
        mends = f"on the host: nvidia-smi nvlink -s; {_LOOK}; then reset the GPUs, or reboot"
    else:
        mends = (
            "on the host: turn ACS and IOMMU off in the BIOS (kernel: intel_iommu=off, "
            "amd_iommu=off); of a PCI bridge, until the next boot: sudo setpci -s BRIDGE "
            "ECAP_ACS+0x6.w=0000"
        )
    return _until_then(NO_P2P, mends)(seen)


def _room(seen: Evidence) -> str:
    shm = seen.limits.shm
    if shm is not None and shm < _GIB:
        return tell(seen.machine.host, "shm")
    return "in the container: rm /dev/shm/nccl-*   (left by programs that were killed)"


CHECKS: tuple[Check, ...] = (
    Check(
        "collective.unavailable", _no_nccl,
        f"{_SEVERAL} cannot start",
        "install a build of PyTorch with NCCL: pip install --force-reinstall torch",
    ),
    Check(
        "collective.nvls", _cured(NO_NVLS),
        f"the NVSwitches do not add up for the GPUs (NVLS): {_SEVERAL} does not work",
        _until_then(
            NO_NVLS, "on the host: sudo systemctl restart nvidia-fabricmanager, or reboot"
        ),
    ),
    Check(
        "collective.shared_memory", _shared_memory,
        f"NCCL cannot use /dev/shm between the processes: {_SEVERAL} does not work",
        _room,
    ),
    Check(
        "collective.p2p", _cured(NO_P2P),
        "what GPUs write into each other's memory is lost or wrong, though the driver allows it",
        _direct,
    ),
    Check(
        "collective.wrong_result", _outcome("wrong"),
        f"{_SEVERAL} computes wrongly, and nothing says so",
        f"on the host: {_LOOK}; nvidia-smi nvlink -e; reset the GPUs, or reboot; leave out the "
        "GPUs that it is about: LAUNCHER_GPUS",
    ),
    Check(
        "collective.hung", _outcome("hung"),
        f"{_SEVERAL} hangs, without a word",
        f"on the host: {_LOOK}; sudo systemctl restart nvidia-fabricmanager (NVSwitch), or reboot; "
        f"{_OWN_WORDS}",
    ),
    Check(
        "collective.failed", _outcome("error", "crashed"),
        f"{_SEVERAL} does not start",
        f"as it says; {_OWN_WORDS}",
    ),
    Check(
        "collective.slow", _slow,
        f"{_SEVERAL} waits for the links between them",
        f"on the host: nvidia-smi nvlink -s; nvidia-smi topo -m; {_LOOK}", warning=True,
    ),
)  # fmt: skip
