"""Decide what watch looks at while the box runs: Plan + Machine → WatchTarget.  Pure."""

from __future__ import annotations

from launcher.checks.facts.device_nodes import CONTROL
from launcher.checks.facts.how_to_run import place_of, tell
from launcher.model import state_files
from launcher.model.machine import Gpu, GpuReport, Machine
from launcher.model.masking import mask_text
from launcher.model.plan import Jupyter, Plan
from launcher.model.secret import Secret
from launcher.model.watch import (
    GpusAtStart,
    GpuState,
    JupyterDoor,
    ListedGpu,
    SshDoor,
    WatchTarget,
)


def plan_watch(plan: Plan, machine: Machine) -> WatchTarget:
    """Return what `plan` and the machine that it was made for leave to be watched."""
    broken = plan.broken
    watched = bool(plan.gpu_watch and machine.report.gpus)  # what failed at the start is no loss
    return WatchTarget(
        run_dir=plan.paths.run,
        started=plan.started,
        jupyter=jupyter_door(plan.jupyter) if plan.jupyter else None,
        ssh=SshDoor(plan.ssh.port, plan.ssh.listen) if plan.ssh else None,
        gpus=_gpus_at_start(plan, machine.report) if watched else None,
        rsa_host_key=f"{plan.paths.state}/{state_files.RSA_HOST_KEY}.pub"
        if plan.ssh and not plan.ssh.rsa_host_key
        else "",
        idle_shutdown=plan.idle_shutdown,
        place=place_of(machine.host),
        anew=tell(machine.host, "anew"),
        at_start=mask_text(f"{broken.what}; fix: {broken.fix}") if broken else "",
    )


def jupyter_door(jupyter: Jupyter) -> JupyterDoor:
    """Return how to ask: /api/status counts as no activity and is not logged when it succeeds.

    Under a hub, whose tokens we have none of, /api says that it is up.
    """
    target: str | None = f"{jupyter.base_url}api"
    authorization = None
    if jupyter.hub is None:
        token = jupyter.token.reveal()
        target = f"{target}/status"
        if not token:  # a proxy asks who somebody is
            pass
        elif _fits_a_header(token):  # URLs are logged, where a request fails
            authorization = Secret(f"token {token}")
        else:
            target = f"{target}?token={_quoted(token)}"
    elif jupyter.hub.mutual_tls:  # it answers nobody but the hub
        target = None
    return JupyterDoor(
        port=jupyter.port,
        listen=jupyter.listen,
        target=None if target is None else Secret(target),
        authorization=authorization,
        encrypted=jupyter.certificate is not None,
    )


def _fits_a_header(text: str) -> bool:
    """Say whether tornado, which reads headers as Latin-1, would read this text as it is."""
    return max(map(ord, text), default=0) < 0x100


def _quoted(text: str) -> str:
    from urllib.parse import quote  # for the few whose token needs it

    return quote(text, safe="")


def _gpus_at_start(plan: Plan, report: GpuReport) -> GpusAtStart:
    faults = {node.path: node.fault for node in report.nodes}
    return GpusAtStart(
        interval=plan.gpu_watch,
        listed=tuple(map(_listed, report.gpus)),
        lost=len(report.lost),
        control_fault=faults.get(CONTROL, "ENOENT"),  # WSL2 has no such node
        environ=plan.inherited,
        patience=plan.gpu_patience,
    )


def _listed(gpu: Gpu) -> ListedGpu:
    return ListedGpu(
        uuid=gpu.uuid,
        instances=frozenset(gpu.mig_uuids) if gpu.mig_enabled else None,
        index=gpu.index,
        bus=gpu.pci_bus_id or "",
        places=tuple(
            (mig.gpu_instance, mig.compute_instance)
            for mig in gpu.mig_devices
            if mig.gpu_instance is not None and mig.compute_instance is not None
        ),
        state=GpuState(
            recovery=gpu.recovery,
            remap_pending=gpu.remap_pending,
            remap_failed=gpu.remap_failed,
            link_recoveries=gpu.nvlink_errors.recoveries if gpu.nvlink_errors else None,
            slowdown=gpu.slowdown,
            persistence=gpu.persistence,
            licensed=gpu.licensed,
        ),
    )
