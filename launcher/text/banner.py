"""The banner: how to get in, what CUDA sees, what was set and why, what is not right.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import quote

from launcher.checks.facts.how_to_run import has_options, set_to_own
from launcher.gpus.sharing import ways
from launcher.gpus.topology import cpu_groups, describe, name_gpus
from launcher.model.host import CACHE, Host
from launcher.model.machine import Limits, Machine
from launcher.model.plan import Address, Jupyter, Plan, Ssh
from launcher.model.public_key import fingerprint
from launcher.model.watch import Probe
from launcher.plan.caches import NAMES
from launcher.text.text import (
    BOLD,
    DIM,
    GIB,
    GREEN,
    WIDTH,
    YELLOW,
    device_lines,
    finding_lines,
    paint,
    row,
    shorten,
    wrap,
)


def render_banner(
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
    ready = "Ready, without a network" if machine.host.no_network else "Ready"
    title = "NOT READY: " + ", ".join(p.service for p in waiting) if waiting else ready
    after = f"after {now - plan.started:.1f} s"
    heading = f" {title} {after:>{WIDTH - len(title) - 3}}"
    lines = [
        "═" * WIDTH,
        paint(heading, YELLOW if waiting else GREEN, plan.color),
        "═" * WIDTH,
        *_access_lines(machine, plan),
        "",
        *device_lines(machine),
        *_connection_lines(machine),
        *_environment_lines(plan),
        *row("Limits", limits_text(machine.limits)),
        *row("Runs as", f"{plan.identity.account.name} (uid {plan.identity.account.uid}): "
              f"{plan.identity.why}; workspace {plan.paths.workspace}"),
    ]  # fmt: skip
    if plan.notes:
        lines.append("")
    for finding in plan.notes:
        lines += finding_lines(finding, plan.color)
    for probe in waiting:
        lines += ["", *wrap(" ! ", f"{probe.service} is not ready: {probe.detail}", "   ")]
        for line in tails.get(probe.service, ()):
            lines += wrap("   | ", line[:400], "   | ")
    lines.append("═" * WIDTH)
    return "\n".join(lines)


def _access_lines(machine: Machine, plan: Plan) -> Iterator[str]:
    if plan.jupyter and plan.jupyter.hub:
        here = f" at {plan.jupyter.hub.url}" if plan.jupyter.hub.url else ""
        yield from row("Jupyter", f"opened through JupyterHub{here}; port {plan.jupyter.port}")
    elif plan.jupyter:
        yield _heading("Jupyter", plan.jupyter.address, machine.host, plan.color)
        yield f"   {paint(jupyter_url(plan.jupyter), BOLD, plan.color)}"
        if plan.jupyter.page:
            yield "   about this box: the same address with launcher/ in place of lab"
        if plan.jupyter.certificate and plan.jupyter.certificate.self_signed:
            yield "   its certificate is self-signed: a browser asks once whether you trust it"
        if not plan.jupyter.token.reveal():
            yield from wrap("   ", _OPEN, "   ")
    elif plan.jupyter_off:
        yield from row("Jupyter", f"off: {plan.jupyter_off}")
    if plan.ssh:
        yield _heading("SSH", plan.ssh.address, machine.host, plan.color)
        yield f"   {paint(plan.ssh.command, BOLD, plan.color)}"
        for text in _login_lines(plan.ssh, machine.host):
            yield from wrap("   ", text, "   ")
    if plan.ssh_off:
        yield from row("SSH", f"off: {plan.ssh_off}")
    if machine.host.platform == "kubernetes":
        yield from wrap("   first: ", _port_forward(machine, plan), "          ")


_OPEN = (
    "no token (LAUNCHER_JUPYTER_AUTH=proxy): who reaches the port is let in, so only the proxy "
    "that asks who somebody is may reach it"
)


def _heading(name: str, address: Address, host: Host, color: bool) -> str:
    return f" {name:<9} {paint(_where(address, host), DIM, color)}"


def _where(address: Address, host: Host) -> str:
    """Say which port this is, and what we assume of the one it is published on."""
    inside, outside = address.container_port, address.port
    if host.no_network:
        return f"container port {inside}, which nobody outside reaches"
    if address.proxied:
        return f"container port {inside}, through the platform's proxy"
    if not address.certain:
        how = (
            "reached with -p {}:{}" if has_options(host) else "published as {}, as far as is known"
        )
        return f"container port {inside}, {how.format(outside, inside)}"
    return f"port {inside}" if inside == outside else f"container port {inside}, here {outside}"


def _port_forward(machine: Machine, plan: Plan) -> str:
    addresses = [service.address for service in (plan.jupyter, plan.ssh) if service]
    ports = " ".join(f"{address.port}:{address.container_port}" for address in addresses)
    return f"kubectl port-forward pod/{machine.host.hostname} {ports}"


def jupyter_url(jupyter: Jupyter) -> str:
    """Return the URL to open: any token is data, so it is percent-encoded."""
    address = jupyter.address
    token = quote(jupyter.token.reveal(), safe="")
    scheme = "https" if jupyter.certificate or address.proxied else "http"
    place = f"{_bracket(address.host)}:{address.port}"
    place = address.host if address.proxied else place
    return f"{scheme}://{place}{jupyter.base_url}lab" + (f"?token={token}" if token else "")


def _login_lines(ssh: Ssh, host: Host) -> Iterator[str]:
    usable = sum(key.fault is None for key in ssh.keys)
    if ssh.password:
        yield f"password {ssh.password.reveal()}"
    elif usable:
        yield f"{usable} public key{'s' if usable > 1 else ''} may log in"
    else:
        yield f"{ssh.shut};"
        own = ("PUBLIC_KEY", "cat ~/.ssh/id_ed25519.pub", "the line of your .pub file")
        yield f"set one: {set_to_own(host, *own)}"
    yield f"host key {fingerprint(ssh.host_key)}"
    if ssh.rsa_host_key:
        yield f"RSA host key {fingerprint(ssh.rsa_host_key)}"


def _connection_lines(machine: Machine) -> Iterator[str]:
    """Say how the GPUs are connected, and which CPUs are near which of them."""
    for sentence in describe(machine.report):
        yield from row("Links", sentence)
    for way in ways(machine.report, machine.host.sharing):
        yield from row("Shared", way.text)
    groups = cpu_groups(machine.report.gpus)
    if len(groups) > 1:
        each = "; ".join(f"{name_gpus(gpus)}: {place}" for place, gpus in groups.items())
        yield from row("CPUs near", f"{each} (launcher torchrun binds to them)")


def _environment_lines(plan: Plan) -> Iterator[str]:
    for var in plan.environment:
        if var.name.startswith("CUDA_"):
            yield from row("Set", f"{var.name}={shorten(var.value, 44)} ({var.why})")
        if var.name.startswith("CUDA_VISIBLE"):
            yield from (line for remark in plan.device_remarks[:1] for line in row("", remark))
    yield from _cache_line(plan)
    yield from _packages_line(plan)
    threads = [var for var in plan.environment if var.name.endswith("_NUM_THREADS")]
    if threads:
        more = f" and {len(threads) - 1} like it" if len(threads) > 1 else ""
        yield from row("Set", f"{threads[0].name}={threads[0].value}{more} ({threads[0].why})")


def _cache_line(plan: Plan) -> Iterator[str]:
    """Say what was moved into the workspace, since it fills the user's disk."""
    moved = [var.name for var in plan.environment if var.name in NAMES]
    if moved:
        where = f"{plan.paths.workspace}/{CACHE}, on its volume"
        yield from row("Caches", f"{where}: {', '.join(moved)}")


def _packages_line(plan: Plan) -> Iterator[str]:
    """Say where pip installs, where that is not what the volume lets one think."""
    if plan.packages.folder:
        yield from row("Packages", f"pip and uv install into {plan.packages.folder}")
    elif plan.packages.ends:
        yield from row("Packages", "end with the container: LAUNCHER_PACKAGES=workspace keeps them")


def limits_text(limits: Limits) -> str:
    cpus = limits.cpus
    limited = cpus.usable < cpus.online
    parts = [f"{cpus.usable:g} of {cpus.online} CPUs" if limited else cpus.in_words]
    if limits.memory:
        parts.append(f"{limits.memory / GIB:.1f} GiB memory")
    if limits.shm is not None:
        small = limits.shm < GIB
        shm = f"{limits.shm >> 20} MiB" if small else f"{limits.shm / GIB:.1f} GiB"
        parts.append(f"{shm} /dev/shm")
    if limits.pids is not None:
        parts.append(f"{limits.pids} processes")
    return ", ".join(parts)


def _bracket(host: str) -> str:
    return f"[{host}]" if ":" in host else host
