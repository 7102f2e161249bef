"""What `launcher topo` prints: the matrix, what it means, and what is odd.  Pure."""

from __future__ import annotations

from collections.abc import Sequence

from launcher.checks.facts.how_to_run import fit
from launcher.gpus.oddities import oddities
from launcher.gpus.sharing import ways
from launcher.gpus.topology import describe, islands, matrix
from launcher.model.host import Host, Sharing
from launcher.model.machine import Gpu, GpuReport, Nic, Pair
from launcher.model.named_tuple import NamedTuple
from launcher.model.plan import Finding
from launcher.text.text import finding_lines, wrap


class Topology(NamedTuple):
    """The same, for programs."""

    gpus: tuple[Gpu, ...]
    pairs: tuple[Pair, ...]
    nics: tuple[Nic, ...]
    islands: tuple[tuple[int, ...], ...]  # GPU indices, joined by NVLink
    sentences: tuple[str, ...]
    odd: tuple[Finding, ...]


def survey(report: GpuReport, nics: Sequence[Nic], host: Host | None = None) -> Topology:
    """Return everything there is to say about how these GPUs are connected.

    Args:
        host: the box, whose place decides how what is odd is mended; None = anywhere.
    """
    odd = oddities(report)
    return Topology(
        gpus=report.gpus,
        pairs=report.pairs,
        nics=tuple(nics),
        islands=tuple(islands(report)),
        sentences=(
            *describe(report),
            *(f"shared {way.text}" for way in ways(report, host.sharing if host else Sharing())),
        ),
        odd=tuple(one._replace(fix=fit(one.fix, host)) for one in odd) if host else odd,
    )


def topology_lines(report: GpuReport, nics: Sequence[Nic], host: Host | None = None) -> list[str]:
    """Return the text: the matrix as `nvidia-smi topo -m` has it, then sentences."""
    found = survey(report, nics, host)
    lines = matrix(report, nics)
    lines += [f"NIC{number}: {nic.name}" for number, nic in enumerate(nics)]
    if any(gpu.cpus_filtered for gpu in report.gpus):
        lines.append("CPU affinity is what this container's cpuset leaves of the hardware's.")
    lines += ["", *(line for text in found.sentences for line in wrap("", text, "  "))]
    for finding in found.odd:
        lines += finding_lines(finding)
    return lines
