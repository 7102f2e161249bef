"""The published cases of NVIDIA's own allocator (go-gpuallocator): none of its choices is better.

By its own scores, that is.  It also leaves good sets for others, which ours does not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from launcher.gpus.selection import best_set
from launcher.gpus.topology import pair_table
from launcher.model.machine import Gpu, GpuReport, Pair

CASES = json.loads((Path(__file__).parents[2] / "data" / "best_effort_cases.json").read_text())

_PATHS = {
    "CrossCPU": "SYS",
    "SameCPU": "NODE",
    "HostBridge": "PHB",
    "MultiSwitch": "PXB",
    "SingleSwitch": "PIX",
    "SameBoard": "INTERNAL",
}


def published(node: str) -> GpuReport:
    said = CASES["nodes"][node]
    counts = {(a, b): count for a, b, count in said["nvlinks"]}
    paths = {(a, b): _PATHS[path] for a, b, path in said["pcie"]}
    return GpuReport(
        tuple(
            Gpu(index, f"GPU-{index}", "GPU", f"00000000:{index:02X}:00.0", None, None, None)
            for index in range(said["n"])
        ),
        pairs=tuple(
            Pair(*both, nvlinks=counts.get(both, 0), path=paths.get(both))
            for both in combinations(range(said["n"]), 2)
        ),
    )


def score(node: str, gpus: Sequence[int]) -> int:
    """Return what their allocator would score a set, by their numbers."""
    said, points = CASES["nodes"][node], CASES["pair_score"]
    nvlinks = sum(links for a, b, links in said["nvlinks"] if {a, b} <= set(gpus))
    pcie = sum(points[path] for a, b, path in said["pcie"] if {a, b} <= set(gpus))
    return int(points["nvlink_per_link"] * nvlinks + pcie)


def choose(node: str, available: Sequence[int], size: int, required: Sequence[int]) -> list[int]:
    """Return our choice; [] where there is none."""
    report = published(node)
    try:
        best = best_set(
            [report.gpus[index] for index in available],
            pair_table(report),
            size,
            [report.gpus[index] for index in required],
        )
    except ValueError:
        return []
    return [gpu.index for gpu in best]


@pytest.mark.parametrize("case", CASES["policy_cases"], ids=lambda case: case["description"])
def test_no_published_choice_is_better(case: dict[str, Any]) -> None:
    ours = choose(case["node"], case["available"], case["size"], case["required"])
    assert len(ours) == len(case["expected"])
    assert set(ours) <= set(case["available"])
    assert set(case["required"]) <= set(ours) or not ours
    assert score(case["node"], ours) >= score(case["node"], case["expected"])


@pytest.mark.parametrize(
    "case",
    CASES["sequence_cases"],
    ids=lambda case: f"{case['node']}-by-{case['steps'][0]['size']}",
)
def test_no_published_sequence_is_better(case: dict[str, Any]) -> None:
    """At each step we choose of what their allocator has left."""
    left = list(range(CASES["nodes"][case["node"]]["n"]))
    for step in case["steps"]:
        ours = choose(case["node"], left, step["size"], [])
        assert len(ours) == len(step["expected"])
        assert score(case["node"], ours) >= score(case["node"], step["expected"])
        left = [gpu for gpu in left if gpu not in step["expected"]]
