"""Find out what this machine is: hardware, limits, accounts, ports.  Reads only.

Everything is read under `root`, so that a recorded tree can stand for a machine.  NVML is
not here: it runs in a child of its own (`nvml`), because a driver library can hang.
"""

from __future__ import annotations

import errno
import os
import re
import resource
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from launcher.detect import accounts, hosts, mounts, user_python
from launcher.detect.cgroup import attempt, cpu_quota, memory_limit, read_text, smallest
from launcher.detect.preload import read_preloads
from launcher.detect.sharing import read_sharing
from launcher.model.host import CA_CERTIFICATES, CACHE, CACHE_FOLDERS, Folder, Host, Whereabouts
from launcher.model.machine import CpuBudget, DeviceNode, Hardware, Limits, PciDevice
from launcher.settings import folders

_NVIDIA = "0x10de"
_OF_AN_ENGINE = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
_DISPLAY_CLASSES = ("0x0300", "0x0302")  # VGA controller, 3D controller


def read_hardware(root: Path = Path("/")) -> Hardware:
    """Return what shows of NVIDIA GPUs without asking the driver library."""
    version = read_text(root / "proc/driver/nvidia/version") or ""
    # "… Kernel Module [for x86_64]  550.54.15  …"; the open one says "Open Kernel Module".
    match = re.search(r"Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+)+)", version)
    return Hardware(
        pci=display_controllers(root),
        pci_hidden=not (root / "sys/bus/pci/devices").is_dir(),
        kernel_driver=match[1] if match else None,
        open_module="Open Kernel Module" in version if match else None,
        modules=_modules(root),
        device_nodes=tuple(f"/{node.relative_to(root)}" for node in _device_nodes(root)),
        started=tuple(sorted(_started_minors(root))),
    )


def _started_minors(root: Path) -> Iterator[int]:
    """Yield the minors of the GPUs that the kernel module has started, and so has a UUID of.

    Of the others it says GPU-????????-… (open-gpu-kernel-modules, kernel-open/nvidia/nv-procfs.c).
    """
    for path in root.glob("proc/driver/nvidia/gpus/*/information"):
        text = read_text(path) or ""
        minor = re.search(r"^Device Minor:\s*(\d+)$", text, re.MULTILINE)
        if minor and re.search(r"^GPU UUID:\s*GPU-[0-9a-f]", text, re.MULTILINE):
            yield int(minor[1])


def open_nodes(root: Path = Path("/"), control_only: bool = False) -> tuple[DeviceNode, ...]:
    """Open each device node of the driver.  May hang with the kernel driver.

    Args:
        control_only: leave the GPUs' own nodes alone: where nobody uses a GPU, opening its
            node initialises it, which takes seconds without persistence mode.
    """
    nodes = _device_nodes(root)
    if control_only:
        nodes = [node for node in nodes if not re.fullmatch(r"nvidia\d+", node.name)]
    return tuple(open_node(root, node) for node in nodes)


