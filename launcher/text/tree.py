"""NUMA nodes, the PCIe switches in them, and the GPUs and network cards at those.  Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from launcher.gpus.topology import PATHS, name_gpus, pair_table
from launcher.model.machine import Gpu, GpuReport, Nic
from launcher.model.named_tuple import NamedTuple
from launcher.text.sheet import GAP, LINE, Sheet, fits

_AT_A_SWITCH = ("PXB", "PIX", "INTERNAL")
_CARDS = 4  # in a row: their text is readable on a telephone
_NICS = 2
_NAME_LINES = 2
_MAKERS = ("NVIDIA ", "GeForce ", "Tesla ")  # what every card begins with tells none apart


class Group(NamedTuple):
    """GPUs that PCIe switches join, or a GPU at no switch that is known."""

    gpus: tuple[Gpu, ...]
    switch: str  # what joins them, in words; "" = nothing that is known


def groups_of(report: GpuReport, gpus: Sequence[Gpu]) -> list[Group]:
    """Return the GPUs of one node, by the PCIe switches that join them."""
    pairs = pair_table(report)
    left = list(gpus)
    found = []
    while left:
        members, edge = [left[0]], [left.pop(0)]
        ways = set()
        while edge:
            here = edge.pop()
            for other in gpus:
                pair = pairs.get((here.index, other.index))
                if pair is None or pair.path not in _AT_A_SWITCH:
                    continue
                ways.add(pair.path)
                if other in left:
                    left.remove(other)
                    members.append(other)
                    edge.append(other)
        switch = "PCIe switches (PXB)" if "PXB" in ways else "PCIe switch (PIX)"
        if ways == {"INTERNAL"}:
            switch = "one board"
        ordered = tuple(sorted(members, key=lambda gpu: gpu.index))
        found.append(Group(ordered, switch if ways else ""))
    return sorted(found, key=lambda group: (not group.switch, group.gpus[0].index))


def draw_nodes(
    sheet: Sheet, report: GpuReport, nics: Sequence[Nic], marks: Mapping[int, str] | None
) -> None:
    """Draw every NUMA node with what hangs at it, by number; what has no node comes last.

    Args:
        marks: what CUDA calls the GPUs that it sees, by index; None = not known, so nothing is
            marked.
    """
    nodes: dict[int | None, list[Gpu]] = {}
    for gpu in report.gpus:
        nodes.setdefault(gpu.numa_node, []).append(gpu)
    names = {nic.name: f"NIC{number}" for number, nic in enumerate(nics)}
    left = list(nics)
    for node in sorted(nodes, key=lambda node: (node is None, node or 0)):
        top = sheet.y
        sheet.write(_node_title(node, nodes[node]), style="strong")
        groups = groups_of(report, nodes[node])
        alone = [group.gpus[0] for group in groups if not group.switch]
        for group in groups:
            if group.switch:
                start = sheet.y = sheet.y + GAP
                sheet.write(group.switch, indent=8)
                _draw_cards(sheet, group.gpus, marks, 16)
                _draw_nics(sheet, names, _taken(left, group.gpus, _AT_A_SWITCH), 16)
                sheet.framed(8, "switch", start)
        _draw_cards(sheet, alone, marks, 8)
        if node is not None:
            here = ("NODE", "PHB", *_AT_A_SWITCH)
            _draw_nics(sheet, names, _taken(left, nodes[node], here), 8)
        sheet.framed(0, "node", top)
    if left:
        top = sheet.y
        sheet.write("network cards elsewhere", style="strong")
        _draw_nics(sheet, names, left, 8)
        sheet.framed(0, "node", top)


def _node_title(node: int | None, gpus: Sequence[Gpu]) -> str:
    title = "NUMA node not told" if node is None else f"NUMA node {node}"
    cpus = list(dict.fromkeys(gpu.cpus for gpu in gpus if gpu.cpus))
    if not cpus:
        return title
    if len(cpus) > 1:  # as where nodes are hidden and sockets are not
        return f"{title}, CPUs " + "; ".join(
            f"{one} ({name_gpus([gpu.index for gpu in gpus if gpu.cpus == one])})" for one in cpus
        )
    return f"{title}, CPUs {cpus[0]}"


def _taken(left: list[Nic], gpus: Sequence[Gpu], ways: Sequence[str]) -> list[Nic]:
    """Take those cards out of `left` whose best way leads to one of these GPUs."""
    indices = {gpu.index for gpu in gpus}
    found = []
    for nic in left:
        paths = {index: PATHS.index(path) for index, path in nic.paths if path in PATHS}
        best = max(paths.values(), default=-1)
        nearest = {index for index, rank in paths.items() if rank == best}
        if nearest & indices and PATHS[best] in ways:
            found.append(nic)
    left[:] = [nic for nic in left if nic not in found]
    return found


def _draw_nics(sheet: Sheet, names: Mapping[str, str], nics: Sequence[Nic], indent: float) -> None:
    for nic, place in zip(nics, sheet.cells(len(nics), _NICS, LINE + 5, indent), strict=True):
        sheet.card(place, [f"{names[nic.name]} {nic.name}"], "nic", f"{nic.name} {nic.pci_bus_id}")


def _draw_cards(
    sheet: Sheet, gpus: Sequence[Gpu], marks: Mapping[int, str] | None, indent: float
) -> None:
    height = LINE * (_NAME_LINES + 2) + 6
    for gpu, place in zip(gpus, sheet.cells(len(gpus), _CARDS, height, indent), strict=True):
        mark = "" if marks is None else marks.get(gpu.index, "hidden")
        style = {"": "gpu", "hidden": "gpu hidden"}.get(mark, "gpu seen")
        lines = [f"GPU {gpu.index}", *_short_name(gpu.name, fits(place.width))]
        lines += [""] * (1 + _NAME_LINES - len(lines))
        sheet.card(place, [*lines, mark], style, f"{gpu.name}, {gpu.place}")


def _short_name(name: str, width: int) -> list[str]:
    for maker in _MAKERS:
        name = name.removeprefix(maker)
    return textwrap.wrap(name, width, max_lines=_NAME_LINES, placeholder="…")
