"""Leave behind what a box that started below a root directory leaves: its plan and its machine."""

from __future__ import annotations

import sys
from pathlib import Path

from launcher.detect import driver
from launcher.model import codec
from launcher.plan.outset import set_out
from launcher.plan.plan import make_plan
from launcher.settings import environ, load


def main(root: Path) -> None:
    settings = load.load_settings()
    machine = driver.detect_machine(settings, root)
    plan = make_plan(set_out(machine, settings, driver.GUEST, 0.0), None)
    directory = Path(environ.run_dir())
    directory.mkdir()
    for name, value in (("plan.json", plan), ("machine.json", machine)):
        (directory / name).write_text(codec.to_json(value))


def run(arguments: list[str]) -> int:
    main(Path(*arguments))
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
