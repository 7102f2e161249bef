"""The measures: what each is called, who is compared, and what we mean to reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench import scenarios
from bench.layout import Layout
from bench.scenarios import Values


@dataclass(frozen=True)
class Scenario:
    run: Callable[[Layout, str], Values]
    contenders: tuple[str, ...]


START = Scenario(scenarios.start_and_stop, ("python", "bare", "stock", "ours"))
HUNG = Scenario(scenarios.hung_driver, ("ours",))
IDLE = Scenario(scenarios.idle, ("stock", "ours"))


@dataclass(frozen=True)
class Measure:
    name: str
    title: str
    scenario: Scenario
    unit: str = "s"
    beside: str | None = "stock"  # whose median stands beside ours
    most: float | None = None  # the target: ours is at most this
    most_ratio: float | None = None  # or: at most this much of theirs


MEASURES = (
    Measure("first-line", "exec → first line, 8 GPUs", START, beside=None, most=0.10),
    Measure("first-line", "  beside a Python's start", START, beside="python", most_ratio=7.7),
    Measure("hung-driver", "exec → first line, hung driver", HUNG, beside=None, most=0.15),
    Measure("sshd", "exec → sshd's version", START, most=0.15),
    Measure("sshd", "  beside a Python's start", START, beside="python", most_ratio=11.5),
    Measure("jupyter", "exec → Jupyter 200 on /api", START),
    Measure("jupyter", "  beside bare jupyter lab", START, beside="bare", most_ratio=0.4),
    Measure("banner", "exec → banner complete", START, beside=None),
    Measure("stop", "SIGTERM → exited, one idle kernel", START, most=0.2),
    Measure("memory", "PSS of what supervises", IDLE, unit="MB", most=30.0),
    Measure("processes", "  in processes", IDLE, unit=""),
    Measure("idle-cpu", "its idle CPU, of one core", IDLE, unit="%", most=0.2),
    Measure("healthcheck", "is it well? (its own command)", IDLE),
)
