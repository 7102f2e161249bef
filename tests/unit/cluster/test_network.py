"""Which interface a job talks over: what is set, what is kept, what is left to NCCL and gloo."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest

from launcher.cluster.network import GLOO, NCCL, choose_way, chosen_door, reach
from launcher.detect import network, rtnetlink
from launcher.model.network import Interface, Network
from testing.values import replace

LO = Interface("lo", True, 65536, ("127.0.0.1", "::1"))
ETH0 = Interface("eth0", True, 1500, ("172.18.0.3", "fe80::1"))
FABRIC = tuple(Interface(f"ens{n}", True, 9000, (f"10.65.{n}.3",)) for n in range(1, 9))
DOCKER0 = Interface("docker0", True, 1500, ("172.17.0.1",))
VETH = Interface("veth12ab", True, 1500, ("fe80::9",))
IB0 = Interface("ib0", True, 4092, ("10.1.0.3",))
POD = Network("pod-1", ("172.18.0.3",), (LO, ETH0), ("172.18.0.2",), "172.18.0.3")
RUNPOD = Network("a1b2", ("172.18.0.3",), (LO, ETH0, *FABRIC), ("10.65.1.2",), "10.65.1.3")
VAST = Network(
    "c3", ("172.17.0.5",),
    (LO, replace(ETH0, addresses=("10.0.0.2",)), replace(ETH0, name="eth1",
                                                       addresses=("172.17.0.5",))),
    ("10.0.0.1",), "10.0.0.2",
)  # fmt: skip
HOST = Network("gpu7", ("127.0.1.1",), (LO, replace(ETH0, name="eno1"), DOCKER0, VETH),
               ("172.18.0.2",), "172.18.0.3")  # fmt: skip
UNNAMED = replace(POD, own_addresses=())
ON_THE_MASTER = replace(HOST, master_addresses=("127.0.1.1",), source="127.0.1.1")
INFINIBAND = replace(POD, interfaces=(LO, ETH0, IB0))
FASTSOCKET = Network("g", ("10.0.0.3",), (LO, *(
    replace(ETH0, name=f"ens{n}", addresses=(f"10.0.{n}.3",)) for n in range(4))),
    ("10.0.0.2",), "10.0.0.3")  # fmt: skip


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (POD, {}),
        (RUNPOD, {GLOO: "ens1", NCCL: "=" + ",".join(one.name for one in FABRIC)}),
        (VAST, {GLOO: "eth0", NCCL: "=eth0"}),
        (HOST, {GLOO: "eno1", NCCL: "=eno1"}),
        (UNNAMED, {GLOO: "eth0"}),
        (ON_THE_MASTER, {GLOO: "eno1", NCCL: "=eno1"}),
        (INFINIBAND, {}),
        (FASTSOCKET, {}),
        (replace(POD, source=None, unreachable="Network is unreachable"), {}),
    ],
    ids=["pod", "runpod", "vast", "host", "no name", "master", "ib", "fastsocket", "no route"],
)
def test_what_is_set_is_what_would_go_wrong(seen: Network, expected: dict[str, str]) -> None:
    if seen.unreachable:
        seen = replace(seen, interfaces=(LO,))
    way = choose_way(seen, {}, nodes=2)
    assert {one.name: one.value for one in way.set} == expected
    assert all(one.why for one in way.set)


def test_one_machine_needs_nothing() -> None:
    assert choose_way(RUNPOD, {}, nodes=1) == ((), (), ())


def test_the_user_s_own_is_kept_and_said() -> None:
    way = choose_way(RUNPOD, {NCCL: "eth"}, nodes=2)
    assert [one.name for one in way.set] == [GLOO]
    assert [(one.word, one.why) for one in way.kept] == [
        (f"{NCCL}=eth", "the environment has it")
    ]  # fmt: skip


def test_an_administrator_s_file_is_not_overruled() -> None:
    seen = replace(RUNPOD, in_files=((NCCL, "/etc/nccl.conf"),))
    way = choose_way(seen, {}, nodes=2)
    assert [one.name for one in way.set] == [GLOO]
    assert way.kept[0].why == "/etc/nccl.conf sets it"


def test_what_is_wrong_is_said() -> None:
    down = replace(POD, interfaces=(LO, replace(ETH0, running=False)))
    assert choose_way(down, {}, 2).notes == ("eth0 leads to the master and is down",)
    lost = replace(POD, source=None, unreachable="Network is unreachable")
    assert "no way to the master: Network is unreachable" in choose_way(lost, {}, 2).notes[0]


def test_reach() -> None:
    assert reach(POD, "m") == ("172.18.0.3", False, True)
    assert reach(replace(POD, master_addresses=("172.18.0.3",)), "m").is_master
    assert reach(ON_THE_MASTER, "m") == ("172.18.0.3", True, True)
    assert reach(UNNAMED, None) == (None, None, False)
    assert reach(replace(POD, master_addresses=()), "m").is_master is None


# --- the interface that the user chose ---------------------------------------------------------


@pytest.mark.parametrize(
    ("gpus", "said", "expected"),
    [
        (False, "", None),
        (False, "ens1", None),
        (False, "eth0", "172.18.0.3"),
        (False, "ens", ""),  # gloo's are whole names
        (False, "eth0,ens1", None),
        (True, "ens", None),
        (True, "=eth0", "172.18.0.3"),
        (True, "=eth", ""),
        (True, "eth", "172.18.0.3"),
        (True, "^eth", None),
        (True, "^=ens1,ens2,ens3,ens4,ens5,ens6,ens7,ens8,lo", "172.18.0.3"),
        (True, "^ens,eth", ""),  # loopback is left
    ],
)
def test_where_a_library_will_listen(gpus: bool, said: str, expected: str | None) -> None:
    door = chosen_door(RUNPOD, {NCCL if gpus else GLOO: said}, gpus)
    assert (door.address if door else None) == expected


# --- this machine ----------------------------------------------------------------------------


def test_interfaces_are_the_kernel_s() -> None:
    found = {one.name: one for one in rtnetlink.read_interfaces()}
    assert set(found) == {name for _, name in socket.if_nameindex()}
    assert "127.0.0.1" in found["lo"].addresses
    assert found["lo"].running
    for name, one in found.items():
        assert one.mtu == int(Path(f"/sys/class/net/{name}/mtu").read_text())


def test_what_is_no_answer_is_no_interface() -> None:
    assert rtnetlink.parse_interfaces(b"", b"") == ()
    assert rtnetlink.parse_interfaces(struct.pack("=IHHII", 4, 16, 0, 0, 0), b"\0" * 99) == ()


def test_the_way_is_asked_of_the_kernel() -> None:
    seen = network.read_network("127.0.0.1", {})
    assert (seen.master_addresses, seen.source) == (("127.0.0.1",), "127.0.0.1")
    assert network.read_network("no-such-host.invalid", {}).master_addresses == ()


def test_nccl_s_files_are_read(tmp_path: Path) -> None:
    (tmp_path / ".nccl.conf").write_text("# mine\nNCCL_SOCKET_IFNAME = eth\nNCCL_DEBUG=WARN\n")
    names = dict(network.read_network(None, {}, str(tmp_path)).in_files)
    assert names == dict.fromkeys(("NCCL_SOCKET_IFNAME", "NCCL_DEBUG"), f"{tmp_path}/.nccl.conf")
