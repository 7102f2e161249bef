"""The values that travel between the stages.  Imports nothing of ours.

Every unit is in the field's name or comment.  `None` means "this machine does not say".
"""

from __future__ import annotations

import shlex

from launcher.model.host import Account
from launcher.model.named_tuple import NamedTuple
from launcher.model.secret import Secret as Secret


class GpuRequest(NamedTuple):
    """What LAUNCHER_GPUS asks for: these, the best `count`, all (of the idle ones), or none."""

    wanted: tuple[str, ...] = ()  # indices, UUIDs, PCI addresses
    count: int | None = None  # type: ignore[assignment]
    idle: bool = False
    none: bool = False


class NamedPort(NamedTuple):
    """A port of the loopback interface where a program of the user's listens, and its name."""

    port: int
    name: str  # any printable text


class KeyLine(NamedTuple):
    """One line of an authorized_keys source."""

    source: str  # the variable or file it came from
    number: int  # line number there, from 1
    text: str
    fault: str | None = None  # why it is not a key
    fingerprint: str = ""  # "SHA256:…", where ssh-keygen has read it


class Certificate(NamedTuple):
    """What Jupyter shows for https."""

    chain: str  # PEM
    key: Secret  # PEM
    self_signed: bool


class State(NamedTuple):
    """What outlives a restart: lives in the state directory."""

    token: Secret
    password: Secret
    host_key: (
        str | None
    )  # "ssh-ed25519 AAAA…"; None where ssh-keygen makes none (FIPS), or is not there
    login_key: str | None = None  # public half of a key made for the owner of a plain machine
    keys: tuple[KeyLine, ...] = ()  # those of the settings and of `launcher keys`, validated
    rsa_host_key: str | None = None  # made after readiness, so there from the second start on
    home_fault: str | None = None  # why the user's home cannot be written
    workspace_writable: bool | None = None  # as the user himself finds it; None = nobody looked
    keys_fault: str | None = None  # "PATH\nwhy sshd refuses the keys in the user's own file"
    certificate: Certificate | None = None  # Jupyter's, where https is asked for
    packages_fault: str | None = None  # why there is no environment on the workspace
    weakness: str = ""  # who else can change what is kept there: "FOLDER belongs to uid 1000"
    remarks: tuple[str, ...] = ()  # what was there and could not be used, and what became of it


# --- what plan decides -----------------------------------------------------------------


class EnvVar(NamedTuple):
    """A variable of the user's environment, and why it has this value."""

    name: str
    value: str
    why: str


class Finding(NamedTuple):
    """A thing that is wrong: what, what it means for you, how to mend it."""

    id: str
    what: str
    means: str
    fix: str


class Identity(NamedTuple):
    """Who the user's programs run as."""

    account: Account
    why: str
    names: str = "kept"  # how the uid has a name: see identity.py
    group: str = ""  # name of the primary group
    former: Account | None = None  # whose line of passwd(5) this account takes over
    sudo: bool = False
    root_login: bool = True  # root may log in over SSH, with a key
    umask: int | None = None  # None = not set by the user
    chown_home: str = ""  # "" | "folder" | "all"
    chown_extra: tuple[str, ...] = ()  # more folders that become this account's at the start
    chown_extra_all: bool = False  # with everything in them

    @property
    def is_root(self) -> bool:
        return self.account.uid == 0


class Address(NamedTuple):
    """Where a service is reached from outside the container."""

    host: str
    port: int
    container_port: int
    certain: bool  # told by the environment, not assumed
    proxied: bool = False  # by the platform, which speaks https outside and http with us


class Hub(NamedTuple):
    """The JupyterHub that started this box: it lets people in, and says where Jupyter listens."""

    url: str  # where people open this server, as far as the hub tells
    mutual_tls: bool  # with certificates of the hub's own, which only the hub can show


class Jupyter(NamedTuple):
    """The Jupyter server to start."""

    port: int
    listen: str
    token: Secret
    address: Address
    base_url: str = "/"
    left_out: tuple[str, ...] = ()  # server extensions that would take Jupyter down with them
    arguments: tuple[str, ...] = ()  # more of its command line, the user's
    idle: int = 0  # seconds after which an idle kernel is ended; 0 = never
    certificate: Certificate | None = None  # None = http
    hub: Hub | None = None  # None = a server of its own, opened with the token
    origins: tuple[str, ...] = ()  # whose pages may use it, besides its own; "*" = any
    page: bool = True  # beside it a page about the box (guest/launcher_page.py)
    metrics_token: Secret | None = None  # opens the page's metrics alone; None = there is none
    ports: tuple[NamedPort, ...] = ()  # programs of the user's with a card and a link
    tensorboard: bool = False  # started when somebody opens it; it is in our image


