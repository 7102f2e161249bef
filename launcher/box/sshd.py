"""sshd's own word on its configuration, before it is to start."""

from __future__ import annotations

from launcher.model import run_files
from launcher.model.errors import BadSetting
from launcher.model.plan import Ssh

_SECONDS = 10.0


def check_drop_ins(ssh: Ssh, run_dir: str, environ: dict[str, str]) -> None:
    """Let sshd read what people added to its configuration: sshd(8), -t.

    Args:
        environ: sshd's.

    Raises BadSetting with sshd's words where it would not start.
    """
    if not ssh.drop_ins:
        return
    import glob  # both where they are needed
    import subprocess

    if not glob.glob(f"{ssh.drop_ins}/*.conf"):
        return

    argv = [ssh.sshd, "-t", "-f", f"{run_dir}/{run_files.SSHD_CONFIG}"]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=_SECONDS, check=False, env=environ
        )
    except (OSError, subprocess.TimeoutExpired) as err:
        raise BadSetting(f"cannot let sshd read {ssh.drop_ins}: {err}") from err
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines()]
        said = "; ".join([line for line in lines if "load host key" not in line][:2])
        raise BadSetting(
            f"sshd refuses what {ssh.drop_ins} has: {said}. Mend it there, or start without: "
            "LAUNCHER_SAFE_MODE=1"
        )
