"""Turn the plan into the text of every file that the services read.  Pure: returns, never writes.

User values are data here: each goes through the quoting of the one format it lands in.
"""

from __future__ import annotations

import json

from launcher.model import codec, run_files
from launcher.model.machine import Machine
from launcher.model.plan import Plan, RenderedFile, Service
from launcher.model.watch import WatchTarget
from launcher.render.jupyter import certificate_pem, jupyter_config, jupyter_service
from launcher.render.shell import environment_sh, for_root, login_sh
from launcher.render.sshd import authorized_keys, sshd_config, sshd_service


def render(plan: Plan) -> tuple[RenderedFile, ...]:
    """Return every file and directory to be made, parents first."""
    user = plan.identity.account
    run = plan.paths.run
    root = _Owner(run)
    files = [
        *command_files(plan),
        root.directory(run_files.LOG, 0o700),
        root.directory(run_files.SERVICES, 0o700),
        root.file(run_files.SUPERVISION, codec.to_json(plan.supervision), 0o600),
        plan_file(plan),
        root.directory(run_files.USER, 0o755),
    ]
    # Twice, each to be read by its owner alone: root must not run what the user can write, and
    # a group that may read may have other members.
    scripts = {run_files.ENVIRONMENT: environment_sh(plan), run_files.LOGIN: login_sh(plan)}
    for name, script in scripts.items():
        files += [
            root.file(name, for_root(script, plan), 0o600),
            RenderedFile(f"{run}/{run_files.of_the_user(name)}", script, 0o600, user.uid, user.gid),
        ]
    services: list[Service] = []
    if plan.jupyter:
        config = json.dumps(jupyter_config(plan, plan.jupyter), indent=1)
        files += [
            RenderedFile(f"{run}/{run_files.JUPYTER}", None, 0o700, user.uid, user.gid),
            RenderedFile(f"{run}/{run_files.JUPYTER_CONFIG}", config, 0o600, user.uid, user.gid),
        ]
        if plan.jupyter.certificate:
            pem = certificate_pem(plan.jupyter.certificate)
            path = f"{run}/{run_files.JUPYTER_CERTIFICATE}"
            files.append(RenderedFile(path, pem, 0o600, user.uid, user.gid))
        services.append(jupyter_service(plan))
    if plan.ssh:
        files += [
            root.directory(run_files.SSH, 0o755),
            authorized_keys(plan, plan.ssh.keys),
            root.file(run_files.SSHD_CONFIG, sshd_config(plan, plan.ssh), 0o600),
        ]
        services.append(sshd_service(plan, plan.ssh))
    files += [
        root.file(run_files.service(service.name), codec.to_json(service), 0o600)
        for service in services
    ]
    return tuple(files)


def command_files(plan: Plan) -> tuple[RenderedFile, ...]:
    """Return what a command needs too: who may use sudo, as /etc/sudoers.d/launcher includes it."""
    root, user = _Owner(plan.paths.run), plan.identity.account
    # By its number: sudo then asks for no name, and none has to be quoted.
    rule = f"#{user.uid} ALL=(ALL:ALL) NOPASSWD: ALL" if plan.identity.sudo else "# nobody"
    # A user's own, in everybody's folder: nobody else is to look in.
    private = plan.paths.run == f"/tmp/launcher-{user.uid}"
    return (
        root.directory("", 0o700 if private else 0o755),
        root.directory(run_files.SUDOERS, 0o755),
        root.file(run_files.SUDOERS_USER, f"{rule}\n", 0o440),
    )


def plan_file(plan: Plan) -> RenderedFile:
    """Return the plan as `launcher exec` and all the others will read it."""
    return _Owner(plan.paths.run).file(run_files.PLAN, codec.to_json(plan, reveal=True), 0o600)


def machine_file(plan: Plan, machine: Machine) -> RenderedFile:
    """Return what detect found, as the banner and `launcher detect` will read it."""
    return _Owner(plan.paths.run).file(run_files.MACHINE, codec.to_json(machine), 0o600)


def watch_file(target: WatchTarget) -> RenderedFile:
    """Return what watch looks at, with the header that has Jupyter's token."""
    content = codec.to_json(target, reveal=True)
    return _Owner(target.run_dir).file(run_files.WATCH, content, 0o600)


class _Owner:
    """Files of whoever runs the launcher (uid -1: do not change the owner)."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def file(self, name: str, content: str, mode: int) -> RenderedFile:
        return RenderedFile(f"{self._directory}/{name}", content, mode, -1, -1)

    def directory(self, name: str, mode: int) -> RenderedFile:
        path = f"{self._directory}/{name}".rstrip("/")
        return RenderedFile(path, None, mode, -1, -1)
