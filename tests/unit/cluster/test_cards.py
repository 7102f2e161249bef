"""Which cards for RDMA NCCL is told of, and what is left to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.cluster.cards import CARDS, taken
from launcher.cluster.network import choose_way, talked_over
from launcher.detect import network
from launcher.model.machine import Nic
from launcher.model.network import Gid, Network, RdmaPort
from testing import rdma
from testing.rdma import Card
from testing.values import replace
from tests.unit.cluster.test_network import ETH0, POD

LOCAL, ROUTED = Gid("fe80::1", "RoCE v2"), Gid("::ffff:10.65.0.3", "RoCE v2", "eth0")


def card(
    number: int, layer: str = "InfiniBand", state: str = "ACTIVE", rate: str = "400 Gb/sec",
    **others: object,
) -> RdmaPort:  # fmt: skip
    address = f"0000:{0x18 + number:02x}:00.0"
    port = RdmaPort(f"mlx5_{number}", 1, state, layer, rate, address)
    return replace(port, **others)


def roce(number: int, *gids: Gid, rate: str = "400 Gb/sec", **others: object) -> RdmaPort:
    return card(number, "Ethernet", rate=rate, gids=gids or (ROUTED,), **others)


def beside(*ways: str) -> tuple[Nic, ...]:
    """Return cards with their ways to GPUs: a word for each card, a letter of it for each GPU."""
    classes = {"x": "PIX", "b": "PXB", "h": "PHB", "n": "NODE", "s": "SYS"}
    return tuple(
        Nic(f"mlx5_{n}", f"0000:{0x18 + n:02x}:00.0",
            tuple((gpu, classes[letter]) for gpu, letter in enumerate(word)))
        for n, word in enumerate(ways)
    )  # fmt: skip


def told(*ports: RdmaPort, nics: tuple[Nic, ...] = ()) -> tuple[str | None, str]:
    """Return the value of NCCL_IB_HCA and why; None where it is not set."""
    way = choose_way(replace(POD, rdma=ports, nics=nics), {}, 2)
    found = [(one.value, one.why) for one in way.set if one.name == CARDS]
    return found[0] if found else (None, "")


def test_cards_that_are_alike_are_left_to_nccl() -> None:
    fabric = [card(n) for n in range(8)]
    assert told(*fabric) == (None, "")
    each_its_own = beside("xnss", "nxss", "ssxn", "ssnx")
    assert told(*fabric[:4], nics=each_its_own) == (None, "")
    assert told(*(roce(n) for n in range(8))) == (None, "")
    assert told(card(0)) == (None, "")
    assert told() == (None, "")


def test_ethernet_is_left_out_beside_infiniband() -> None:
    value, why = told(card(0), card(1), roce(2, LOCAL))
    assert value == "=mlx5_0,mlx5_1"
    assert why == "InfiniBand; by itself NCCL takes mlx5_2 (Ethernet) too"


def test_cards_that_are_no_gpu_s_nearest_are_the_storage_s() -> None:
    """As in a DGX H100, whose storage has InfiniBand too."""
    nics = beside("xnss", "nxss", "ssxn", "ssnx", "nnss", "ssnn")
    value, why = told(*(card(n) for n in range(6)), nics=nics)
    assert value == "=mlx5_0,mlx5_1,mlx5_2,mlx5_3"
    assert why == ("each GPU's nearest; by itself NCCL takes mlx5_4, mlx5_5 (no GPU's nearest) too")


def test_a_card_behind_several_switches_is_near() -> None:
    assert told(card(0), card(1), card(2), nics=beside("bs", "sb", "ns"))[0] == "=mlx5_0,mlx5_1"


def test_two_gpus_share_a_card() -> None:
    assert told(card(0), card(1), nics=beside("xxss", "ssxx"))[0] is None
    assert told(card(0), card(1), card(2), nics=beside("xxss", "ssxx", "nnnn"))[0] == (
        "=mlx5_0,mlx5_1"
    )


@pytest.mark.parametrize("ways", [("nn", "ss", "nn"), ("xs", "ss", "nn"), ("", "", "")])
def test_without_a_switch_for_each_gpu_nearness_tells_nothing(ways: tuple[str, ...]) -> None:
    """One machine's GPUs at the CPU, one whose second GPU has no card, one without paths."""
    assert told(card(0), card(1), card(2), nics=beside(*ways))[0] is None


