"""What is not as it should be, for the banner: what, what it means, what mends it.  Pure."""

from __future__ import annotations

from collections.abc import Iterator

from launcher import checks
from launcher.config import Settings
from launcher.machine import Account, Machine
from launcher.model import Finding, Ssh

_GIB = 1 << 30


def diagnose(machine: Machine, settings: Settings) -> Finding | None:
    """Return why no GPU is usable, or None where some are."""
    environ = dict(settings.environ)
    return checks.diagnose(checks.Evidence(machine.report, machine.hardware, environ))


def plan_notes(machine: Machine, settings: Settings, ssh: Ssh | None) -> tuple[Finding, ...]:
    """Return everything the user should know, most important first."""
    finding = diagnose(machine, settings)
    gpus = (finding,) if finding else tuple(_gpu_notes(machine))
    return (
        *gpus,
        *_resource_notes(machine),
        *_workspace_notes(machine, settings),
        *_key_notes(ssh),
    )


def _gpu_notes(machine: Machine) -> Iterator[Finding]:
    for lost in machine.report.lost:
        yield Finding(
            "hardware.lost",
            f"GPU {lost.index} is lost: {lost.error}",
            "CUDA sees only the others",
            f"on the host: sudo nvidia-smi --gpu-reset -i {lost.index}, or reboot",
        )
    for gpu in machine.report.gpus:
        if gpu.mig_enabled and not gpu.mig_uuids:
            yield Finding(
                "hardware.mig_empty",
                f"GPU {gpu.index} is in MIG mode without instances",
                "CUDA cannot use it",
                f"on the host: sudo nvidia-smi mig -i {gpu.index} -cgi 0 -C",
            )


def _resource_notes(machine: Machine) -> Iterator[Finding]:
    shm = machine.limits.shm
    if shm is not None and shm < _GIB:
        yield Finding(
            "resources.shm",
            f"/dev/shm is {shm >> 20} MiB",
            "DataLoader workers and NCCL run out of shared memory",
            "docker run --shm-size=8g …   (or --ipc=host; "
            "Kubernetes: an emptyDir with medium: Memory on /dev/shm)",
        )


def _workspace_notes(machine: Machine, settings: Settings) -> Iterator[Finding]:
    host, path = machine.host, settings.workspace
    user: Account = host.account or host.me
    if host.workspace_missing:
        yield Finding(
            "workspace.missing",
            f"{path} does not exist",
            "Jupyter opens in the home directory",
            f"mount one: docker run -v $PWD:{path} …",
        )
    elif not host.workspace_writable:
        yield Finding(
            "workspace.readonly",
            f"{user.name} (uid {user.uid}) cannot write {path}",
            "notebooks cannot be saved there",
            f"on the host: sudo chown -R {user.uid} DIRECTORY, the one that is mounted there",
        )


def _key_notes(ssh: Ssh | None) -> Iterator[Finding]:
    for key in ssh.keys if ssh else ():
        if key.fault:
            yield Finding(
                "ssh.bad_key",
                f"{key.source} line {key.number}: {key.fault}",
                "this key cannot log in",
                "paste the whole line of the .pub file",
            )
