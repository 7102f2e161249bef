"""Machine descriptions as text: read, change, cut down to the GPUs of one container.

Standard library only: the container hook imports this where nothing is installed.  Whether a
description is *right* is decided by the C reader alone (`driver.check`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

EVERY_GPU = "gpu *"


@dataclass
class Section:
    """`[name]` and its `key = value` lines, in order.  A key may come more than once."""

    name: str
    lines: list[tuple[str, str]] = field(default_factory=list)

    def get(self, key: str, default: str = "") -> str:
        return next((value for name, value in self.lines if name == key), default)


@dataclass(frozen=True)
class Device:
    """A GPU, or a MIG instance of one, with what `[gpu *]` says filled in."""

    index: int
    values: Mapping[str, str]
    migs: tuple[Device, ...] = ()

    def get(self, key: str, default: str = "") -> str:
        return self.values.get(key, default)


def parse(text: str) -> list[Section]:
    """Return the sections of a description, without its comments."""
    sections: list[Section] = []
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            sections.append(Section(line.strip("[] ")))
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            sections[-1].lines.append((key.strip(), value.strip()))
    return sections


def write(sections: Iterable[Section]) -> str:
    """Return the text of a description."""
    return "\n".join(
        f"[{section.name}]\n" + "".join(f"{key} = {value}\n" for key, value in section.lines)
        for section in sections
    )


def edit(text: str, changes: Mapping[str, Mapping[str, str | None]]) -> str:
    """Return `text` with keys set, or with None removed, by section; sections are made as needed.

    >>> edit(text, {"gpu 3": {"state": "lost"}, "faults": {"cuInit": "return 802"}})
    """
    sections = parse(text)
    for name, values in changes.items():
        section = next((s for s in sections if s.name == name), None)
        if section is None:
            section = Section(name)
            sections.append(section)
        for key, value in values.items():
            section.lines = [line for line in section.lines if line[0] != key]
            if value is not None:
                section.lines.append((key, value))
    return write(sections)


def machine(text: str) -> Section:
    """Return the `[machine]` section."""
    return next((s for s in parse(text) if s.name == "machine"), Section("machine"))


def gpus(text: str) -> tuple[Device, ...]:
    """Return the GPUs of a description with their MIG instances."""
    sections = {section.name: section for section in parse(text)}
    shared = dict(sections.get(EVERY_GPU, Section(EVERY_GPU)).lines)
    found = []
    for index in _numbered(sections, "gpu"):
        migs = tuple(
            Device(mig, dict(sections[f"gpu {index} mig {mig}"].lines))
            for mig in _numbered(sections, f"gpu {index} mig")
        )
        found.append(Device(index, shared | dict(sections[f"gpu {index}"].lines), migs))
    return tuple(found)


def _numbered(sections: Mapping[str, Section], prefix: str) -> list[int]:
    matches = (re.fullmatch(rf"{prefix} (\d+)", name) for name in sections)
    return sorted(int(match[1]) for match in matches if match)


def select(text: str, chosen: Mapping[int, Sequence[int] | None]) -> str:
    """Return the machine with only the GPUs `chosen`, renumbered from 0 in their old order.

    Each maps to the MIG instances kept of it, or to None for all.
    """
    renumbered = {old: new for new, old in enumerate(sorted(chosen))}
    kept = (_select_section(section, renumbered, chosen) for section in parse(text))
    return write(section for section in kept if section)


def _select_section(
    section: Section, renumbered: Mapping[int, int], chosen: Mapping[int, Sequence[int] | None]
) -> Section | None:
    kind, *rest = section.name.split()
    if kind in ("pcie", "p2p"):
        return _select_matrix(section, renumbered)
    if kind == "faults":
        return _select_faults(section, renumbered)
    if kind == "events":
        return _select_events(section, renumbered)
    if kind != "gpu" or rest == ["*"]:
        return section
    index = int(rest[0])
    if index not in renumbered:
        return None
    name = f"gpu {renumbered[index]}"
    if rest[1:]:
        migs = chosen[index]
        mig = int(rest[2])
        if migs is not None and mig not in migs:
            return None
        name += f" mig {mig if migs is None else sorted(migs).index(mig)}"
    return Section(name, section.lines)


def _select_matrix(section: Section, renumbered: Mapping[int, int]) -> Section | None:
    rows = {int(key): value.split() for key, value in section.lines}
    lines = [
        (str(new), " ".join(rows[old][column] for column in renumbered))
        for old, new in renumbered.items()
    ]
    return Section(section.name, lines) if lines else None


def _select_faults(section: Section, renumbered: Mapping[int, int]) -> Section:
    lines = []
    for key, value in section.lines:
        function, _, gpu = key.partition(" gpu ")
        if not gpu:
            lines.append((key, value))
        elif int(gpu) in renumbered:
            lines.append((f"{function} gpu {renumbered[int(gpu)]}", value))
    return Section(section.name, lines)


def _select_events(section: Section, renumbered: Mapping[int, int]) -> Section:
    lines = []
    for key, value in section.lines:
        gpu = re.search(r"\bgpu (\d+)", value)
        if gpu and int(gpu[1]) in renumbered:
            new = f"gpu {renumbered[int(gpu[1])]}"
            lines.append((key, value[: gpu.start()] + new + value[gpu.end() :]))
    return Section(section.name, lines)
