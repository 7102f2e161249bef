"""Where no program may run: mounts with noexec, what breaks by it, and what is moved.  Pure.

A library is a program there, too: mmap(2) refuses PROT_EXEC, and Python says "failed to map segment
from shared object".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from launcher.checks.facts.how_to_run import tell
from launcher.model.host import CACHE, Account, Host, Mount
from launcher.model.plan import EnvVar, Finding
from launcher.plan.caches import mount_of

_TEMPORARY = "/tmp"
# What PyTorch compiles for itself and loads, and where it does that when nobody says: inductor's
# `default_cache_dir`, Triton's `default_cache_dir`, torch.utils.cpp_extension's
# `get_default_build_root`.
_COMPILED = (
    ("TORCHINDUCTOR_CACHE_DIR", "torchinductor", "what torch.compile makes"),
    ("TRITON_CACHE_DIR", "triton", "what Triton makes"),
    ("TORCH_EXTENSIONS_DIR", "torch_extensions", "what torch.utils.cpp_extension makes"),
)
_IN_TEMPORARY = ("TORCHINDUCTOR_CACHE_DIR",)


def plan_compiled(
    host: Host, account: Account, workspace: str, environ: Mapping[str, str], writable: bool
) -> tuple[EnvVar, ...]:
    """Return the variables that move what is compiled to where it may be loaded.

    Args:
        account: of the workspace user.
        writable: the workspace, by that user.
    """
    if not host.image:
        return ()
    places = (account.home, *([workspace] if writable else []))
    free = next((place for place in places if not _forbidding(host, place)), None)
    if free is None:
        return ()
    usual = {name: _TEMPORARY if name in _IN_TEMPORARY else account.home for name, *_ in _COMPILED}
    return tuple(
        EnvVar(name, f"{free}/{CACHE}/{folder}", f"{what}: no program may run on {usual[name]}")
        for name, folder, what in _COMPILED
        if not environ.get(name) and _forbidding(host, usual[name])
    )


def noexec_notes(host: Host, account: Account, workspace: str) -> Iterator[Finding]:
    """Say it once, of all places, with what mends the first."""
    found = {
        place: mount
        for place in (_TEMPORARY, account.home, workspace)
        if host.image and (mount := _forbidding(host, place))
    }
    if not found:
        return
    place, mount = next(iter(found.items()))
    means = "scripts and libraries there do not run: "
    means += "pip cannot build packages" if place == _TEMPORARY else "own programs, environments"
    fix = (
        tell(host, "option", f"--tmpfs {mount.path}:exec")
        if mount.kind == "tmpfs"
        else f"on the host: sudo mount -o remount,exec of what is mounted on {mount.path}"
    )
    if place == _TEMPORARY:
        fix += f", or a folder of yours: {tell(host, 'setting', f'TMPDIR={workspace}/tmp')}"
    yield Finding("noexec", f"no program may run on {', '.join(found)} (noexec)", means, fix)


def _forbidding(host: Host, path: str) -> Mount | None:
    mount = mount_of(host.mounts, path)
    return mount if mount and not mount.programs else None
