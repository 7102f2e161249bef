"""The box that we run in, as values: who there is, what is mounted.  Imports nothing of ours."""

from __future__ import annotations

from launcher.model.named_tuple import NamedTuple


class Account(NamedTuple):
    """One line of the password database."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str
    groups: tuple[int, ...] = ()


# Permission bits of one class of users (inode(7)); CREATE is what a folder asks for a new file.
READ_WRITE, CREATE = 0o6, 0o3


def granted(mode: int, uid: int, gid: int, account: Account) -> int:
    """Return the three bits that a file's mode and owner grant an account; root needs none.

    The class that applies is the first that fits (path_resolution(7), "Permissions").
    """
    if account.uid == uid:
        return mode >> 6 & 0o7
    if gid in (account.gid, *account.groups):
        return mode >> 3 & 0o7
    return mode & 0o7


class Folder(NamedTuple):
    """A directory, as stat(2) shows it."""

    uid: int
    gid: int
    mode: int
    writable: bool  # by this process: a network disk's server may let its root do nothing
    replaceable: bool = False  # others than root can put another folder in its place
    read_only: bool = False  # mounted so: nobody can

    def lets_write(self, account: Account, me: Account) -> bool:
        """Return whether the mount and the bits let `account` create files; `me` looked."""
        if account.uid == me.uid or self.read_only:
            return self.writable
        return granted(self.mode, self.uid, self.gid, account) & CREATE == CREATE


class Mount(NamedTuple):
    """A file system that is mounted here."""

    path: str
    kind: str  # "ext4" "overlay" "tmpfs" "nfs4" …
    writable: bool = True  # not mounted read-only
    programs: bool = True  # not mounted noexec (mount(8))


# Where programs keep their downloads, below HOME or below the workspace.
CACHE = ".cache"


CACHE_FOLDERS = ("huggingface", "pip", "uv", "torch")


FIRST_OF_PEOPLE = 1000  # uid: below are the base's own accounts (Debian Policy, 9.2.2)


# Where a company's own certificate authorities are put, or mounted.
CA_CERTIFICATES = "/usr/local/share/ca-certificates"


class Sharing(NamedTuple):
    """What shows here of others who compute on the same GPUs, or of a GPU that is divided."""

    mps: str = ""  # the folder of pipes in which a control daemon of MPS listens
    replicas: tuple[str, ...] = ()  # of a device plugin: "GPU-…::3", the fourth user of a GPU
    time_slicing: bool = False  # as a variable says that repeats the node's label
    limits: tuple[str, ...] = ()  # "CUDA_DEVICE_MEMORY_LIMIT_0=4096m", of a library that divides


class Preload(NamedTuple):
    """A library that /etc/ld.so.preload puts into every program (ld.so(8))."""

    path: str
    fault: str = ""  # why the loader passes it by, and each program says so; "" = it is loaded


class Whereabouts(NamedTuple):
    """Where a box runs, as far as its words depend on that; a Host knows the same."""

    platform: str
    starter: str = ""
    rootless: bool = False


class Host(NamedTuple):
    """The box we run in."""

    platform: str  # "docker" | "podman" | "kubernetes" | "runpod" | "vast" | "wsl2" | "plain"
    image: bool  # built from the project's Dockerfile: accounts are ours to set up
    hostname: str
    me: Account
    account: Account | None  # named by NB_USER, else the image's own; where it exists
    workspace_missing: bool
    workspace_writable: bool  # by that account
    sshd: str | None  # path of the server
    me_usable: bool = True  # its home is there, and its shell
    busy_ports: frozenset[int] = frozenset()
    mounts: tuple[Mount, ...] = ()  # but for those on the system's own folders
    cache_folders: tuple[tuple[str, Folder], ...] = ()  # CACHE and those in it, if there
    accounts: tuple[Account, ...] = ()  # the lines of passwd(5)
    groups: tuple[tuple[str, int], ...] = ()  # the lines of group(5)
    workspace: Folder | None = None
    capabilities: frozenset[str] | None = None  # "SETUID" …; None = not known, so all
    no_new_privileges: bool = False  # setuid programs such as sudo stay whoever starts them
    names_writable: bool = False  # root may write passwd, group and shadow
    nss_wrapper: str | None = None  # path of the library that gives a uid a name
    user_home: str | None = None  # a home that a uid without a name can write to
    extra_groups: tuple[int, ...] = ()  # of docker run --group-add, or a pod's fsGroup
    device_groups: tuple[int, ...] = ()  # that alone may open GPUs' nodes, beside root
    python_gid: int | None = None  # the group that may write the user environment
    rootless: bool = False  # root here is somebody else on the host
    first_open_port: int = 0  # those below it are root's to listen on
    ca_certificates: bool = False  # some are in CA_CERTIFICATES, as update-ca-certificates(8) wants
    volumes: tuple[str, ...] = ()  # mounted folders that may be written, of which we know no use
    workspace_unused: bool = False  # a mount with nothing in it: a new volume
    sharing: Sharing = Sharing()
    loopback: str = ""  # "127.0.1.1": hosts(5) gives our host name this address alone
    interface: str = ""  # of the default route: "eth0"
    machines_network: bool = False  # a port here is the machine's: --network host
    no_network: bool = False  # nobody outside reaches a port: --network none
    python_version: str = ""  # "3.11", of the user environment; "" = not known
    tensorboard: bool = False  # the user environment has it
    preloads: tuple[Preload, ...] = ()
    starter: str = ""  # who started the box by means of a platform: "hub" | "slurm" | "lxc"

    def account_of(self, uid: int) -> Account | None:
        known = (*self.accounts, self.account, self.me)
        return next((account for account in known if account and account.uid == uid), None)

    def account_named(self, name: str) -> Account | None:
        known = (*self.accounts, self.account, self.me)
        return next((account for account in known if account and account.name == name), None)

    def lacks(self, *capabilities: str) -> tuple[str, ...]:
        """Return those of `capabilities` that this process does not have."""
        has = self.capabilities
        return () if has is None else tuple(name for name in capabilities if name not in has)
