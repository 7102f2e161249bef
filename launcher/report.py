"""Say what was found, planned and seen, in text for people.  Pure.

80 columns, readable without colour; every problem says what is wrong, what it means for
you, and how to mend it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import quote

from launcher import checks
from launcher.hostkey import fingerprint
from launcher.model import Finding, Gpu, Jupyter, Limits, Machine, Plan, Probe, Ssh

WIDTH = 80
_GIB = 1 << 30
_BOLD, _GREEN, _YELLOW = "1", "1;32", "1;33"


# --- one line ------------------------------------------------------------------------------


def first_line(machine: Machine) -> str:
    """Return what was found, the moment it is known."""
    return f"launcher: {gpu_summary(machine)}; starting the services …"


def summary_lines(machine: Machine, plan: Plan) -> list[str]:
    """Return command mode's one line, for stderr."""
    visible = _planned(plan, "CUDA_VISIBLE_DEVICES")
    seen = f"; CUDA_VISIBLE_DEVICES={_shorten(visible, 40)}" if visible is not None else ""
    return [f"launcher: {gpu_summary(machine)}{seen}"]


def gpu_summary(machine: Machine) -> str:
    gpus = machine.report.gpus
    if not gpus:
        finding = checks.diagnose(checks.Evidence(machine.report, machine.hardware, {}))
        return f"no usable GPU ({finding.what if finding else 'none found'})"
    kinds = dict.fromkeys(gpu.name for gpu in gpus)
    names = ", ".join(f"{sum(g.name == kind for g in gpus)} × {kind}" for kind in kinds)
    lost = f", {len(machine.report.lost)} lost" if machine.report.lost else ""
    return f"{names}{lost}, {_driver(machine)}"


def verdict_line(result: Mapping[str, object], expected: int) -> str:
    """Return what PyTorch did on the devices: `result` is what guest/verify.py printed."""
    if not result.get("torch"):
        return f"launcher: PyTorch cannot be used: {result.get('error')}"
    name = f"launcher: PyTorch {result['torch']}"
    if result.get("cuda") is None:
        return f"{name}: a build without CUDA, computes on the CPU"
    failures = result.get("failures")
    assert isinstance(failures, Mapping)
    devices = int(str(result["devices"]))
    if result.get("error") and (expected or devices):
        return f"{name}: CUDA works on 0 of {expected} devices: {result['error']}"
    if not devices and not expected:
        return f"{name}: no CUDA device, computes on the CPU"
    line = f"{name}: CUDA works on {devices - len(failures)} of {max(devices, expected)} devices"
    return line + "".join(f"; cuda:{index}: {why}" for index, why in failures.items())


def changes(before: Sequence[Probe], after: Sequence[Probe]) -> Iterator[str]:
    """Yield a line for every service that was lost or came back."""
    was = {probe.service: probe.ready for probe in before}
    for probe in after:
        if was.get(probe.service, True) and not probe.ready:
            yield f"launcher: {probe.service} is not ready: {probe.detail}"
        elif probe.ready and not was.get(probe.service, True):
            yield f"launcher: {probe.service} is ready again"


def finding_lines(finding: Finding, color: bool = False) -> list[str]:
    mark = _paint("!", _YELLOW, color)
    return [
        *_wrap(f" {mark} ", f"{finding.what}: {finding.means}", "   ", extra=len(mark) - 1),
        *_wrap("   fix: ", finding.fix, "        "),
    ]


# --- the banner ------------------------------------------------------------------------------


def banner(
    machine: Machine,
    plan: Plan,
    probes: Sequence[Probe],
    now: float,
    tails: Mapping[str, Sequence[str]],
) -> str:
    """Return the banner.

    Args:
        probes: what the readiness probes saw.
        now: CLOCK_MONOTONIC, seconds.
        tails: of each service that is not ready, the last lines of its log.
    """
    waiting = [probe for probe in probes if not probe.ready]
    title = "NOT READY: " + ", ".join(p.service for p in waiting) if waiting else "Ready"
    after = f"after {now - plan.started:.1f} s"
    heading = f" {title} {after:>{WIDTH - len(title) - 3}}"
    lines = [
        "═" * WIDTH,
        _paint(heading, _YELLOW if waiting else _GREEN, plan.color),
        "═" * WIDTH,
        *_access_lines(plan),
        "",
        *device_lines(machine),
        *_environment_lines(plan),
        *_row("Limits", limits_text(machine.limits)),
        *_row("Runs as", f"{plan.identity.account.name} (uid {plan.identity.account.uid}): "
              f"{plan.identity.why}; workspace {plan.paths.workspace}"),
    ]  # fmt: skip
    for finding in plan.notes:
        lines += finding_lines(finding, plan.color)
    for probe in waiting:
        lines += ["", *_wrap(" ! ", f"{probe.service} is not ready: {probe.detail}", "   ")]
        lines += [f"   | {line}" for line in tails.get(probe.service, ())]
    lines.append("═" * WIDTH)
    return "\n".join(lines)


