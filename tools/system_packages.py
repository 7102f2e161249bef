"""Install what is missing from the distribution: `python3 -m tools.system_packages NAME`.

Only root on a machine with apt gets anything installed; anybody else is told what is missing.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tools.turn import turn

# Each package with the program that shows it is there.
SETS: dict[str, dict[str, str]] = {
    "venv": {"python3-venv": ""},  # shown by a module, see _is_missing
    "ssh": {"openssh-server": "sshd"},
    "test": {
        "openssh-server": "sshd",
        "openssh-client": "ssh",
        "sshpass": "sshpass",
        "rsync": "rsync",
        "gcc": "gcc",
        "libc6-dev": "",  # shown by a header
        "libnss-wrapper": "",  # shown by its library
        "git": "git",
    },
    "containers": {
        "docker.io": "dockerd",
        "docker-compose": "docker-compose",
        "debootstrap": "debootstrap",
        "iptables": "iptables",
        "iproute2": "ip",
        "tini": "tini",
        "nodejs": "node",  # with npm, for programs of its (tools/npm.py)
        "npm": "npm",
        "munge": "munged",  # Slurm, of the tests' own
        "slurmctld": "slurmctld",
        "slurmd": "slurmd",
        "slurm-client": "srun",
        "slurm-wlm-basic-plugins": "",  # shown by a folder
    },
    "registry": {"docker-registry": "docker-registry"},
    "podman": {"podman": "podman", "netavark": "", "catatonit": "catatonit", "runc": "runc"},
    # Apart: a package that a distribution lacks keeps apt from installing those beside it.
    "browser": {"chromium": ""},  # shown by any program of BROWSERS
}
# Chromium has several names, and Chrome is as good.
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SHOWN_OTHERWISE = {
    "chromium": lambda: browser() is not None,
    "python3-venv": lambda: importlib.util.find_spec("ensurepip") is not None,
    "libc6-dev": lambda: Path("/usr/include/stdio.h").exists(),
    "slurm-wlm-basic-plugins": lambda: any(Path("/usr/lib").glob("*/slurm*/auth_munge.so")),
    "netavark": lambda: Path("/usr/lib/podman/netavark").exists(),
    "libnss-wrapper": lambda: any(Path("/usr/lib").glob("*/libnss_wrapper.so")),
}
# Packages that start a server at once and at every boot, where only the program is wanted.
SERVERS = {
    "openssh-server": "ssh.service",
    "docker.io": "docker.service",
    "munge": "munge.service",
    "slurmctld": "slurmctld.service",
    "slurmd": "slurmd.service",
    "docker-registry": "docker-registry.service",
}
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"  # not on everybody's PATH


def browser() -> str | None:
    """Return the program of a browser of Chromium's kind; None where there is none."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def missing(name: str) -> list[str]:
    """Return the packages of the set that this machine lacks."""
    return [package for package, program in SETS[name].items() if not _is_there(package, program)]


def provide(name: str) -> bool:
    """Install what is missing, if we may; say whether everything is there afterwards."""
    packages = missing(name)
    if not packages:
        return True
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        print(f"missing: {' '.join(packages)} (as root: apt-get install {' '.join(packages)})")
        return False
    with turn("apt"):  # apt-get fails where another one runs
        _install(missing(name))
    return not missing(name)


def _install(packages: list[str]) -> None:
    if not packages:
        return  # another process has done it
    print(f"installing through apt: {' '.join(packages)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for task in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        # Its words only where it failed.  An update fails for one source that is down; the packages
        # may come from another.
        command = ["apt-get", "-qq", *task]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            print(done.stdout + done.stderr, file=sys.stderr)
    _keep_from_serving(packages)


def _keep_from_serving(packages: list[str]) -> None:
    """Stop the servers that were just installed: nobody asked this machine to serve them."""
    units = [SERVERS[package] for package in packages if package in SERVERS]
    if units and Path("/run/systemd/system").is_dir():
        subprocess.run(["systemctl", "--quiet", "disable", "--now", *units], check=False)


def _is_there(package: str, program: str) -> bool:
    if package in SHOWN_OTHERWISE:
        return SHOWN_OTHERWISE[package]()
    return shutil.which(program, path=PATH) is not None


if __name__ == "__main__":
    wanted = sys.argv[1:]
    if not wanted or not set(wanted) <= set(SETS):
        sys.exit(f"usage: python3 -m tools.system_packages {{{','.join(SETS)}}}...")
    everything = [provide(name) for name in wanted]
    sys.exit(0 if all(everything) else 1)
