"""What is compared: the launcher, stock supervisord with the same two programs, bare Jupyter."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.layout import PROJECT, Layout, free_port


@dataclass(frozen=True)
class Start:
    """One start of a contender, in a new directory, on new ports."""

    argv: tuple[str, ...]
    environ: Mapping[str, str]
    jupyter_port: int
    ssh_port: int | None
    # How one asks whether it is well; none for a bare program.
    health_argv: tuple[str, ...] = ()
    # Who writes the banner keeps a copy here.
    banner_file: Path | None = None


def bare(layout: Layout, folder: Path) -> Start:
    port = free_port()
    return Start(jupyter_argv(layout, port), layout.environ, port, None)


def stock(layout: Layout, folder: Path) -> Start:
    """supervisord as one writes it down: two programs, their output to the container's log."""
    jupyter_port, ssh_port = free_port(), free_port()
    sshd_config = folder / "sshd_config"
    sshd_config.write_text(
        f"Port {ssh_port}\nListenAddress 127.0.0.1\nHostKey {layout.host_key}\n"
        "PidFile none\nUsePAM no\n"
    )
    programs = {
        "jupyter": " ".join(jupyter_argv(layout, jupyter_port)),
        "sshd": f"{layout.sshd} -D -e -f {sshd_config}",
    }
    config = folder / "supervisord.conf"
    config.write_text(supervisord_config(folder, programs))
    scripts = layout.launcher_python.parent
    return Start(
        (f"{scripts}/supervisord", "-c", str(config)),
        layout.environ,
        jupyter_port,
        ssh_port,
        health_argv=(f"{scripts}/supervisorctl", "-c", str(config), "status"),
    )


def supervisord_config(folder: Path, programs: Mapping[str, str]) -> str:
    text = f"""\
[supervisord]
nodaemon=true
logfile=/dev/null
logfile_maxbytes=0
pidfile={folder}/supervisord.pid

[unix_http_server]
file={folder}/supervisor.sock

[supervisorctl]
serverurl=unix://{folder}/supervisor.sock

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""
    for name, command in programs.items():
        text += f"""
[program:{name}]
command={command}
redirect_stderr=true
stdout_logfile=/dev/fd/1
stdout_logfile_maxbytes=0
"""
    return text


def jupyter_argv(layout: Layout, port: int) -> tuple[str, ...]:
    return (
        f"{layout.user_bin}/jupyter", "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
        f"--port={port}", f"--ServerApp.root_dir={layout.root}/workspace",
    )  # fmt: skip


def ours(layout: Layout, folder: Path) -> Start:
    """The launcher's first start: its state directory is empty, so it makes its keys too."""
    jupyter_port, ssh_port = free_port(), free_port()
    environ = {
        **layout.environ,
        "LAUNCHER_RUN_DIR": f"{folder}/run",
        "LAUNCHER_STATE_DIR": f"{folder}/state",
        "LAUNCHER_PYTHON": f"{layout.user_bin}/python",
        "LAUNCHER_LISTEN": "127.0.0.1",
        "JUPYTER_PORT": str(jupyter_port),
        "SSH_PORT": str(ssh_port),
        "WORKSPACE": f"{layout.root}/workspace",
        "NB_USER": getpass.getuser(),
    }
    return Start(
        (str(layout.launcher_python), "-I", str(PROJECT / "entrypoint.py")),
        environ,
        jupyter_port,
        ssh_port,
        health_argv=(f"{layout.launcher_python.parent}/launcher", "healthcheck"),
        banner_file=folder / "run/banner",
    )


CONTENDERS: dict[str, Callable[[Layout, Path], Start]] = {
    "bare": bare,
    "stock": stock,
    "ours": ours,
}
