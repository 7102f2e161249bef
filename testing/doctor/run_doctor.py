"""Collect evidence below a root directory, judge it, print both as JSON.

It is what `launcher doctor --json` does with `/`, in a process whose environment is the user's;
with --at-start, what a start does for its banner; with --collective, the GPUs talk as well.
"told" is what --steps says of layers before.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from launcher import checks
from launcher.box import run_dir
from launcher.detect import driver
from launcher.doctor import doctor, report
from launcher.doctor.trials import Listener
from launcher.model.evidence import Evidence
from launcher.plan.outset import set_out
from launcher.settings import load


def main(root: Path, *, at_start: bool, collective: bool) -> int:
    settings = load.load_settings()
    told: list[str] = []
    if at_start:
        machine = driver.detect_machine(settings, root)
        seen = Evidence(machine, dict(settings.environ))
        verdict = set_out(machine, settings, driver.GUEST, 0.0).verdict
    else:
        box, deadline = run_dir.read_box(), settings.detect_timeout

        def count_nodes() -> int:
            from launcher.cluster import torchrun

            return torchrun.count_nodes(settings.environ, root)

        asked = doctor.Asked(timeout=deadline, collective=collective, count_nodes=count_nodes)
        listener = Listener(_say, doctor.Steps(checks.CHECKS, told.append).known)
        seen = doctor.collect(asked, settings, box, listener, root)
        verdict = checks.judge(seen)
    layers = [json.loads(line)["layer"] for line in told]
    json.dump({**report.document(seen, verdict), "told": layers}, sys.stdout)
    return verdict.exit_status


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def run(arguments: list[str]) -> int:
    root, *options = arguments
    how = {"at_start": "--at-start" in options, "collective": "--collective" in options}
    return main(Path(root), **how)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
