"""Turn the plan into the text of every file that the services read.  Pure: returns, never writes.

User values are data here: each goes through the quoting of the one format it lands in.
"""

from __future__ import annotations

import json

from launcher import codec
from launcher.doors import environment_sh, path_sh
from launcher.jupyter_config import jupyter_config, jupyter_service
from launcher.machine import Machine
from launcher.model import Plan, RenderedFile, Service
from launcher.sshd_config import sshd_config, sshd_service


def render(plan: Plan) -> tuple[RenderedFile, ...]:
    """Return every file and directory to be made, parents first."""
    user = plan.identity.account
    run = plan.paths.run
    root = _Owner(run)
    files = [
        root.directory("", 0o755),
        root.directory("log", 0o700),
        root.directory("services", 0o700),
        root.file("plan.json", codec.to_json(plan, reveal=True), 0o600),
        RenderedFile(f"{run}/environment.sh", environment_sh(plan), 0o640, -1, user.gid),
        RenderedFile(f"{run}/path.sh", path_sh(plan), 0o640, -1, user.gid),
    ]
    services: list[Service] = []
    if plan.jupyter:
        config = json.dumps(jupyter_config(plan, plan.jupyter), indent=1)
        files += [
            RenderedFile(f"{run}/jupyter", None, 0o700, user.uid, user.gid),
            RenderedFile(f"{run}/jupyter.json", config, 0o600, user.uid, user.gid),
        ]
        services.append(jupyter_service(plan))
    if plan.ssh:
        keys = "".join(f"{key.text}\n" for key in plan.ssh.keys if key.fault is None)
        files += [
            root.directory("ssh", 0o755),
            root.file("ssh/authorized_keys", keys, 0o644),  # sshd reads it as the user
            root.file("ssh/sshd_config", sshd_config(plan, plan.ssh), 0o600),
        ]
        services.append(sshd_service(plan, plan.ssh))
    files += [
        root.file(f"services/{service.name}.json", codec.to_json(service), 0o600)
        for service in services
    ]
    return tuple(files)


def machine_file(plan: Plan, machine: Machine) -> RenderedFile:
    """Return what detect found, as the banner and `launcher detect` will read it."""
    return _Owner(plan.paths.run).file("machine.json", codec.to_json(machine), 0o600)


class _Owner:
    """Files of whoever runs the launcher (uid -1: do not change the owner)."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def file(self, name: str, content: str, mode: int) -> RenderedFile:
        return RenderedFile(f"{self._directory}/{name}", content, mode, -1, -1)

    def directory(self, name: str, mode: int) -> RenderedFile:
        path = f"{self._directory}/{name}".rstrip("/")
        return RenderedFile(path, None, mode, -1, -1)
