"""What is read of a machine, from recorded trees: each test writes the files it is about."""

from __future__ import annotations

import os
import pwd
import socket
from pathlib import Path

import pytest

from launcher.detect import detect
from launcher.model.machine import PciDevice

# The two forms of /proc/driver/nvidia/version: proprietary and open kernel modules.
CLOSED_MODULE = """\
NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024
GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)
"""
OPEN_MODULE = """\
NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  565.57.01  Release Build  (dvs-builder)
GCC version:  gcc version 13.2.0 (Ubuntu 13.2.0-23ubuntu4)
"""

TCP_HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid"
LISTEN_8888 = "   0: 0100007F:22B8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 1 1"
CONNECTED_22 = (
    "   1: 0100007F:0016 0100007F:D2F0 01 00000000:00000000 00:00000000 00000000  0 0 2 1"
)
LISTEN_22_V6 = (
    "   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A "
    "00000000:00000000 00:00000000 00000000  0 0 3 1"
)


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def pci(address: str, vendor: str, device: str, kind: str) -> dict[str, str]:
    folder = f"sys/bus/pci/devices/{address}"
    return {
        f"{folder}/vendor": f"{vendor}\n",
        f"{folder}/device": f"{device}\n",
        f"{folder}/class": f"{kind}\n",
    }


# --- hardware --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "version"),
    [
        pytest.param(CLOSED_MODULE, "550.54.15", id="proprietary"),
        pytest.param(OPEN_MODULE, "565.57.01", id="open"),
        pytest.param("", None, id="empty"),
        pytest.param("something else\n", None, id="unknown"),
    ],
)
def test_the_kernel_modules_version(tmp_path: Path, text: str, version: str | None) -> None:
    root = tree(tmp_path, {"proc/driver/nvidia/version": text})
    assert detect.read_hardware(root).kernel_driver == version


def test_display_controllers_of_nvidia_alone_are_gpus(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            **pci("0000:01:00.0", "0x10de", "0x2684", "0x030000"),  # VGA controller
            **pci("0000:01:00.1", "0x10de", "0x22ba", "0x040300"),  # its audio function
            **pci("0000:02:00.0", "0x10de", "0x2330", "0x030200"),  # 3D controller
            **pci("0000:03:00.0", "0x10de", "0x22a3", "0x068000"),  # NVSwitch
            **pci("0000:00:02.0", "0x8086", "0x4680", "0x030000"),  # Intel's
        },
    )
    found = detect.read_hardware(root).pci
    assert [(card.address, card.device_id) for card in found] == [
        ("0000:01:00.0", "2684"),
        ("0000:02:00.0", "2330"),
    ]


def test_which_kernel_driver_has_a_card(tmp_path: Path) -> None:
    root = tree(tmp_path, pci("0000:01:00.0", "0x10de", "0x2684", "0x030000"))
    device = root / "sys/bus/pci/devices/0000:01:00.0"
    (device / "driver").symlink_to("../../../bus/pci/drivers/nouveau")
    assert [card.driver for card in detect.read_hardware(root).pci] == ["nouveau"]


PCI_IDS = """\
# a comment
0ccc  Another vendor
\t2684  Not this one
10de  NVIDIA Corporation
\t2684  AD102 [GeForce RTX 4090]
\t\t1043 889d  A board of it
\t2330  GH100 [H100 SXM5 80GB]
10df  The next vendor
\t2331  Not this one either
"""


def test_cards_have_the_names_of_pci_ids(tmp_path: Path) -> None:
    root = tree(tmp_path, {"usr/share/misc/pci.ids": PCI_IDS})
    cards = [PciDevice("0000:01:00.0", number) for number in ("2684", "2330", "2331")]
    names = [card.name for card in detect.name_devices(cards, root)]
    assert names == ["AD102 [GeForce RTX 4090]", "GH100 [H100 SXM5 80GB]", None]
    assert [card.name for card in detect.name_devices(cards, tmp_path / "none")] == [None] * 3