def open_node(root: Path, node: Path) -> DeviceNode:
    """Open a device node for reading and writing, and say what came of it."""
    fault = ""
    try:
        os.close(os.open(node, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError as err:
        fault = errno.errorcode.get(err.errno or 0, str(err.errno))
    info = attempt(node.stat)
    path = f"/{node.relative_to(root)}"
    if info is None:
        return DeviceNode(path, fault)
    return DeviceNode(path, fault, info.st_uid, info.st_gid, info.st_mode & 0o777)


def read_limits(root: Path = Path("/")) -> Limits:
    """Return the limits of CPU, memory, /dev/shm, processes, memlock, stack and files here."""
    shm = attempt(lambda: os.statvfs(root / "dev/shm"))
    return Limits(
        cpus=CpuBudget(
            online=os.cpu_count() or 1,
            allowed=len(os.sched_getaffinity(0)),
            quota=cpu_quota(root),
        ),
        memory=memory_limit(root),
        shm=shm.f_blocks * shm.f_frsize if shm else None,
        pids=smallest(root, "pids", ("pids.max", "pids.max")),
        memlock=_resource_limit(resource.RLIMIT_MEMLOCK),
        stack=_resource_limit(resource.RLIMIT_STACK),
        nofile=_resource_limit(resource.RLIMIT_NOFILE),
    )


def _resource_limit(which: int) -> int | None:
    soft, _ = resource.getrlimit(which)
    return None if soft == resource.RLIM_INFINITY else soft


def read_host(
    environ: Mapping[str, str],
    user: str,
    workspace: str,
    root: Path = Path("/"),
    python: str = "",
) -> Host:
    """Return the box: platform, accounts, workspace, sshd, ports in use."""
    me = accounts.account_of(os.geteuid())
    image = (root / folders.IN_OUR_IMAGE.lstrip("/")).exists()
    account = accounts.find_account(me, user, image)
    groups = accounts.read_groups(root)
    status = accounts.read_status(root)
    mounted = mounts.read_mounts(root)
    platform = _platform(environ, root)
    contained = image or platform != "plain"
    return Host(
        platform=platform,
        image=image,
        hostname=os.uname().nodename,
        me=me,
        me_usable=me.uid == 0 or accounts.is_usable(me),
        account=account,
        workspace_missing=not os.path.isdir(workspace),
        workspace_writable=accounts.writable_by(account or me, workspace),
        sshd=next((p for p in ("/usr/sbin/sshd", "/usr/local/sbin/sshd") if _executable(p)), None),
        busy_ports=frozenset(listening_ports(root)),
        mounts=mounted,
        volumes=mounts.volumes(mounted) if image else (),
        workspace_unused=image and accounts.is_unused(workspace, mounted),
        cache_folders=tuple(_cache_folders(f"{workspace}/{CACHE}")),
        accounts=accounts.read_accounts(root, groups),
        groups=tuple((name, gid) for name, gid, _ in groups),
        workspace=accounts.folder(workspace),
        capabilities=accounts.effective_capabilities(status) if me.uid == 0 else None,
        no_new_privileges=status.get("NoNewPrivs") == "1",
        names_writable=me.uid == 0 and accounts.names_writable(root),
        nss_wrapper=accounts.find_nss_wrapper(root),
        user_home=accounts.writable_home(environ),
        extra_groups=accounts.extra_groups(me),
        device_groups=accounts.device_groups(root) if image else (),
        python_gid=accounts.group_of_python(python) if image else None,
        python_version=user_python.minor_version(python),
        tensorboard=user_python.has(python, "tensorboard/main.py"),
        rootless=accounts.is_rootless(root),
        first_open_port=accounts.first_open_port(root),
        ca_certificates=any((root / CA_CERTIFICATES[1:]).glob("*.crt")),
        sharing=read_sharing(environ, root),
        # A machine of one's own may be called what it likes.
        loopback=hosts.loopback_of(os.uname().nodename, root) if contained else "",
        interface=hosts.default_interface(root),
        machines_network=hosts.has_the_machines_network(root),
        no_network=contained and hosts.has_no_network(root),
        preloads=read_preloads(root),
        starter=_starter(environ, root),
    )


def whereabouts(environ: Mapping[str, str], root: Path = Path("/")) -> Whereabouts:
    """Return where this is, and nothing else: for what is said before anything is known."""
    rootless = accounts.is_rootless(root)
    return Whereabouts(_platform(environ, root), _starter(environ, root), rootless)


def _cache_folders(parent: str) -> Iterator[tuple[str, Folder]]:
    for path in (parent, *(f"{parent}/{name}" for name in CACHE_FOLDERS)):
        if found := accounts.folder(path):
            yield path, found


def _device_nodes(root: Path) -> list[Path]:
    patterns = (
        "nvidia[0-9]*", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset",
        "nvidia-caps/nvidia-cap[0-9]*", "nvidia-caps-imex-channels/channel[0-9]*", "dxg", "nvmap",
        "infiniband/uverbs[0-9]*",
    )  # fmt: skip
    return sorted(node for pattern in patterns for node in (root / "dev").glob(pattern))


def display_controllers(root: Path = Path("/")) -> tuple[PciDevice, ...]:
    """Return NVIDIA's GPUs on the PCI bus, which is the machine's in a container too."""
    return tuple(_display_controllers(root))


def _display_controllers(root: Path) -> Iterator[PciDevice]:
    for device in sorted(root.glob("sys/bus/pci/devices/*")):
        kind = read_text(device / "class") or ""
        if read_text(device / "vendor") == _NVIDIA and kind.startswith(_DISPLAY_CLASSES):
            device_id = (read_text(device / "device") or "0x????").removeprefix("0x")
            driver = attempt((device / "driver").readlink)
            yield PciDevice(device.name, device_id, driver.name if driver else None)


def name_devices(devices: Iterable[PciDevice], root: Path = Path("/")) -> tuple[PciDevice, ...]:
    """Add names from the system's pci.ids (pci.ids(5)), where there is one."""
    lists = (root / "usr/share" / path for path in ("misc/pci.ids", "hwdata/pci.ids"))
    text = next(filter(None, map(read_text, lists)), "")
    nvidia = text.partition("\n10de  ")[2]
    # The vendor's devices are indented by one tab, up to the next vendor.
    nvidia = re.split(r"\n(?=[0-9a-f])", nvidia, maxsplit=1)[0]
    names = dict(re.findall(r"^\t([0-9a-f]{4})  (.*)$", nvidia, flags=re.MULTILINE))
    return tuple(device._replace(name=names.get(device.device_id)) for device in devices)


def _modules(root: Path) -> tuple[str, ...] | None:
    """Return the loaded kernel modules that have to do with NVIDIA GPUs."""
    text = read_text(root / "proc/modules")
    if text is None:
        return None
    names = [line.partition(" ")[0] for line in text.splitlines()]
    return tuple(name for name in names if name.startswith("nvidia") or name == "nouveau")


def _platform(environ: Mapping[str, str], root: Path) -> str:
    version = read_text(root / "proc/version") or ""
    signs = (
        ("runpod", "RUNPOD_POD_ID" in environ),
        ("vast", "VAST_CONTAINERLABEL" in environ),
        ("kubernetes", "KUBERNETES_SERVICE_HOST" in environ),
        ("wsl2", (root / "dev/dxg").exists()),
        ("gvisor", "gVisor" in version),
        ("podman", (root / "run/.containerenv").exists()),
        ("docker", _is_dockers(root)),
    )
    return next((name for name, seen in signs if seen), "plain")


def _is_dockers(root: Path) -> bool:
    """Return whether Docker runs this: its mark, and what it mounts whatever its network is.

    The mark alone is also in a machine, or a container of LXC's, that was made of an exported one.
    """
    if not (root / ".dockerenv").exists():
        return False
    mounted = read_text(root / "proc/self/mountinfo")
    return mounted is None or any(f" {path} " in mounted for path in _OF_AN_ENGINE)


def _starter(environ: Mapping[str, str], root: Path) -> str:
    """Return who started the box by means of the platform, or holds it: "hub" "slurm" "lxc".

    LXC tells its first process, and systemd writes that down (systemd.io, CONTAINER_INTERFACE).
    """
    if "JUPYTERHUB_API_TOKEN" in environ:
        return "hub"
    if "SLURM_JOB_ID" in environ:
        return "slurm"
    manager = read_text(root / "run/systemd/container") or environ.get("container", "")
    engine = _is_dockers(root) or (root / "run/.containerenv").exists()
    return "lxc" if manager.startswith("lxc") and not engine else ""


def _executable(path: str) -> bool:
    return os.access(path, os.X_OK)


def listening_ports(root: Path) -> Iterator[int]:
    for table in ("tcp", "tcp6"):
        for line in (read_text(root / "proc/net" / table) or "").splitlines()[1:]:
            _, local, _, status, *_ = line.split()
            if status == "0A":  # TCP_LISTEN, include/net/tcp_states.h
                yield int(local.rsplit(":", 1)[1], 16)
