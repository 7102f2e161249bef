"""What is not as it should be, for the banner: what, what it means, what mends it.  Pure."""

from __future__ import annotations

from launcher import checks
from launcher.config import Settings
from launcher.model import Account, Finding, Machine, Ssh

_GIB = 1 << 30


def diagnose(machine: Machine, settings: Settings) -> Finding | None:
    """Return why no GPU is usable, or None where some are."""
    environ = dict(settings.environ)
    return checks.diagnose(checks.Evidence(machine.report, machine.hardware, environ))


def plan_notes(machine: Machine, settings: Settings, ssh: Ssh | None) -> tuple[Finding, ...]:
    """Return everything the user should know, most important first."""
    notes: list[Finding] = []
    if finding := diagnose(machine, settings):
        notes.append(finding)
    else:
        notes += [
            Finding(
                "hardware.lost",
                f"GPU {gpu.index} is lost: {gpu.error}",
                "CUDA sees only the others",
                "on the host: sudo nvidia-smi --gpu-reset -i "
                f"{gpu.index}, or reboot",
            )
            for gpu in machine.report.lost
        ]  # fmt: skip
    notes += [
        Finding("hardware.mig_empty", f"GPU {gpu.index} is in MIG mode without instances",
                "CUDA cannot use it", f"on the host: sudo nvidia-smi mig -i {gpu.index} -cgi … -C")
        for gpu in machine.report.gpus
        if gpu.mig_enabled and not gpu.mig_uuids
    ]  # fmt: skip
    notes += _resource_notes(machine)
    notes += _workspace_notes(machine, settings)
    notes += [
        Finding("ssh.bad_key", f"{key.source} line {key.number}: {key.fault}",
                "this key cannot log in", "paste the whole line of the .pub file")
        for key in (ssh.keys if ssh else ())
        if key.fault
    ]  # fmt: skip
    return tuple(notes)


def _resource_notes(machine: Machine) -> list[Finding]:
    shm = machine.limits.shm
    if shm is None or shm >= _GIB:
        return []
    return [
        Finding(
            "resources.shm",
            f"/dev/shm is {shm >> 20} MiB",
            "DataLoader workers and NCCL run out of shared memory",
            "docker run --shm-size=8g …   (or --ipc=host; "
            "Kubernetes: an emptyDir with medium: Memory on /dev/shm)",
        )
    ]


def _workspace_notes(machine: Machine, settings: Settings) -> list[Finding]:
    host = machine.host
    user: Account = host.account or host.me
    if host.workspace_missing:
        return [
            Finding("workspace.missing", f"{settings.workspace} does not exist",
                    "Jupyter opens in the home directory", f"mount one: -v $PWD:{settings.workspace}")
        ]  # fmt: skip
    if not host.workspace_writable:
        return [
            Finding("workspace.readonly", f"{user.name} (uid {user.uid}) cannot write "
                    f"{settings.workspace}", "notebooks cannot be saved there",
                    f"on the host: sudo chown -R {user.uid} DIRECTORY, the one mounted there")
        ]  # fmt: skip
    return []
