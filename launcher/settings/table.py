"""The settings: one table, and the values in force.  Pure.

A setting is an environment variable of the container; `load` reads it.  Each is declared once, as
a field of `Settings`, whose default is its row of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from launcher.model.named_tuple import NamedTuple
from launcher.model.plan import GpuRequest, KeyLine, NamedPort, Secret
from launcher.settings import accepts, chown, ports

Value = TypeVar("Value")
Default = TypeVar("Default")


class Setting(NamedTuple):
    """One row: `parse` turns the text into the value or raises ValueError with what is accepted."""

    name: str
    default: Any
    parse: Callable[[str], Any]
    help: str
    aliases: tuple[str, ...] = ()
    secret: bool = False
    adds_up: bool = False  # every name that is set counts, not the first alone
    field: str = ""  # of `Settings`


def setting(
    name: str,
    default: Default,
    parse: Callable[[str], Value],
    help: str,
    aliases: tuple[str, ...] = (),
    **marks: bool,
) -> Value | Default:
    """Declare a field of `Settings`: for the type checker a value, for the table its row.

    Args:
        marks: `secret`, `adds_up`.
    """
    return cast("Value | Default", Setting(name, default, parse, help, aliases, **cast(Any, marks)))


class Settings(NamedTuple):
    """The values in force: what was read besides, then one field for each row of TABLE."""

    color: bool  # stdout is a terminal and NO_COLOR is not set (no-color.org)
    set_aside: tuple[str, ...]  # variables that root's programs do without (settings/environ)
    given: Mapping[str, str]  # setting -> the variable it came from
    key_lines: tuple[KeyLine, ...]  # every line of every key source
    key_source_set: bool  # some key source was set, valid or not
    # Options for Jupyter's command line, by what they came with: a variable, or a command's word.
    jupyter_options: tuple[tuple[str, tuple[str, ...]], ...]
    environ: Mapping[str, str]  # the container's environment, whole
    home: str  # of the workspace user, where a platform's volume is it; "" = the account's own
    warnings: tuple[str, ...]

    # fmt: off
    jupyter_token: Secret | None = setting("JUPYTER_TOKEN", None, accepts.token,
        "Jupyter's token. Unset: 32 random bytes, kept in the state directory.",
        ("JUPYTER_PASSWORD", "WEB_TOKEN", "WEB_PASSWORD", "OPEN_BUTTON_TOKEN"), secret=True)
    jupyter_token_file: str | None = setting("JUPYTER_TOKEN_FILE", None, accepts.absolute,
        "File that holds the token (white space around it is ignored).",
        ("JUPYTER_PASSWORD_FILE",))
    jupyter_auth: str = setting("LAUNCHER_JUPYTER_AUTH", "token", accepts.choice("token", "proxy"),
        "proxy: no token, for a proxy of Kubernetes' that asks who somebody is.")
    jupyter_port: int = setting("JUPYTER_PORT", 8888, accepts.port,
        "Port that Jupyter listens on, in the container.",
        ("NOTEBOOK_PORT", "WORKSPACE_PORT"))
    jupyter_port_host: int | None = setting("JUPYTER_PORT_HOST", None, accepts.port,
        "Port that you published it on, for the banner.")
    jupyter_base_url: str = setting("LAUNCHER_JUPYTER_BASE_URL", "/", accepts.base_url,
        "Path below which Jupyter serves, for a proxy that keeps it.",
        ("NB_PREFIX", "NOTEBOOK_BASE_URL", "WORKSPACE_BASE_URL", "JUPYTERHUB_SERVICE_PREFIX"))
    jupyter_arguments: tuple[str, ...] = setting("LAUNCHER_JUPYTER_ARGS", (),
        accepts.jupyter_arguments,
        "More options for Jupyter's command line, as in a shell.", ("NOTEBOOK_ARGS",),
        secret=True)
    allow_origin: tuple[str, ...] = setting("LAUNCHER_ALLOW_ORIGIN", (), accepts.origins,
        "More origins whose pages may use Jupyter, such as https://lab.example.org; *: any.")
    jupyter_disabled: bool = setting("LAUNCHER_JUPYTER_DISABLE", False, accepts.flag,
        "Start no Jupyter: SSH alone.", ("JUPYTER_DISABLE",))
    page: bool = setting("LAUNCHER_PAGE", True, accepts.flag,
        "A page about the box, below Jupyter's address and login; off: none.")
    metrics_token: Secret | None = setting("LAUNCHER_METRICS_TOKEN", None, accepts.token,
        "Token that opens the page's metrics and nothing else, for Prometheus.", secret=True)
    metrics_token_file: str | None = setting("LAUNCHER_METRICS_TOKEN_FILE", None,
        accepts.absolute,
        "File that holds it (white space around it is ignored).")
    ports: tuple[NamedPort, ...] = setting("LAUNCHER_PORTS", (), ports.named_ports,
        "Programs of yours to show in JupyterLab and on the page: 7860=Gradio,6006=TensorBoard.")
    jupyter_idle: int = setting("LAUNCHER_JUPYTER_CULL_IDLE", 0, accepts.idle_time,
        "End kernels that have computed nothing for this long, such as 12h. 0: never.",
        ("SHUTDOWN_INACTIVE_KERNELS",))  # seconds
    tls: bool = setting("LAUNCHER_TLS", False, accepts.flag,
        "Jupyter answers https, with a certificate of its own making unless one is given.",
        ("GEN_CERT", "ENABLE_HTTPS", "WEB_ENABLE_HTTPS", "WORKSPACE_SSL_ENABLED"))
    tls_cert: str | None = setting("LAUNCHER_TLS_CERT", None, accepts.absolute,
        "File with the certificate chain (PEM) for https; needs LAUNCHER_TLS_KEY too.")
    tls_key: str | None = setting("LAUNCHER_TLS_KEY", None, accepts.absolute,
        "File with that certificate's private key (PEM, not encrypted).")
    ssh_port: int = setting("SSH_PORT", 22, accepts.port,
        "Port that SSH listens on, in the container. Unset, and not root: 2222.",
        ("LISTEN_PORT",))
    ssh_port_host: int | None = setting("SSH_PORT_HOST", None, accepts.port,
        "Port that you published it on, for the banner. Unset: 2222 stands for 22.")
    public_key: str | None = setting("PUBLIC_KEY", None, accepts.text,
        "Public keys that may log in, one a line. Every name and file given counts.",
        ("SSH_PUBLIC_KEY", "SSH_PUBLIC_KEYS", "SSH_PUBKEY", "SSH_KEY", "AUTHORIZED_KEYS"),
        adds_up=True)
    public_key_file: str | None = setting("PUBLIC_KEY_FILE", None, accepts.absolute,
        "File of public keys, such as a mounted secret.")
    public_key_dir: str | None = setting("PUBLIC_KEY_DIR", None, accepts.absolute,
        "Directory of such files; the next one counts besides.")
    keys_dir: str = setting("LAUNCHER_KEYS_DIR", "/etc/launcher/authorized_keys.d",
        accepts.absolute,
        "Directory of mounted authorized_keys files.")
    ssh_password: str = setting("LAUNCHER_SSH_PASSWORD", "auto", accepts.password_policy,
        "auto: a random password when no key source is set; off: never a password.",
        ("PASSWORD_ACCESS",))
    ssh_compatible: bool = setting("LAUNCHER_SSH_COMPAT", False, accepts.flag,
        "Let old SSH clients in: NIST curves, DH group 14, SHA-1.")
    gpus: GpuRequest = setting("LAUNCHER_GPUS", GpuRequest(), accepts.gpu_request,
        "GPUs that CUDA sees: all, none, the best N, a list, index:N, idle or idle:N.")
    gpu_min_free: int = setting("LAUNCHER_GPU_MIN_FREE", 0, accepts.size,
        "Leave out GPUs with less free memory than this, such as 20GiB.")  # bytes
    gpu_ids: str = setting("LAUNCHER_GPU_IDS", "auto", accepts.choice("auto", "index", "uuid"),
        "How CUDA_VISIBLE_DEVICES names them. auto: indices where they are safe.")
    require_gpu: int = setting("LAUNCHER_REQUIRE_GPU", 0, accepts.gpu_count,
        "Exit with 69 unless CUDA opens this many GPUs (1 = at least one).")
    detect_timeout: float = setting("LAUNCHER_DETECT_TIMEOUT", 30.0, accepts.seconds,
        "Seconds to wait for the driver library before starting without GPUs; a look at the GPUs "
        "of a running box has as long, or longer.")
    ready_timeout: float = setting("LAUNCHER_READY_TIMEOUT", 60.0, accepts.seconds,
        "Seconds to wait for the services before saying what is not ready.")
    stop_timeout: float = setting("LAUNCHER_STOP_TIMEOUT", 8.0, accepts.seconds,
        "Seconds from a stop request until what still runs is killed; less than the engine "
        "waits (Docker: 10).")  # seconds
    quiet: bool = setting("LAUNCHER_QUIET", False, accepts.flag,
        "Command mode prints no summary line.", ("JUPYTER_DOCKER_STACKS_QUIET",))
    with_command: str = setting("LAUNCHER_WITH_COMMAND", "nothing",
        accepts.choice("nothing", "services"),
        "What runs beside the command of docker run IMAGE CMD: nothing, or services.")
    services: tuple[str, ...] | None = setting("LAUNCHER_SERVICES", None, accepts.services,
        "Services to start: jupyter, ssh, and the programs of /etc/launcher/supervisor.d. "
        "Unset: all.")  # None = all
    required_services: tuple[str, ...] = setting("LAUNCHER_REQUIRED_SERVICES", ("jupyter", "ssh"),
        accepts.services_or_none,
        "Services that end the container with 70 when they fail for good. Unset: jupyter,ssh.")
    restart_delay: float = setting("LAUNCHER_RESTART_DELAY", 30.0, accepts.seconds,
        "Longest wait, in seconds, before a service that keeps ending is started again.")  # seconds
    hooks: str = setting("LAUNCHER_HOOKS", "stop", accepts.choice("stop", "warn"),
        "A hook that fails ends the start with 70 (stop), or is only named (warn).")
    safe_mode: bool = setting("LAUNCHER_SAFE_MODE", False, accepts.flag,
        "Run no hook, and read no file of supervisor.d and sshd_config.d: to mend them.",
        ("SAGEMAKER_RECOVERY_MODE",))
    gpu_watch: float = setting("LAUNCHER_GPU_WATCH", 30.0, accepts.gpu_watch,
        "Seconds between two looks at the GPUs of a running box. 0: none.")  # seconds
    check_pytorch: bool = setting("LAUNCHER_CHECK_PYTORCH", True, accepts.flag,
        "Import PyTorch once after the banner, and compute on each GPU; off: only launcher doctor "
        "does.")
    idle_shutdown: int = setting("LAUNCHER_IDLE_SHUTDOWN", 0, accepts.idle_time,
        "End the box, with 0, when nobody has used it for this long, such as 4h. 0: never.")
    listen: str = setting("LAUNCHER_LISTEN", "", accepts.host,
        "Address that Jupyter and SSH listen on. Unset: every address.")
    user: str = setting("NB_USER", "dev", accepts.user,
        "Name of the workspace user: who notebooks, terminals and SSH logins run as.")
    uid: int | None = setting("NB_UID", None, accepts.account_id,
        "Its uid. Unset: the workspace's owner, else 1000.", ("PUID",))
    gid: int | None = setting("NB_GID", None, accepts.account_id,
        "Its gid. Unset: the account's own; of a new one, the workspace's group.", ("PGID",))
    group: str | None = setting("NB_GROUP", None, accepts.user,
        "Name of that group.")
    umask: int | None = setting("NB_UMASK", None, accepts.umask,
        "umask of everything that runs for the user, such as 002.", ("UMASK",))
    chown_home: bool = setting("CHOWN_HOME", False, accepts.flag,
        "Give the home directory to the user at the start.")
    chown_home_opts: str = setting("CHOWN_HOME_OPTS", "", chown.options,
        "-R: with everything in it.")
    chown_extra: tuple[str, ...] = setting("CHOWN_EXTRA", (), chown.folders,
        "Folders to give to the user at the start, besides.")
    chown_extra_opts: str = setting("CHOWN_EXTRA_OPTS", "", chown.options,
        "-R: with everything in them.")
    grant_sudo: bool = setting("GRANT_SUDO", True, accepts.flag,
        "no: no sudo for the user, and no SSH login for root.", ("SUDO_ACCESS",))
    workspace: str = setting("WORKSPACE", "/workspace", accepts.absolute,
        "Where notebooks open and commands start.",
        ("JUPYTER_DIR", "NOTEBOOK_ROOT_DIR", "RP_WORKSPACE"))
    python: str = setting("LAUNCHER_PYTHON", "", accepts.absolute,
        "Python of the user environment. Unset: /opt/venv/bin/python, else the launcher's.")
    packages: str = setting("LAUNCHER_PACKAGES", "image", accepts.choice("image", "workspace"),
        "Where pip and uv install: the image's environment, or one on the workspace, kept with it.")
    state_dir: str = setting("LAUNCHER_STATE_DIR", "/var/lib/launcher", accepts.absolute,
        "Directory kept over restarts: token, password, host keys.")
    ca_certs: str | None = setting("LAUNCHER_CA_CERTS", None, accepts.absolute,
        "File or folder of certificate authorities (PEM) to trust besides the system's.")
    env_exclude: tuple[str, ...] = setting("LAUNCHER_ENV_EXCLUDE", (), accepts.variable_names,
        "Variables that notebooks and logins do not get: names and patterns.")  # names and patterns
    env_unset: tuple[str, ...] = setting("JUPYTER_ENV_VARS_TO_UNSET", (), accepts.variable_names,
        "The same, as the Jupyter Docker Stacks call it; both count.")
    run_dir: str = setting("LAUNCHER_RUN_DIR", "/run/launcher", accepts.socket_dir,
        "Directory of this run's own files. Unset, and not root: /tmp/launcher-UID.")
    # fmt: on

    def __repr__(self) -> str:
        """Leave out the environment, which holds secrets of the user's."""
        shown = (f"{name}={getattr(self, name)!r}" for name in self._fields if name != "environ")
        return f"Settings({', '.join(shown)})"

    @property
    def cpu_only(self) -> bool:
        """Whether no GPU is wanted; a CUDA_VISIBLE_DEVICES of the user's has the last word."""
        return self.gpus.none and "CUDA_VISIBLE_DEVICES" not in self.environ

    @property
    def https(self) -> bool:
        """Whether Jupyter needs a certificate: its own, or the user's."""
        return bool(self.tls or self.tls_cert or self.tls_key)


TABLE = tuple(row._replace(field=field) for field, row in Settings._field_defaults.items())