def test_a_card_that_is_down_leaves_its_gpu_without() -> None:
    ports = (card(0), card(1, state="DOWN"), card(2))
    nics = beside("xn", "nx", "ns")
    assert told(*ports, nics=nics)[0] is None, "the third may be the second GPU's only way"
    notes = choose_way(replace(POD, rdma=ports, nics=nics), {}, 2).notes
    assert notes == (
        "mlx5_1: no port is active; the others are used",
        "a GPU beside mlx5_1 has no active card behind its PCIe switch: the next, mlx5_0, is NODE "
        "away",
    )


def test_ethernet_cards_without_an_address_for_others_are_left_out() -> None:
    value, why = told(roce(0), roce(1, LOCAL), roce(2, replace(ROUTED, interface="host0")))
    assert value == "=mlx5_0"
    assert why.endswith("NCCL takes mlx5_1, mlx5_2 (no address that others reach) too")
    old_kernel = (roce(0, Gid("::ffff:10.65.0.3")), roce(1, Gid("::ffff:10.65.1.3")))
    assert told(*old_kernel)[0] is None


def test_slow_cards_are_the_management_s() -> None:
    assert told(roce(0), roce(1, rate="25 Gb/sec (1X EDR)"))[0] == "=mlx5_0"
    assert told(roce(0), roce(1, rate="200 Gb/sec (4X HDR)"))[0] is None
    assert told(roce(0, rate=""), roce(1, rate=""))[0] is None


def test_virtual_functions_are_left_out_beside_their_card() -> None:
    assert told(card(0), card(1, virtual=True), card(2, virtual=True))[0] == "=mlx5_0"
    assert told(card(1, virtual=True), card(2, virtual=True))[0] is None, "a pod's own"


def test_a_port_is_named_where_another_of_its_card_is_left_out() -> None:
    second = replace(card(0, "Ethernet"), port=2)
    assert told(card(0), second, card(1))[0] == "=mlx5_0:1,mlx5_1"


def test_what_tells_them_apart_adds_up() -> None:
    nics = beside("xs", "sx", "ns", "ns")
    value, why = told(card(0), card(1), card(2), roce(3), nics=nics)
    assert value == "=mlx5_0,mlx5_1"
    assert "NCCL takes mlx5_3 (Ethernet), mlx5_2 (no GPU's nearest) too" in why


def test_elastic_fabric_adapters_are_a_plugin_s() -> None:
    efa = [card(n, "Unspecified") for n in range(4)]
    assert told(*efa)[0] is None
    assert told(*efa, roce(4), roce(5))[0] is None


@pytest.mark.parametrize("environ", [{CARDS: "mlx5"}, {CARDS: "^mlx5_bond_0"}])
def test_the_user_s_own_stays(environ: dict[str, str]) -> None:
    way = choose_way(replace(POD, rdma=(card(0), roce(1))), environ, 2)
    assert (way.set, [one.why for one in way.kept]) == ((), ["the environment has it"])


