"""The settings: one table, and the values in force.  Pure.

A setting is an environment variable of the container; `config` reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from launcher import accepts
from launcher.model import GpuRequest, KeyLine, Secret


@dataclass(frozen=True, slots=True)
class Setting:
    """One row: `parse` turns the text into the value or raises ValueError with what is accepted."""

    field: str
    name: str
    default: Any
    parse: Callable[[str], Any]
    help: str
    aliases: tuple[str, ...] = ()
    secret: bool = False


# fmt: off
TABLE: tuple[Setting, ...] = (
    Setting("jupyter_token", "JUPYTER_TOKEN", None, accepts.token,
            "Jupyter's token. Unset: 32 random bytes, kept in the state directory.",
            secret=True),
    Setting("jupyter_token_file", "JUPYTER_TOKEN_FILE", None, accepts.absolute,
            "File that holds the token (white space around it is ignored)."),
    Setting("jupyter_port", "JUPYTER_PORT", 8888, accepts.port,
            "Port that Jupyter listens on, in the container."),
    Setting("jupyter_port_host", "JUPYTER_PORT_HOST", None, accepts.port,
            "Port that you published it on, for the banner."),
    Setting("ssh_port", "SSH_PORT", 22, accepts.port,
            "Port that SSH listens on, in the container.", ("LISTEN_PORT",)),
    Setting("ssh_port_host", "SSH_PORT_HOST", None, accepts.port,
            "Port that you published it on, for the banner. Unset: 2222 stands for 22."),
    Setting("public_key", "PUBLIC_KEY", None, accepts.text,
            "Public keys that may log in, one a line. Every name and file given counts.",
            ("SSH_PUBLIC_KEY", "AUTHORIZED_KEYS")),
    Setting("keys_dir", "LAUNCHER_KEYS_DIR", "/etc/launcher/authorized_keys.d", accepts.absolute,
            "Directory of mounted authorized_keys files."),
    Setting("ssh_password", "LAUNCHER_SSH_PASSWORD", "auto", accepts.choice("auto", "off"),
            "auto: a random password when no key source is set; off: never a password."),
    Setting("gpus", "LAUNCHER_GPUS", GpuRequest(), accepts.gpu_request,
            "GPUs that CUDA sees: all, the best N, a list, idle or idle:N."),
    Setting("gpu_min_free", "LAUNCHER_GPU_MIN_FREE", 0, accepts.size,
            "Leave out GPUs with less free memory than this, such as 20GiB."),
    Setting("gpu_ids", "LAUNCHER_GPU_IDS", "auto", accepts.choice("auto", "index", "uuid"),
            "How CUDA_VISIBLE_DEVICES names them. auto: indices where they are safe."),
    Setting("require_gpu", "LAUNCHER_REQUIRE_GPU", 0, accepts.gpu_count,
            "Exit with 69 unless CUDA opens this many GPUs (1 = at least one)."),
    Setting("detect_timeout", "LAUNCHER_DETECT_TIMEOUT", 30.0, accepts.seconds,
            "Seconds to wait for the driver library before starting without GPUs."),
    Setting("ready_timeout", "LAUNCHER_READY_TIMEOUT", 60.0, accepts.seconds,
            "Seconds to wait for the services before saying what is not ready."),
    Setting("quiet", "LAUNCHER_QUIET", False, accepts.flag,
            "Command mode prints no summary line."),
    Setting("listen", "LAUNCHER_LISTEN", "", accepts.host,
            "Address that Jupyter and SSH listen on. Unset: every address."),
    Setting("user", "NB_USER", "dev", accepts.user,
            "The workspace user: who notebooks, terminals and SSH logins run as."),
    Setting("workspace", "WORKSPACE", "/workspace", accepts.absolute,
            "Where notebooks open and commands start.",
            ("JUPYTER_DIR", "NOTEBOOK_ROOT_DIR", "RP_WORKSPACE")),
    Setting("python", "LAUNCHER_PYTHON", "", accepts.absolute,
            "Python of the user environment. Unset: /opt/venv/bin/python, else the launcher's."),
    Setting("state_dir", "LAUNCHER_STATE_DIR", "/var/lib/launcher", accepts.absolute,
            "Directory kept over restarts: token, password, host keys."),
    Setting("run_dir", "LAUNCHER_RUN_DIR", "/run/launcher", accepts.socket_dir,
            "Directory of this run's own files."),
)
# fmt: on

# Values that must not reach notebooks and logins: our own secrets, and what describes a
# process rather than the container.
NOT_INHERITED = {row.name for row in TABLE if row.secret} | {
    "HOME", "USER", "LOGNAME", "SHELL", "PWD", "OLDPWD", "SHLVL", "_", "TERM", "HOSTNAME",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Settings:
    """The values in force; one field for each row of TABLE."""

    jupyter_token: Secret | None
    jupyter_token_file: str | None
    jupyter_port: int
    jupyter_port_host: int | None
    ssh_port: int
    ssh_port_host: int | None
    public_key: str | None
    keys_dir: str
    ssh_password: str
    gpus: GpuRequest
    gpu_min_free: int  # bytes
    gpu_ids: str
    require_gpu: int
    detect_timeout: float
    ready_timeout: float
    quiet: bool
    listen: str
    user: str
    workspace: str
    python: str
    state_dir: str
    run_dir: str
    color: bool  # stdout is a terminal and NO_COLOR is not set (no-color.org)
    given: Mapping[str, str]  # setting -> the variable it came from
    key_lines: tuple[KeyLine, ...]  # every line of every key source
    key_source_set: bool  # some key source was set, valid or not
    environ: Mapping[str, str] = field(repr=False)  # the container's environment, whole
    warnings: tuple[str, ...]