def _access_lines(plan: Plan) -> Iterator[str]:
    if plan.jupyter:
        yield " Jupyter   " + _paint(_where(plan.jupyter.address.container_port,
                                           plan.jupyter.address.port), "2", plan.color)  # fmt: skip
        yield f"   {_paint(jupyter_url(plan.jupyter), _BOLD, plan.color)}"
    if plan.ssh:
        yield " SSH       " + _paint(_where(plan.ssh.address.container_port,
                                           plan.ssh.address.port), "2", plan.color)  # fmt: skip
        yield f"   {_paint(ssh_command(plan.ssh), _BOLD, plan.color)}"
        yield from (f"   {line}" for line in _login_lines(plan.ssh))
    if plan.ssh_off:
        yield from _row("SSH", f"off: {plan.ssh_off}")


def jupyter_url(jupyter: Jupyter) -> str:
    """Return the URL to open: any token is data, so it is percent-encoded."""
    address = jupyter.address
    token = quote(jupyter.token.reveal(), safe="")
    return f"http://{_bracket(address.host)}:{address.port}{jupyter.base_url}lab?token={token}"


def ssh_command(ssh: Ssh) -> str:
    key = f" -i {ssh.login_key_file}" if ssh.login_key_file else ""
    return f"ssh -p {ssh.address.port}{key} {ssh.user}@{ssh.address.host}"


def _login_lines(ssh: Ssh) -> Iterator[str]:
    usable = sum(key.fault is None for key in ssh.keys)
    if ssh.password:
        yield f"password {ssh.password.reveal()}"
    elif usable:
        yield f"{usable} public key{'s' if usable > 1 else ''} may log in"
    else:
        yield f"nobody can log in: no key, and no password ({ssh.password_why});"
        yield 'set one: -e PUBLIC_KEY="$(cat ~/.ssh/id_ed25519.pub)"'
    yield f"host key {fingerprint(ssh.host_key)}"


def _where(container_port: int, port: int) -> str:
    if port == container_port:
        return f"container port {container_port}"
    return f"container port {container_port}, published as {port}"


def device_lines(machine: Machine) -> list[str]:
    """Return the device table, one line for each GPU, and the driver."""
    if not machine.report.gpus and not machine.report.lost:
        return _row("GPUs", "none; everything runs on the CPU")
    rows = [(gpu.index, _gpu_cells(gpu)) for gpu in machine.report.gpus]
    lines = [(index, text) for index, text in rows]
    lines += [(gpu.index, f"LOST: {gpu.error}"[: WIDTH - 16]) for gpu in machine.report.lost]
    table = [f"{index:>3}  {text}" for index, text in sorted(lines)]
    return [*_row("GPUs", _driver(machine)), *table]


def _gpu_cells(gpu: Gpu) -> str:
    memory = f"{gpu.memory_bytes / _GIB:.0f} GiB" if gpu.memory_bytes else "-"
    capability = "sm_{}{}".format(*gpu.compute_capability) if gpu.compute_capability else "-"
    mig = f"  MIG: {len(gpu.mig_uuids)}" if gpu.mig_enabled else ""
    return f"{gpu.name[:34]:<34} {memory:>8}  {capability:<7} {gpu.pci_bus_id}{mig}"


def _driver(machine: Machine) -> str:
    report = machine.report
    version = report.driver_version or machine.hardware.kernel_driver or "unknown"
    cuda = ", CUDA up to {}.{}".format(*report.cuda_version) if report.cuda_version else ""
    return f"driver {version}{cuda}"


def _environment_lines(plan: Plan) -> Iterator[str]:
    for var in plan.environment:
        if var.name.startswith("CUDA_"):
            yield from _row("Set", f"{var.name}={_shorten(var.value, 44)} ({var.why})")


def limits_text(limits: Limits) -> str:
    cpus = limits.cpus
    of = f" of {cpus.online}" if cpus.usable < cpus.online else ""
    parts = [f"{cpus.usable:g}{of} CPUs"]
    if limits.memory:
        parts.append(f"{limits.memory / _GIB:.1f} GiB memory")
    if limits.shm is not None:
        small = limits.shm < _GIB
        shm = f"{limits.shm >> 20} MiB" if small else f"{limits.shm / _GIB:.1f} GiB"
        parts.append(f"{shm} /dev/shm")
    if limits.pids is not None:
        parts.append(f"{limits.pids} processes")
    return ", ".join(parts)


# --- text -------------------------------------------------------------------------------------


def _row(label: str, text: str) -> list[str]:
    return _wrap(f" {label:<9} ", text, " " * 11)


def _wrap(first: str, text: str, rest: str, extra: int = 0) -> list[str]:
    return textwrap.wrap(
        text, WIDTH + extra, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
    )


def _shorten(text: str | None, width: int) -> str:
    text = "" if text is None else text
    if len(text) <= width:
        return text
    count = text.count(",") + 1
    return f"{text[: width - 14]}… ({count} entries)"


def _planned(plan: Plan, name: str) -> str | None:
    return next((var.value for var in plan.environment if var.name == name), None)


def _bracket(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _paint(text: str, code: str, color: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if color else text