def test_one_machine_needs_no_cards() -> None:
    assert choose_way(replace(POD, rdma=(card(0), roce(1))), {}, 1).set == ()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("", "0:1 0:2 1:1 10:1"),
        ("mlx5_1", "1:1 10:1"),
        ("=mlx5_1", "1:1"),
        ("=mlx5_0:2,mlx5_10", "0:2 10:1"),
        ("mlx5_0:1", "0:1"),
        ("^mlx5_0", "1:1 10:1"),
        ("^=mlx5_1", "0:1 0:2 10:1"),
        ("^mlx5_0:1", "0:2 1:1 10:1"),
        ("=ib0", ""),
    ],
)
def test_what_a_value_of_nccl_s_takes(said: str, expected: str) -> None:
    ports = (card(0), replace(card(0), port=2), card(1), card(10), card(2, state="DOWN"))
    found = [one.name.removeprefix("mlx5_") for one in taken(ports, said)]
    assert " ".join(found) == expected
    seen = replace(POD, rdma=ports)
    names = talked_over(seen, {CARDS: said}, gpus=True)
    assert names == ("eth0", *(f"mlx5_{one}" for one in found))
    assert talked_over(seen, {CARDS: said}, gpus=False) == ("eth0",)


def test_cards_that_do_nothing_are_said() -> None:
    ports = (card(0), card(1, state="DOWN"), card(2, fault="ENOENT"))
    closed, down = choose_way(replace(POD, rdma=ports), {}, 2).notes
    assert closed.startswith("mlx5_2 may not be opened here")
    assert down == "mlx5_1: no port is active; the others are used"


def test_from_sysfs_to_the_variable(tmp_path: Path) -> None:
    """Two sockets; behind a switch of each a GPU with its card, and one card for the storage."""
    switch = "pci0000:{0}/0000:{0}:01.0/0000:{1}:00.0/0000:{2}:0{3}.0/0000:{4}:00.0"
    rdma.write_gpu(tmp_path, switch.format("17", "18", "19", 0, "2a"))
    rdma.write_gpu(tmp_path, switch.format("97", "98", "99", 0, "9a"))
    rdma.write_cards(tmp_path, [
        Card(0, device=switch.format("17", "18", "19", 1, "2b")),
        Card(1, device=switch.format("97", "98", "99", 1, "9b")),
        Card(2, device="pci0000:c0/0000:c0:01.0/0000:c1:00.0"),
        Card(3, "1: DOWN", "2: Polling", mode=None),
    ])  # fmt: skip
    seen = network.read_network(None, {}, root=tmp_path)
    assert [(one.card, one.state, one.physical, one.fault) for one in seen.rdma] == [
        ("mlx5_0", "ACTIVE", "LinkUp", ""), ("mlx5_1", "ACTIVE", "LinkUp", ""),
        ("mlx5_2", "ACTIVE", "LinkUp", ""), ("mlx5_3", "DOWN", "Polling", "ENOENT"),
    ]  # fmt: skip
    way = choose_way(replace(POD, rdma=seen.rdma, nics=seen.nics), {}, 2)
    assert [(one.name, one.value) for one in way.set] == [(CARDS, "=mlx5_0,mlx5_1")]


def test_addresses_are_read_of_active_ethernet_ports(tmp_path: Path) -> None:
    rdma.write_cards(tmp_path, [
        Card(0, layer="Ethernet", gids=rdma.ROCE),
        Card(1, gids=rdma.ROCE),
        Card(2, "1: DOWN", layer="Ethernet", gids=rdma.ROCE),
        Card(3, layer="Ethernet", gids=(("no address", rdma.V2),), function_of=Card(0).folder),
    ])  # fmt: skip
    ports = network.read_network(None, {}, root=tmp_path).rdma
    found = [[(gid.address, gid.kind, gid.is_routed) for gid in port.gids] for port in ports]
    local = "fe80::ac0:ebff:feda:1cfb"
    assert found[1:] == [[], [], []]
    assert found[0] == [
        (local, "IB/RoCE v1", False), (local, "RoCE v2", False),
        ("::ffff:10.65.0.3", "IB/RoCE v1", False), ("::ffff:10.65.0.3", "RoCE v2", True),
    ]  # fmt: skip
    assert {gid.interface for gid in ports[0].gids} == {"ens1f0np0"}
    assert [port.virtual for port in ports] == [False, False, False, True]
    assert Network(interfaces=(ETH0,)).nics == ()
