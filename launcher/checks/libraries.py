"""The checks of the layer "libraries": which libcuda and libnvidia-ml are taken?  Pure."""

from __future__ import annotations

from launcher.checks.check import CPU_ONLY, Check
from launcher.checks.facts import preloads
from launcher.checks.facts.device_nodes import cuda_works
from launcher.checks.facts.how_to_run import tell
from launcher.checks.facts.library_files import (
    CUDA,
    NVML,
    blamed,
    loader_error,
    not_found,
    take_away,
    unsearched,
)
from launcher.model.evidence import Evidence, Library

_STUB, _MISMATCH, _COMPAT_UNSUPPORTED = 34, 803, 804  # CUresult, as cuda.h numbers them
_DRIVER_PACKAGES = "'libnvidia-compute-*' libcuda1"
_CUDA_FAILS = f"CUDA cannot start: {CPU_ONLY}"


def _failure(seen: Evidence) -> str:
    """Return how CUDA failed as given, after what was said of the file."""
    given = seen.given
    if given is None or given.outcome == "ok":
        return "; CUDA sees fewer devices with it"
    what = f"CUDA {given.code}: {given.name}" if given.code is not None else given.reason
    return f"; {what or f'CUDA {given.outcome}'}"


def _path(seen: Evidence, library: Library | None) -> str:
    """Return the file's path, where it is a link with what it leads to, and how it came."""
    if library is None:
        return (seen.given.library if seen.given else None) or CUDA
    target = f" -> {library.target}" if library.target not in (None, library.path) else ""
    return f"{library.path}{target} (by {library.source})"


def _given_error(seen: Evidence, code: int) -> bool:
    """Return whether CUDA fails so for the user, whatever it does with nothing in the way."""
    return seen.given is not None and seen.given.outcome == "error" and seen.given.code == code


def _stub(seen: Evidence) -> str | None:
    library = seen.taken(CUDA)
    is_stub = library is not None and library.kind == "stub" and blamed(seen)
    if not is_stub and not _given_error(seen, _STUB):
        return None
    return f"a stub is taken for libcuda: {_path(seen, library)}{_failure(seen)}"


def _compat_unsupported(seen: Evidence) -> str | None:
    if not _given_error(seen, _COMPAT_UNSUPPORTED):
        return None
    library = _path(seen, seen.taken(CUDA))
    return f"forward compatibility on a GPU without it: {library}{_failure(seen)}"


def _at_fault(seen: Evidence) -> Library | None:
    """Return the libcuda that is taken, where CUDA does better with another."""
    return seen.taken(CUDA) if blamed(seen) else None


def _compat(seen: Evidence) -> str | None:
    library = _at_fault(seen)
    if library is None or library.kind != "compat":
        return None
    return (
        f"a compat library is taken: {_path(seen, library)}{_beside_kernel(seen)}{_failure(seen)}"
    )


def _beside_kernel(seen: Evidence) -> str:
    kernel = seen.hardware.kernel_driver
    return f"; kernel module {kernel}" if kernel else ""


def _by(seen: Evidence, variable: str) -> str | None:
    library = _at_fault(seen)
    if library is None or library.source != variable:
        return None
    return f"{_path(seen, library)}{_beside_kernel(seen)}{_failure(seen)}"


def _wsl_shadowed(seen: Evidence) -> str | None:
    """Return a Linux libcuda that hides the one of Windows' driver, which alone works in WSL."""
    library, given = seen.taken(CUDA), seen.given
    if not seen.has_node("/dev/dxg") or library is None or given is None or given.outcome == "ok":
        return None
    elsewhere = seen.cuda is not None and seen.cuda.outcome == "ok" and not blamed(seen)
    if library.kind == "wsl" or elsewhere:
        return None
    return f"{_path(seen, library)} is taken, not that of /usr/lib/wsl{_failure(seen)}"


def _second_driver(seen: Evidence) -> str | None:
    """Return a libcuda of another driver version than the kernel module's.

    The two halves of a driver must be of one version; compat libraries alone are excepted.
    """
    library, kernel = seen.taken(CUDA), seen.hardware.kernel_driver
    if library is None or library.kind != "real" or not library.version or not kernel:
        return None
    fails = seen.cuda is not None and seen.cuda.outcome != "ok"
    guilty = blamed(seen) or fails or _given_error(seen, _MISMATCH)
    if library.version == kernel or not guilty:
        return None
    return f"libcuda {library.version} is taken: {_path(seen, library)}; kernel module {kernel}" + (
        _failure(seen)
    )


def _second_nvml(seen: Evidence) -> str | None:
    library, kernel = seen.taken(NVML), seen.hardware.kernel_driver
    files = [one for one in seen.libraries if one.name == NVML]
    right = next((one for one in files if one.version == kernel and one is not library), None)
    if not seen.nvml(18) or library is None or right is None or kernel is None:
        return None
    return f"NVML 18: {seen.reason}; {_path(seen, library)} is taken, {right.path} fits {kernel}"


def _broken(seen: Evidence, name: str) -> str | None:
    error = loader_error(seen, name)
    return error if error and not not_found(seen, name) else None


