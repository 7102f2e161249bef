"""/post_start.sh, as RunPod's images have it: run once the banner is out.

runpod/containers, start.sh: bash runs it after the services were started, executable or not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from launcher.model import codec, run_files
from launcher.model.plan import RenderedFile, Service
from launcher.process import become
from launcher.process.become import BASH
from launcher.process.script import unix_copy
from launcher.settings import environ as own_environ

SCRIPT = "post_start.sh"
NAME = "post_start"  # the program's, in supervisord.conf
_POLL = 0.1  # seconds between two looks for the banner


def files(run_dir: str, environ: Mapping[str, str], root: str = "/") -> tuple[RenderedFile, ...]:
    """Return what `launcher post-start` reads, root's alone; nothing where there is no script.

    Args:
        environ: the container's environment, as hooks left it: supervise has none of it.
    """
    script = os.path.join(root, SCRIPT)
    if not os.path.isfile(script):
        return ()
    service = Service(
        name=NAME, argv=(BASH, script), uid=-1, gid=-1, groups=(), cwd="/",
        env=tuple(own_environ.for_root(environ).items()),
    )  # fmt: skip
    path = f"{run_dir}/{run_files.service(NAME)}"
    return (RenderedFile(path, codec.to_json(service), 0o600, -1, -1),)


def run_post_start(run_dir: str) -> None:
    """Wait until the banner is out, then become the script.

    Raises BadSetting where there is none, StartFailed where it cannot be run.
    """
    service = become.load_service(run_dir, NAME)
    while not os.path.exists(f"{run_dir}/{run_files.BANNER}"):  # a start removes the one before it
        time.sleep(_POLL)
    time.sleep(_POLL)  # it is a file first, and a moment later in the log
    if copy := unix_copy(service.argv[-1]):
        os.set_inheritable(copy.fd, True)
        os.write(1, f"it {copy.remark}\n".encode())
        service = service._replace(argv=(BASH, f"/proc/self/fd/{copy.fd}"))
    become.become(service)
