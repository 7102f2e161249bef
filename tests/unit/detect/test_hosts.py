"""How the box is called on its network, and how it leaves it."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.detect.hosts import (
    default_interface,
    has_no_network,
    has_the_machines_network,
    loopback_of,
)

HEAD = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
DEFAULT = "eth0\t00000000\t01D51FAC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
OTHER = "docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


@pytest.mark.parametrize(
    ("hosts", "address"),
    [
        ("127.0.0.1 localhost\n172.17.0.2 box\n", ""),
        ("127.0.0.1 localhost\n127.0.1.1 box.lan box\n", "127.0.1.1"),
        ("127.0.0.1\tlocalhost  box # mine\n", "127.0.0.1"),
        ("::1 box\n", "::1"),
        ("127.0.1.1 box\n10.0.0.5 box\n", ""),
        ("127.0.1.1 boxes # box\n#127.0.1.1 box\n\n", ""),
        ("", ""),
    ],
)
def test_a_name_that_is_loopback_alone(tmp_path: Path, hosts: str, address: str) -> None:
    write(tmp_path, "etc/hosts", hosts)
    assert loopback_of("box", tmp_path) == address


@pytest.mark.parametrize(
    ("routes", "interface"),
    [
        (HEAD + OTHER + DEFAULT, "eth0"),
        (HEAD + OTHER, ""),
        (HEAD + DEFAULT.replace("0003", "0002"), ""),
        (HEAD, ""),
    ],
)
def test_the_interface_of_the_default_route(tmp_path: Path, routes: str, interface: str) -> None:
    write(tmp_path, "proc/net/route", routes)
    assert default_interface(tmp_path) == interface


@pytest.mark.parametrize(
    ("interfaces", "machines"),
    [
        (["lo/type", "eth0/type"], False),
        (["lo/type", "eth0/type", "tunl0/type"], False),
        (["eth0/device/vendor", "lo/type"], True),
        (["docker0/bridge/bridge_id", "eth0/type", "lo/type"], True),
    ],
)
def test_whose_network_it_is(tmp_path: Path, interfaces: list[str], machines: bool) -> None:
    for interface in interfaces:
        write(tmp_path, f"sys/class/net/{interface}", "")
    assert has_the_machines_network(tmp_path) is machines


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    assert (loopback_of("box", tmp_path), default_interface(tmp_path)) == ("", "")
    assert not has_the_machines_network(tmp_path)


@pytest.mark.parametrize(
    ("flags", "none"),
    [
        ({"lo": "0x9"}, True),
        ({"lo": "0x9", "tunl0": "0x80", "sit0": "0x80"}, True),
        ({"lo": "0x9", "eth0": "0x1003"}, False),
        ({"lo": "0x8", "eth0": "0x1002"}, True),
        ({"lo": "0x9", "tap0": "0x1003", "bonding_masters": ""}, False),
        ({"eth0": ""}, False),  # nobody knows
        ({}, False),
    ],
)
def test_a_box_that_nobody_outside_reaches(
    tmp_path: Path, flags: dict[str, str], none: bool
) -> None:
    for interface, text in flags.items():
        write(tmp_path, f"sys/class/net/{interface}/flags", text and f"{text}\n")
    assert has_no_network(tmp_path) is none
