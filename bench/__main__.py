"""Measure: `python -m bench [NAME …] [--rounds N] [--minutes N]`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from bench import (
    cluster,
    cluster_check,
    containers,
    doctor,
    growth,
    idle,
    layout,
    page,
    results,
    topology,
)
from bench.measures import MEASURES, Scenario

# What has a table of its own.
TABLES = {
    "topology": topology.table,
    "doctor": doctor.table,
    "cluster": cluster.table,
    "check": cluster_check.table,
}
# These as well, but they take long, or an engine: only where they are named.
NAMED_TABLES = {
    "growth": growth.table,
    "containers": containers.table,
    "page": page.table,
}

Measured = dict[tuple[str, str], list[float]]


def main(arguments: Sequence[str] | None = None) -> int:
    measures = dict.fromkeys(measure.name for measure in MEASURES)
    names = [*measures, *TABLES, *NAMED_TABLES, "idle"]
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(names)}")
    parser.add_argument("--rounds", type=int, default=5, help="of each, besides one to warm up")
    parser.add_argument("--minutes", type=int, default=30, help="of idle, which runs when named")
    options = parser.parse_args(arguments)
    if options.minutes < 1:
        parser.error("--minutes: expected 1 or more")
    if strangers := set(options.names) - set(names):
        parser.error(f"there is no measure {', '.join(sorted(strangers))}")
    chosen = [m for m in MEASURES if not options.names or m.name in options.names]

    print(results.machine_facts())
    print(f"before: {results.load_average()}")
    measured: Measured = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="launcher-bench-") as root:
        prepared = layout.prepare(Path(root))
        for scenario in dict.fromkeys(measure.scenario for measure in chosen):
            run_rounds(scenario, prepared, options.rounds, measured)
        wanted = {name: NAMED_TABLES[name] for name in NAMED_TABLES if name in options.names}
        wanted |= {n: TABLES[n] for n in TABLES if not options.names or n in options.names}
        tables = [table(prepared, options.rounds) for table in wanted.values()]
        if "idle" in options.names:
            tables.append(idle.table(prepared, options.minutes))
    print(f"after:  {results.load_average()}")
    print(f"medians of {options.rounds} rounds\n")
    print("\n\n".join([*([results.table(chosen, measured)] if chosen else []), *tables]))
    return 0


def run_rounds(
    scenario: Scenario, prepared: layout.Layout, rounds: int, measured: Measured
) -> None:
    """Take turns, so that what else the machine does hits all alike; drop the first round."""
    for number in range(rounds + 1):
        for contender in scenario.contenders:
            values = scenario.run(prepared, contender)
            shown = ", ".join(f"{name} {got[0]:.3f}" for name, got in values.items())
            print(f"{number or 'warm-up':>7}  {contender:<6} {shown}", file=sys.stderr, flush=True)
            if number:
                for name, got in values.items():
                    measured[name, contender] += got


if __name__ == "__main__":
    sys.exit(main())