@pytest.mark.parametrize(("flavour", "is_open"), [("Kernel", False), ("Open Kernel", True)])
def test_which_of_the_two_kernel_modules(tmp_path: Path, flavour: str, is_open: bool) -> None:
    line = f"NVRM version: NVIDIA UNIX {flavour} Module for x86_64  570.86.15  Release Build\n"
    found = detect.read_hardware(tree(tmp_path, {"proc/driver/nvidia/version": line}))
    assert (found.kernel_driver, found.open_module) == ("570.86.15", is_open)


def test_the_modules_that_have_to_do_with_gpus(tmp_path: Path) -> None:
    text = "nvidia_uvm 1 0 - Live 0x0\nnvidia 2 1 nvidia_uvm, Live 0x0\nnvme 1 0 - Live 0x0\n"
    root = tree(tmp_path, {"proc/modules": text})
    assert detect.read_hardware(root).modules == ("nvidia_uvm", "nvidia")


# --- device nodes ----------------------------------------------------------------------------


def test_nodes_are_opened_and_the_errno_is_kept(tmp_path: Path) -> None:
    root = tree(tmp_path, {"dev/nvidiactl": "", "dev/nvidia0": ""})
    (root / "dev/nvidia-uvm").mkdir()  # what opening it for writing says is EISDIR
    found = {node.path: node.fault for node in detect.open_nodes(root)}
    assert found == {"/dev/nvidia0": "", "/dev/nvidiactl": "", "/dev/nvidia-uvm": "EISDIR"}


def test_the_gpus_own_nodes_can_be_left_alone(tmp_path: Path) -> None:
    root = tree(tmp_path, {"dev/nvidiactl": "", "dev/nvidia0": "", "dev/nvidia12": ""})
    assert [n.path for n in detect.open_nodes(root, control_only=True)] == ["/dev/nvidiactl"]


def test_device_nodes(tmp_path: Path) -> None:
    names = ("nvidia0", "nvidia10", "nvidiactl", "nvidia-uvm", "nvidia-modeset", "null")
    root = tree(tmp_path, {f"dev/{name}": "" for name in names})
    nodes = {f"/dev/{name}" for name in names if name != "null"}
    assert set(detect.read_hardware(root).device_nodes) == nodes


def test_an_empty_machine_has_nothing(tmp_path: Path) -> None:
    assert detect.read_hardware(tmp_path) == detect.Hardware(pci_hidden=True)
    limits = detect.read_limits(tmp_path)
    assert (limits.cpus.quota, limits.memory, limits.shm, limits.pids) == (None, None, None, None)


# --- the box ---------------------------------------------------------------------------------

MOUNTED = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n23 22 8:1 /var/lib/x {} rw - ext4 /dev/sda1 rw\n"


@pytest.mark.parametrize(
    ("environ", "files", "platform"),
    [
        ({}, {}, "plain"),
        ({}, {".dockerenv": ""}, "docker"),
        ({}, {".dockerenv": "", "proc/self/mountinfo": MOUNTED.format("/etc/hosts")}, "docker"),
        # A machine, whose root file system was a container's that somebody exported.
        ({}, {".dockerenv": "", "proc/self/mountinfo": MOUNTED.format("/etc/hosts.d")}, "plain"),
        ({}, {"run/.containerenv": "", ".dockerenv": ""}, "podman"),
        ({}, {"proc/version": "Linux version 4.4.0 gVisor", ".dockerenv": ""}, "gvisor"),
        ({}, {"dev/dxg": "", ".dockerenv": ""}, "wsl2"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, {}, "kubernetes"),
        ({"RUNPOD_POD_ID": "x", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}, {}, "runpod"),
        ({"VAST_CONTAINERLABEL": "C.1"}, {".dockerenv": ""}, "vast"),
    ],
)
def test_platform(tmp_path: Path, environ: dict, files: dict[str, str], platform: str) -> None:
    host = detect.read_host(environ, "nobody", "/", tree(tmp_path, files))
    assert host.platform == platform


