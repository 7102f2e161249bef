"""Collect evidence below a root directory, judge it, print both as JSON.

It is what `launcher doctor --json` does with `/`, in a process whose environment is the user's;
with --at-start, what a start does for its banner.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from launcher import checks, config, diagnosis, doctor, notes, pipeline, running
from launcher.evidence import Evidence


def main(root: Path, *, at_start: bool) -> int:
    settings = config.load()
    if at_start:
        machine = pipeline.detect_machine(settings, root)
        seen = Evidence(machine, dict(settings.environ))
        verdict = notes.judge(machine, settings)
    else:
        box, deadline = running.box(), settings.detect_timeout
        seen = doctor.collect(settings, box, _say, deadline=deadline, root=root)
        verdict = checks.judge(seen)
    json.dump(diagnosis.document(seen, verdict), sys.stdout)
    return verdict.exit_status


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), at_start="--at-start" in sys.argv[2:]))