class Ssh(NamedTuple):
    """The SSH server to start."""

    port: int
    listen: str
    sshd: str
    address: Address
    user: str
    host_key: str
    keys: tuple[KeyLine, ...]
    password: Secret | None  # None = keys only
    password_why: str
    login_key_file: str | None = None  # to be named in the ssh line
    strict_modes: bool = True  # the folders above the keys are ours, and nobody else's to write
    rsa_host_key: str | None = None  # for clients that know no ed25519
    compatible: bool = False  # old algorithms too
    drop_ins: str = ""  # folder of more configuration; "" = none is read
    others: tuple[str, ...] = ()  # besides `user`: root, and accounts that somebody added

    @property
    def shut(self) -> str:
        """Return why nobody can log in; "" where somebody can."""
        if self.password or any(key.fault is None for key in self.keys):
            return ""
        return f"nobody can log in: no key, and no password ({self.password_why})"

    @property
    def command(self) -> str:
        """Return what to type on the other machine."""
        key = f" -i {shlex.quote(self.login_key_file)}" if self.login_key_file else ""
        return f"ssh -p {self.address.port}{key} {self.user}@{self.address.host}"


class Paths(NamedTuple):
    """Where the launcher keeps its own files."""

    run: str  # this run's: plan, configuration, sockets, logs
    state: str  # kept over restarts: token, password, host keys
    workspace: str
    python: str  # the user environment's interpreter
    guest: str  # our programs that run in the user environment
    jupyter: str = ""  # the interpreter of Jupyter, where another than that


class Packages(NamedTuple):
    """Where pip and uv install for the user."""

    folder: str = ""  # the environment on the workspace; "" = the image's own
    ends: bool = False  # with the container, though the workspace stays, and nobody chose that


class Supervision(NamedTuple):
    """What supervise does besides supervisord.conf; by the names of programs, so sshd for ssh."""

    programs: tuple[str, ...] | None = None  # those of supervisor.d to start; None = all
    required: tuple[str, ...] = ("jupyter", "sshd")  # these end the box when they fail for good
    restart_delay: float = 30.0  # seconds, the longest wait before another start
    stop_timeout: float = 8.0  # seconds from a stop request until PID 1 kills what is left
    safe_mode: bool = False  # nothing of supervisor.d
    place: str = "docker"  # in whose words its messages are (checks/facts/places)


class Plan(NamedTuple):
    """What will be done, complete: render and run add no decision."""

    paths: Paths
    identity: Identity
    environment: tuple[EnvVar, ...]  # what the launcher sets, or keeps and explains
    inherited: tuple[tuple[str, str], ...]  # the container's own environment, without secrets
    left_out: tuple[str, ...]  # the names of those that are not inherited
    jupyter: Jupyter | None
    jupyter_off: str | None  # why there is no Jupyter
    ssh: Ssh | None
    ssh_off: str | None  # why there is no SSH
    notes: tuple[Finding, ...]  # what is not as it should be, most important first
    devices: int  # GPUs (or MIG instances) that the user's programs see
    device_remarks: tuple[str, ...]  # why some are hidden by what the user set
    ready_timeout: float  # seconds
    supervision: Supervision = Supervision()
    gpu_watch: float = 30.0  # seconds between two looks at the GPUs; 0 = none
    check_pytorch: bool = True  # after the banner
    gpu_patience: float = 30.0  # seconds that the driver may take for one of them
    cpu_only: bool = False  # no GPU is wanted, so none that is missing or broken is a fault
    color: bool = False  # the container's log is a terminal
    started: float = 0.0  # CLOCK_MONOTONIC, seconds
    # Of the user's variables, those that hooks changed: as the container has them, None for not at
    # all.  Whoever comes in by `docker exec` still has these values.
    before_hooks: tuple[tuple[str, str | None], ...] = ()

    idle_shutdown: int = 0  # seconds after which a box that nobody uses ends; 0 = never
    packages: Packages = Packages()
    ca_sources: tuple[str, ...] = ()  # of certificate authorities to trust besides the system's
    broken: Finding | None = None  # of the notes, what keeps GPUs from being used
    place: str = "docker"  # where the box runs: a row of the table of places

    def user_environment(self) -> dict[str, str]:
        """Return the environment of everything that runs for the user."""
        return {**dict(self.inherited), **{var.name: var.value for var in self.environment}}


class Service(NamedTuple):
    """How `launcher exec` becomes a program."""

    name: str
    argv: tuple[str, ...]
    uid: int
    gid: int
    groups: tuple[int, ...]
    cwd: str
    env: tuple[tuple[str, str], ...]
    umask: int = 0o022
    kernels_mark: str = ""  # what is in the environment of every kernel that it starts

    def __repr__(self) -> str:
        """Leave out the environment, which holds secrets of the user's."""
        shown = (f"{name}={getattr(self, name)!r}" for name in self._fields if name != "env")
        return f"Service({', '.join(shown)})"


class RenderedFile(NamedTuple):
    """A file to be written: `content` None makes a directory."""

    path: str
    content: str | None
    mode: int
    uid: int
    gid: int
