"""Which published build of PyTorch runs on a driver and on a GPU.  Pure.

Builds for Linux on x86-64.  Sources: the "Release Compatibility Matrix" and the "CUDA Support
Matrix" of pytorch/pytorch RELEASE.md, .ci/manywheel/build_cuda.sh, PYTORCH_RELEASES_CODE_CC in
torch/cuda/__init__.py; pytorch/pytorch#157517, #172352 and #175253 for what was dropped when.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from launcher.model.named_tuple import NamedTuple

Capability = tuple[int, int]

MAXWELL_TO_HOPPER = ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90")
TURING_TO_BLACKWELL = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
VOLTA_TO_BLACKWELL = ("sm_70", *TURING_TO_BLACKWELL)

_CUDA_12 = dict.fromkeys(("cu118", "cu121", "cu124", "cu126"), MAXWELL_TO_HOPPER)
_CUDA_13 = dict.fromkeys(("cu130", "cu132"), TURING_TO_BLACKWELL)


def _builds(*tags: str, cu128: tuple[str, ...] = TURING_TO_BLACKWELL) -> dict[str, tuple[str, ...]]:
    known = {**_CUDA_12, "cu128": cu128, "cu129": TURING_TO_BLACKWELL, **_CUDA_13}
    return {tag: known[tag] for tag in tags}


# The last patch of each release, and the CUDA versions that it was built for.
RELEASES: dict[str, dict[str, tuple[str, ...]]] = {
    "2.1.2": _builds("cu118", "cu121"),
    "2.2.2": _builds("cu118", "cu121"),
    "2.3.1": _builds("cu118", "cu121"),
    "2.4.1": _builds("cu118", "cu121", "cu124"),
    "2.5.1": _builds("cu118", "cu121", "cu124"),
    "2.6.0": _builds("cu118", "cu124", "cu126"),
    "2.7.1": _builds("cu118", "cu126", "cu128"),
    "2.8.0": _builds("cu126", "cu128", "cu129", cu128=VOLTA_TO_BLACKWELL),
    "2.9.1": _builds("cu126", "cu128", "cu130", cu128=VOLTA_TO_BLACKWELL),
    "2.10.0": _builds("cu126", "cu128", "cu130", cu128=VOLTA_TO_BLACKWELL),
    "2.11.0": _builds("cu126", "cu128", "cu130"),
    "2.12.1": _builds("cu126", "cu129", "cu130", "cu132"),
    "2.13.0": _builds("cu126", "cu129", "cu130", "cu132"),
}


# The build that pip takes where no index is named (each release's "Getting started").
_BY_DEFAULT = {
    "2.1": "cu121", "2.2": "cu121", "2.3": "cu121", "2.4": "cu121", "2.5": "cu124",
    "2.6": "cu124", "2.7": "cu126", "2.8": "cu128", "2.9": "cu128",
}  # fmt: skip


class Wheel(NamedTuple):
    """One published build of PyTorch."""

    release: str  # "2.6.0"
    tag: str  # "cu124"

    @property
    def install(self) -> str:
        """Return the command; without --force-reinstall pip is content with 2.6.0+cpu for 2.6.0.

        Without its configuration, since an image's may hold pip to the PyTorch that does not work.
        """
        command = f"PIP_CONFIG_FILE=/dev/null pip install --force-reinstall torch=={self.release}"
        if _BY_DEFAULT.get(self.release.rpartition(".")[0]) == self.tag:
            return command
        page = "pytorch.org/get-started/previous-versions"
        return f"{command}+{self.tag} --index-url …/whl/{self.tag}   (its address: {page})"


def fitting_wheel(
    driver_cuda: tuple[int, int], capabilities: Iterable[Capability], version: str | None
) -> Wheel | None:
    """Return the build nearest to `version` that runs on this driver and on all these GPUs.

    Args:
        driver_cuda: the highest CUDA version that the driver runs.
        capabilities: of the GPUs; none = only the driver decides.
        version: what is installed, "2.6.0+cpu"; None = the newest.
    """
    devices = tuple(capabilities)
    for release in sorted(RELEASES, key=lambda release: _distance(release, version)):
        fits = [
            tag
            for tag, arches in RELEASES[release].items()
            if cuda_of(tag)[0] <= driver_cuda[0] and all(runs(arches, one) for one in devices)
        ]
        if fits:
            usual = _BY_DEFAULT.get(release.rpartition(".")[0], "")
            simple = usual in fits and cuda_of(usual) <= driver_cuda
            return Wheel(_patch(release, version), usual if simple else _best(fits, driver_cuda))
    return None


def runs(arches: Sequence[str], device: Capability) -> bool:
    """Return whether code for these architectures runs on a device.

    sm_XY runs on the same major version and at least that minor one; compute_XY is PTX, which the
    driver translates for that device and every newer one (CUDA C++ Programming Guide, "Binary
    Compatibility" and "PTX Compatibility").
    """
    return any(_runs(arch, device) for arch in arches)


def _runs(arch: str, device: Capability) -> bool:
    kind, _, number = arch.partition("_")
    if not number.isdigit():  # "sm_90a" runs on that very device, and never stands alone
        return number[:-1].isdigit() and capability_of(number[:-1]) == device
    code = capability_of(number)
    return code <= device and (kind == "compute" or code[0] == device[0])


def capability_of(number: str) -> Capability:
    """Return what "90" or "120" stands for."""
    return int(number[:-1]), int(number[-1])


def cuda_of(tag: str) -> tuple[int, int]:
    """Return the CUDA version of "cu124"."""
    return int(tag[2:-1]), int(tag[-1])


def _best(tags: Sequence[str], driver_cuda: tuple[int, int]) -> str:
    """Return the newest that the driver knows, else the oldest of those newer than the driver.

    Those run too: CUDA is compatible within a major version, from 11 on (NVIDIA, "CUDA
    Compatibility", Minor Version Compatibility).
    """
    known = [tag for tag in tags if cuda_of(tag) <= driver_cuda]
    return max(known, key=cuda_of) if known else min(tags, key=cuda_of)


def _number(version: str | None) -> int | None:
    found = re.match(r"(\d+)\.(\d+)", version or "")
    return 100 * int(found[1]) + int(found[2]) if found else None


def _distance(release: str, version: str | None) -> tuple[int, int]:
    """Return a key that puts the release of `version` first, and a newer before an older one."""
    this, wanted = _number(release) or 0, _number(version)
    return (0 if wanted is None else abs(this - wanted), -this)


def _patch(release: str, version: str | None) -> str:
    """Return the installed patch of a release, where that is a published one."""
    base = (version or "").partition("+")[0]
    same = _number(release) == _number(version) and re.fullmatch(r"\d+\.\d+\.\d+", base)
    return base if same else release
