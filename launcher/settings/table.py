"""The settings: one table, and the values in force.  Pure.

A setting is an environment variable of the container; `config` reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from launcher.model.plan import GpuRequest, KeyLine, Secret
from launcher.settings import accepts


@dataclass(frozen=True)
class Setting:
    """One row: `parse` turns the text into the value or raises ValueError with what is accepted."""

    field: str
    name: str
    default: Any
    parse: Callable[[str], Any]
    help: str
    aliases: tuple[str, ...] = ()
    secret: bool = False
    adds_up: bool = False  # every name that is set counts, not the first alone


# fmt: off
TABLE: tuple[Setting, ...] = (
    Setting("jupyter_token", "JUPYTER_TOKEN", None, accepts.token,
            "Jupyter's token. Unset: 32 random bytes, kept in the state directory.",
            ("JUPYTER_PASSWORD", "WEB_TOKEN", "WEB_PASSWORD", "OPEN_BUTTON_TOKEN"), secret=True),
    Setting("jupyter_token_file", "JUPYTER_TOKEN_FILE", None, accepts.absolute,
            "File that holds the token (white space around it is ignored).",
            ("JUPYTER_PASSWORD_FILE",)),
    Setting("jupyter_port", "JUPYTER_PORT", 8888, accepts.port,
            "Port that Jupyter listens on, in the container.",
            ("NOTEBOOK_PORT", "WORKSPACE_PORT")),
    Setting("jupyter_port_host", "JUPYTER_PORT_HOST", None, accepts.port,
            "Port that you published it on, for the banner."),
    Setting("jupyter_base_url", "LAUNCHER_JUPYTER_BASE_URL", "/", accepts.base_url,
            "Path below which Jupyter serves, for a proxy that keeps it.",
            ("NB_PREFIX", "NOTEBOOK_BASE_URL", "WORKSPACE_BASE_URL", "JUPYTERHUB_SERVICE_PREFIX")),
    Setting("jupyter_arguments", "LAUNCHER_JUPYTER_ARGS", (), accepts.jupyter_arguments,
            "More options for Jupyter's command line, as in a shell.", ("NOTEBOOK_ARGS",),
            secret=True),
    Setting("jupyter_disabled", "LAUNCHER_JUPYTER_DISABLE", False, accepts.flag,
            "Start no Jupyter: SSH alone.", ("JUPYTER_DISABLE",)),
    Setting("jupyter_idle", "LAUNCHER_JUPYTER_CULL_IDLE", 0, accepts.idle_time,
            "End kernels that have computed nothing for this long, such as 12h. 0: never.",
            ("SHUTDOWN_INACTIVE_KERNELS",)),
    Setting("tls", "LAUNCHER_TLS", False, accepts.flag,
            "Jupyter answers https, with a certificate of its own making unless one is given.",
            ("GEN_CERT", "ENABLE_HTTPS", "WEB_ENABLE_HTTPS", "WORKSPACE_SSL_ENABLED")),
    Setting("tls_cert", "LAUNCHER_TLS_CERT", None, accepts.absolute,
            "File with the certificate chain (PEM) for https; needs LAUNCHER_TLS_KEY too."),
    Setting("tls_key", "LAUNCHER_TLS_KEY", None, accepts.absolute,
            "File with that certificate's private key (PEM, not encrypted)."),
    Setting("ssh_port", "SSH_PORT", 22, accepts.port,
            "Port that SSH listens on, in the container. Unset, and not root: 2222.",
            ("LISTEN_PORT",)),
    Setting("ssh_port_host", "SSH_PORT_HOST", None, accepts.port,
            "Port that you published it on, for the banner. Unset: 2222 stands for 22."),
    Setting("public_key", "PUBLIC_KEY", None, accepts.text,
            "Public keys that may log in, one a line. Every name and file given counts.",
            ("SSH_PUBLIC_KEY", "SSH_PUBLIC_KEYS", "SSH_PUBKEY", "SSH_KEY", "AUTHORIZED_KEYS"),
            adds_up=True),
    Setting("public_key_file", "PUBLIC_KEY_FILE", None, accepts.absolute,
            "File of public keys, such as a mounted secret."),
    Setting("public_key_dir", "PUBLIC_KEY_DIR", None, accepts.absolute,
            "Directory of such files; the next one counts besides."),
    Setting("keys_dir", "LAUNCHER_KEYS_DIR", "/etc/launcher/authorized_keys.d", accepts.absolute,
            "Directory of mounted authorized_keys files."),
    Setting("ssh_password", "LAUNCHER_SSH_PASSWORD", "auto", accepts.password_policy,
            "auto: a random password when no key source is set; off: never a password.",
            ("PASSWORD_ACCESS",)),
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
    Setting("stop_timeout", "LAUNCHER_STOP_TIMEOUT", 8.0, accepts.seconds,
            "Seconds from a stop request until what still runs is killed; less than the engine "
            "waits (Docker: 10)."),
    Setting("quiet", "LAUNCHER_QUIET", False, accepts.flag,
            "Command mode prints no summary line.", ("JUPYTER_DOCKER_STACKS_QUIET",)),
    Setting("services", "LAUNCHER_SERVICES", None, accepts.services,
            "Services to start: jupyter, ssh, and the programs of /etc/launcher/supervisor.d. "
            "Unset: all."),
    Setting("required_services", "LAUNCHER_REQUIRED_SERVICES", ("jupyter", "ssh"),
            accepts.services_or_none,
            "Services that end the container with 70 when they fail for good. Unset: jupyter,ssh."),
    Setting("restart_delay", "LAUNCHER_RESTART_DELAY", 30.0, accepts.seconds,
            "Longest wait, in seconds, before a service that keeps ending is started again."),
    Setting("hooks", "LAUNCHER_HOOKS", "stop", accepts.choice("stop", "warn"),
            "A hook that fails ends the start with 70 (stop), or is only named (warn)."),
    Setting("safe_mode", "LAUNCHER_SAFE_MODE", False, accepts.flag,
            "Run no hook, and no program of /etc/launcher/supervisor.d: to mend them.",
            ("SAGEMAKER_RECOVERY_MODE",)),
    Setting("gpu_watch", "LAUNCHER_GPU_WATCH", 30.0, accepts.gpu_watch,
            "Seconds between two looks at the GPUs of a running box. 0: none."),
    Setting("listen", "LAUNCHER_LISTEN", "", accepts.host,
            "Address that Jupyter and SSH listen on. Unset: every address."),
    Setting("user", "NB_USER", "dev", accepts.user,
            "Name of the workspace user: who notebooks, terminals and SSH logins run as."),
    Setting("uid", "NB_UID", None, accepts.account_id,
            "Its uid. Unset: the workspace's owner, else 1000.", ("PUID",)),
    Setting("gid", "NB_GID", None, accepts.account_id,
            "Its gid. Unset: the account's own; of a new one, the workspace's group.", ("PGID",)),
    Setting("group", "NB_GROUP", None, accepts.user,
            "Name of that group."),
    Setting("umask", "NB_UMASK", None, accepts.umask,
            "umask of everything that runs for the user, such as 002.", ("UMASK",)),
    Setting("chown_home", "CHOWN_HOME", False, accepts.flag,
            "Give the home directory to the user at the start."),
    Setting("chown_home_opts", "CHOWN_HOME_OPTS", "", accepts.choice("-R"),
            "-R: with everything in it."),
    Setting("grant_sudo", "GRANT_SUDO", True, accepts.flag,
            "no: no sudo for the user, and no SSH login for root.", ("SUDO_ACCESS",)),
    Setting("workspace", "WORKSPACE", "/workspace", accepts.absolute,
            "Where notebooks open and commands start.",
            ("JUPYTER_DIR", "NOTEBOOK_ROOT_DIR", "RP_WORKSPACE")),
    Setting("python", "LAUNCHER_PYTHON", "", accepts.absolute,
            "Python of the user environment. Unset: /opt/venv/bin/python, else the launcher's."),
    Setting("state_dir", "LAUNCHER_STATE_DIR", "/var/lib/launcher", accepts.absolute,
            "Directory kept over restarts: token, password, host keys."),
    Setting("env_exclude", "LAUNCHER_ENV_EXCLUDE", (), accepts.variable_names,
            "Variables that notebooks and logins do not get: names and patterns."),
    Setting("env_unset", "JUPYTER_ENV_VARS_TO_UNSET", (), accepts.variable_names,
            "The same, as the Jupyter Docker Stacks call it; both count."),
    Setting("run_dir", "LAUNCHER_RUN_DIR", "/run/launcher", accepts.socket_dir,
            "Directory of this run's own files. Unset, and not root: /tmp/launcher-UID."),
)
# fmt: on


@dataclass(frozen=True)
class Settings:
    """The values in force; one field for each row of TABLE."""

    jupyter_token: Secret | None
    jupyter_token_file: str | None
    jupyter_port: int
    jupyter_port_host: int | None
    jupyter_base_url: str
    jupyter_arguments: tuple[str, ...]
    jupyter_disabled: bool
    jupyter_idle: int  # seconds
    tls: bool
    tls_cert: str | None
    tls_key: str | None
    ssh_port: int
    ssh_port_host: int | None
    public_key: str | None
    public_key_file: str | None
    public_key_dir: str | None
    keys_dir: str
    ssh_password: str
    gpus: GpuRequest
    gpu_min_free: int  # bytes
    gpu_ids: str
    require_gpu: int
    detect_timeout: float
    ready_timeout: float
    stop_timeout: float  # seconds
    quiet: bool
    services: tuple[str, ...] | None  # None = all
    required_services: tuple[str, ...]
    restart_delay: float  # seconds
    hooks: str  # "stop" | "warn"
    safe_mode: bool
    gpu_watch: float  # seconds
    listen: str
    user: str
    uid: int | None
    gid: int | None
    group: str | None
    umask: int | None
    chown_home: bool
    chown_home_opts: str
    grant_sudo: bool
    workspace: str
    python: str
    state_dir: str
    env_exclude: tuple[str, ...]  # names and patterns
    env_unset: tuple[str, ...]
    run_dir: str
    color: bool  # stdout is a terminal and NO_COLOR is not set (no-color.org)
    given: Mapping[str, str]  # setting -> the variable it came from
    key_lines: tuple[KeyLine, ...]  # every line of every key source
    key_source_set: bool  # some key source was set, valid or not
    environ: Mapping[str, str] = field(repr=False)  # the container's environment, whole
    warnings: tuple[str, ...]

    @property
    def https(self) -> bool:
        """Whether Jupyter needs a certificate: its own, or the user's."""
        return bool(self.tls or self.tls_cert or self.tls_key)
