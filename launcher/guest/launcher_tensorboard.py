"""Become TensorBoard on the workspace's logs: python launcher_tensorboard.py PORT

It shows one folder and everything below it.  The workspace itself may hold millions of files, so it
is given a folder of links to what PyTorch's tools call their logs, there and in each project.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator

NAMES = ("runs", "logs", "lightning_logs")  # of SummaryWriter, of many a script, of Lightning
_EVERY = 20.0  # seconds between two looks for new ones
_MOST = 500  # projects that are looked into


def logs(workspace: str) -> Iterator[tuple[str, str]]:
    """Yield each folder of logs, with a name for it: "runs", "project/runs"."""
    with contextlib.suppress(OSError), os.scandir(workspace) as entries:
        folders = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
        projects = [name for name in folders if name not in NAMES][:_MOST]
        for name in (*NAMES, *(f"{project}/{name}" for project in projects for name in NAMES)):
            if os.path.isdir(path := os.path.join(workspace, name)):
                yield name, path


def link(workspace: str, shown: str) -> None:
    """Let the folder that is shown have a link to each folder of logs, and to none that is gone."""
    found = dict(logs(workspace))
    for name, path in found.items():
        place = os.path.join(shown, name)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.symlink(path, place)
    for folder, names, files in os.walk(shown):  # follows no link
        for name in (*names, *files):
            place = os.path.join(folder, name)
            if os.path.islink(place) and os.path.relpath(place, shown) not in found:
                os.unlink(place)


def _keep_linking(workspace: str, shown: str) -> None:
    while True:
        time.sleep(_EVERY)
        with contextlib.suppress(OSError):
            link(workspace, shown)


def main() -> None:
    port, workspace = sys.argv[1], os.getcwd()
    shown = os.path.join(os.environ["JUPYTER_RUNTIME_DIR"], "tensorboard")
    os.makedirs(shown, exist_ok=True)
    link(workspace, shown)
    threading.Thread(target=_keep_linking, args=(workspace, shown), daemon=True).start()
    from tensorboard.main import run_main

    sys.argv = ["tensorboard", "--logdir", shown, "--port", port, "--host", "127.0.0.1"]
    run_main()


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # PYTHONSAFEPATH leaves it out
    from launcher_child import begin

    begin()  # it ends with the Jupyter that started it
    main()
