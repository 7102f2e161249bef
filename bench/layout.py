"""Lay out what is measured as the image lays it out, below one temporary directory.

A development environment is no image: an editable install and setuptools' own .pth add some
10 ms of imports to every start of its Python.  So the launcher and supervisord run from a
bare virtualenv of their own that finds the same packages, as /opt/launcher does.
"""

from __future__ import annotations

import compileall
import os
import pwd
import shutil
import socket
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from sim import driver

PROJECT = Path(__file__).parents[1]
TOKEN = "bench"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Below the kernel's ephemeral range: there, a poll of a port that nobody listens on yet can
# connect to itself.
_PORTS = iter(count(21000))


@dataclass(frozen=True)
class Layout:
    root: Path
    environ: dict[str, str]  # what every contender gets alike
    launcher_python: Path
    user_bin: Path  # where the user environment's `jupyter` is
    sshd: str
    host_key: Path


def prepare(root: Path) -> Layout:
    """Make everything that all rounds share."""
    user_bin = Path(sys.executable).parent
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if not (user_bin / "jupyter-lab").exists():
        sys.exit(f"cannot measure: JupyterLab is not installed in {user_bin.parent}")
    if sshd is None:
        sys.exit("cannot measure: OpenSSH's server is not installed")
    compile_bytecode()
    (root / "workspace").mkdir()
    layout = Layout(
        root=root,
        environ=shared_environment(root, user_bin),
        launcher_python=make_launcher_venv(root / "launcher"),
        user_bin=user_bin,
        sshd=sshd,
        host_key=root / "ssh_host_ed25519_key",
    )
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", layout.host_key], check=True
    )
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # sshd demands it of root
    return layout


def compile_bytecode() -> None:
    """Compile everything first, as the image does, so that no side pays for it."""
    compileall.compile_dir(sysconfig.get_path("purelib"), quiet=2)
    compileall.compile_dir(PROJECT / "launcher", quiet=2)


def make_launcher_venv(folder: Path) -> Path:
    """Make the launcher's own virtualenv, and the two scripts in it; return its Python."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    packages = next(folder.glob("lib/python*/site-packages"))
    (packages / "bench.pth").write_text(f"{PROJECT}\n{sysconfig.get_path('purelib')}\n")
    script(folder / "bin/launcher", python, "from launcher.cli.main import main")
    script(folder / "bin/supervisord", python, "from supervisor.supervisord import main")
    script(folder / "bin/supervisorctl", python, "from supervisor.supervisorctl import main")
    return python


def script(path: Path, python: Path, load: str) -> None:
    path.write_text(f"#!{python} -I\nimport sys; {load}\nsys.exit(main())\n")
    path.chmod(0o755)


def shared_environment(root: Path, user_bin: Path) -> dict[str, str]:
    """Return the environment of all contenders: eight GPUs, and none of this user's files."""
    me = pwd.getpwuid(os.getuid())
    base = {
        "PATH": f"{user_bin}:{SYSTEM_PATH}",
        "HOME": me.pw_dir,
        "LANG": "C.UTF-8",
        "JUPYTER_CONFIG_DIR": f"{root}/home/config",
        "JUPYTER_DATA_DIR": f"{root}/home/data",
        "IPYTHONDIR": f"{root}/home/ipython",
        "JUPYTER_TOKEN": TOKEN,
    }
    return with_machine(base, "h100-8x")


def with_machine(base: dict[str, str], machine: str) -> dict[str, str]:
    """Return `base` and what makes a program see the simulated machine."""
    return driver.environment(PROJECT / "build/bench/sim", machine, base)


def free_port() -> int:
    for port in _PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("unreachable: count() does not end")