def test_the_image_is_known_by_its_own_file(tmp_path: Path) -> None:
    assert not detect.read_host({}, "nobody", "/", tmp_path).image
    tree(tmp_path, {"etc/launcher/supervisord.conf": ""})
    assert detect.read_host({}, "nobody", "/", tmp_path).image


def test_ports_in_use(tmp_path: Path) -> None:
    tables = {
        "proc/net/tcp": "\n".join([TCP_HEADER, LISTEN_8888, CONNECTED_22, ""]),
        "proc/net/tcp6": "\n".join([TCP_HEADER, ""]),
    }
    assert detect.read_host({}, "nobody", "/", tree(tmp_path, tables)).busy_ports == {8888}
    tree(tmp_path, {"proc/net/tcp6": "\n".join([TCP_HEADER, LISTEN_22_V6, ""])})
    assert detect.read_host({}, "nobody", "/", tmp_path).busy_ports == {8888, 22}


def test_a_port_in_use_on_this_machine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert port in detect.read_host({}, "nobody", "/").busy_ports
    assert port not in detect.read_host({}, "nobody", "/").busy_ports


def test_who_we_are() -> None:
    entry = pwd.getpwuid(os.geteuid())
    host = detect.read_host({}, entry.pw_name, "/")
    assert host.account == host.me
    assert (host.me.name, host.me.uid, host.me.home) == (entry.pw_name, entry.pw_uid, entry.pw_dir)
    assert entry.pw_gid in host.me.groups


def test_a_user_who_does_not_exist() -> None:
    assert detect.read_host({}, "nobody-of-that-name", "/").account is None


only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


@only_root
def test_root_finds_the_workspace_user() -> None:
    account = detect.read_host({}, "nobody", "/").account
    assert account is not None
    assert account.uid == pwd.getpwnam("nobody").pw_uid
    assert account.shell


@only_root
@pytest.mark.parametrize(
    ("owner", "group", "mode", "writable"),
    [
        ("nobody", 0, 0o700, True),
        ("nobody", 0, 0o500, False),
        ("nobody", "nogroup", 0o570, False),  # the owner's bits count for the owner, no others
        (0, "nogroup", 0o770, True),
        (0, "nogroup", 0o750, False),
        (0, 0, 0o757, True),
        (0, 0, 0o775, False),
        (0, 0, 0o755, False),
    ],
)
def test_whether_the_user_can_write_the_workspace(tmp_path, owner, group, mode, writable) -> None:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    os.chown(workspace, number(owner, "uid"), number(group, "gid"))
    workspace.chmod(mode)
    host = detect.read_host({}, "nobody", str(workspace))
    assert host.workspace_writable is writable
    assert not host.workspace_missing


def number(name: str | int, kind: str) -> int:
    if isinstance(name, int):
        return name
    entry = pwd.getpwnam("nobody")
    return entry.pw_uid if kind == "uid" else entry.pw_gid


def test_a_workspace_that_is_not_there(tmp_path: Path) -> None:
    host = detect.read_host({}, "nobody", str(tmp_path / "missing"))
    assert host.workspace_missing
    assert not host.workspace_writable


INFORMATION = "Model: \t\t NVIDIA H200\nGPU UUID: \t {}\nDevice Minor: \t {}\nGPU Excluded:\t No\n"


def test_what_the_kernel_module_has_started_is_told_by_its_uuid(tmp_path: Path) -> None:
    gpus = "proc/driver/nvidia/gpus"
    unknown = "GPU-????????-????-????-????-????????????"
    files = {
        f"{gpus}/0000:00:06.0/information": INFORMATION.format("GPU-6968c59a-ac02-c5dc", 3),
        f"{gpus}/0000:00:07.0/information": INFORMATION.format(unknown, 1),
        f"{gpus}/0000:00:08.0/power": "",
    }
    assert detect.read_hardware(tree(tmp_path, files)).started == (3,)
