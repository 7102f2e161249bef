"""Leave behind what a box that started below a root directory leaves: its plan and its machine."""

from __future__ import annotations

import sys
from pathlib import Path

from launcher import codec, config, environ, pipeline
from launcher.plan import make_plan


def main(root: Path) -> None:
    settings = config.load()
    machine = pipeline.detect_machine(settings, root)
    plan = make_plan(machine, settings, None, pipeline.GUEST, started=0.0)
    directory = Path(environ.run_dir())
    directory.mkdir()
    for name, value in (("plan.json", plan), ("machine.json", machine)):
        (directory / name).write_text(codec.to_json(value))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
