"""The one report of a run on a GPU: what was compared, what was left out and why, the figures."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

_WORDS = {"passed": "ok", "failed": "FAILED", "skipped": "left out"}


@dataclass
class Result:
    """One test: what it is called, how it ended, and why where it did not pass."""

    name: str
    outcome: str  # "passed" | "failed" | "skipped"
    why: str = ""
    seconds: float = 0.0


@dataclass
class Report:
    """Everything there is to say of one run."""

    machine: dict[str, str] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    figures: dict[str, dict[str, object]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)  # what was printed, by its name

    def figure(self, name: str, values: Sequence[float], unit: str) -> None:
        """Keep what was measured: all of it, and its median."""
        rounded = [round(value, 3) for value in values]
        middle = round(statistics.median(values), 3) if values else None
        self.figures[name] = {"median": middle, "unit": unit, "values": rounded}

    def write(self, stem: Path) -> None:
        """Write STEM.txt and STEM.json."""
        stem.parent.mkdir(parents=True, exist_ok=True)
        stem.with_suffix(".json").write_text(json.dumps(asdict(self), indent=2) + "\n")
        stem.with_suffix(".txt").write_text(self.as_text() + "\n")

    def as_text(self) -> str:
        """Return it for people: what failed first, then what was left out, then the rest."""
        counts = {
            word: sum(one.outcome == outcome for one in self.results)
            for outcome, word in _WORDS.items()
        }
        lines = [f"{name}: {value}" for name, value in self.machine.items()]
        lines.append(", ".join(f"{count} {word}" for word, count in counts.items()))
        for outcome in ("failed", "skipped", "passed"):
            chosen = [one for one in self.results if one.outcome == outcome]
            if chosen:
                lines += ["", f"== {_WORDS[outcome]}"]
                lines += [f"{one.name} ({one.seconds:.1f} s)" + _because(one) for one in chosen]
        if self.figures:
            lines += ["", "== figures (median; every value is in the JSON)"]
            lines += [
                f"{name}: {found['median']} {found['unit']}" for name, found in self.figures.items()
            ]
        for name, text in self.texts.items():
            lines += ["", f"== {name}", text.rstrip("\n")]
        return "\n".join(lines)


def _because(result: Result) -> str:
    if not result.why:
        return ""
    return "".join(f"\n    {line}" for line in result.why.splitlines())