def _mend(seen: Evidence) -> str:
    """Return how to be rid of a file that cannot be loaded, or to give it what it needs."""
    name = CUDA if _broken(seen, CUDA) else NVML
    # The loader names the file first: "/usr/lib/…/libcuda.so.1: file too short".
    path = (loader_error(seen, name) or "").partition(": ")[0]
    library = next((one for one in seen.libraries if one.path == path), None)
    if library:
        return take_away(seen, library)
    if path.startswith("/"):
        return f"in the image: rm {path} && ldconfig; then create the container anew"
    taken = seen.taken(name)
    return f"in the container: ldd {taken.path if taken else name} shows what to install"


def _not_in_cache(seen: Evidence) -> str | None:
    for name in (CUDA, NVML):
        library = unsearched(seen, name) if not_found(seen, name) else None
        if library:
            why = "without a link" if library.name != name else "where the loader does not look"
            return f"{library.path} is here, {why}: {loader_error(seen, name)}"
    return None


def _let_it_look_there(seen: Evidence) -> str:
    library = unsearched(seen, CUDA if not_found(seen, CUDA) else NVML)
    folder = library.path.rpartition("/")[0] if library else ""
    return (
        f"in the container: echo {folder} > /etc/ld.so.conf.d/nvidia.conf && ldconfig; "
        f"or {tell(seen.machine.host, 'variable', f'LD_LIBRARY_PATH={folder}')}"
    )


def _several(seen: Evidence) -> str | None:
    candidates = [one for one in seen.libraries if one.name == CUDA and one.kind == "real"]
    versions = {one.version: one.path for one in reversed(candidates) if one.version}
    if len(versions) < 2 or seen.given is None or seen.given.outcome != "ok":
        return None
    return "libcuda.so.1 of several drivers: " + ", ".join(
        f"{version} ({path})" for version, path in sorted(versions.items())
    )


def _remove_others(seen: Evidence) -> str:
    kernel = seen.hardware.kernel_driver
    others = [
        one.path
        for one in seen.libraries
        if one.name == CUDA and one.kind == "real" and one.version and one.version != kernel
    ]
    return f"in the image: apt-get purge {_DRIVER_PACKAGES}, or rm {' '.join(others)} && ldconfig"


def _take_away_cuda(seen: Evidence) -> str:
    return take_away(seen, seen.taken(CUDA))


def _no_compat(seen: Evidence) -> str:
    library = seen.taken(CUDA)
    if library and library.source in ("ld.so.cache", "default directory"):
        # NVIDIA's enable-cuda-compat hook and CUDA images enter the folder there.
        return "in the container: rm /etc/ld.so.conf.d/*compat*.conf && ldconfig"
    return take_away(seen, library)


CHECKS: tuple[Check, ...] = (
    Check("libraries.stub", _stub, f"it is for linking only: {CPU_ONLY}", _take_away_cuda),
    Check(
        "libraries.compat_unsupported", _compat_unsupported,
        "only data-center GPUs can run a newer CUDA than their driver's",
        lambda seen: f"{_no_compat(seen)}; or update the driver on the host",
    ),
    Check("libraries.compat", _compat, _CUDA_FAILS, _no_compat),
    Check(
        "libraries.wsl_shadowed", _wsl_shadowed, _CUDA_FAILS,
        "in the distribution: sudo apt-get purge 'nvidia-*' 'libnvidia-*'; in an image: "
        f"apt-get purge {_DRIVER_PACKAGES}",
    ),
    Check(
        "libraries.preload", lambda seen: _by(seen, "LD_PRELOAD"), _CUDA_FAILS, _take_away_cuda
    ),
    Check(
        "libraries.shadowed", lambda seen: _by(seen, "LD_LIBRARY_PATH"),
        f"it hides the driver's own library: {CPU_ONLY}", _take_away_cuda,
    ),
    Check(
        "libraries.second_driver", _second_driver, f"the image brings a driver along: {CPU_ONLY}",
        lambda seen: take_away(seen, seen.taken(CUDA), _DRIVER_PACKAGES),
    ),
    Check(
        "libraries.second_nvml", _second_nvml, "GPUs cannot be listed or ordered",
        lambda seen: take_away(seen, seen.taken(NVML), "'libnvidia-compute-*' libnvidia-ml1"),
    ),
    Check(
        "libraries.not_in_cache", _not_in_cache, f"programs do not find the driver: {CPU_ONLY}",
        _let_it_look_there,
    ),
    Check(
        "libraries.broken",
        lambda seen: _broken(seen, CUDA) or (None if cuda_works(seen) else _broken(seen, NVML)),
        "the driver's library cannot be loaded", _mend,
    ),
    Check(
        "libraries.broken_nvml",
        lambda seen: _broken(seen, NVML) if cuda_works(seen) else None,
        "CUDA works, GPUs cannot be listed or ordered", _mend, warning=True,
    ),
    Check(
        "libraries.system_preload", preloads.in_the_way,
        f"no trial can leave it out: {CPU_ONLY}", preloads.take_out,
    ),
    Check(
        "libraries.preload_broken", preloads.not_loaded,
        "every program says so on standard error, and goes on without it", preloads.mend,
        warning=True,
    ),
    Check(
        "libraries.several", _several, "which one is taken depends on the order of folders",
        _remove_others, warning=True,
    ),
)  # fmt: skip
