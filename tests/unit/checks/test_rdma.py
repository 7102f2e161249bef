"""RDMA cards: what is said where they matter, and nothing where one machine is alone."""

from __future__ import annotations

import pytest

from launcher.checks import judge
from launcher.checks.resources import CHECKS
from launcher.model.evidence import AS_GIVEN, CudaDevice, CudaTrial, Evidence
from launcher.model.machine import DeviceNode, Nic
from launcher.model.network import Gid, Rdma, RdmaPort
from launcher.model.plan import Finding
from testing.evidences import healthy
from testing.machines import DEV, GIB, ROOT
from testing.values import replace

LOCAL = Gid("fe80::ac0:ebff:feda:1cfb", "RoCE v2", "ens1")
ROUTED = Gid("::ffff:10.65.0.3", "RoCE v2", "ens1")
ABLE = CudaDevice(0, "GPU-0", "NVIDIA H100", (9, 0), gpudirect=True, dma_buf=False)


def port(number: int, **changes: object) -> RdmaPort:
    found = RdmaPort(
        f"mlx5_{number}", 1, "ACTIVE", "InfiniBand", "400 Gb/sec",
        f"0000:{0x18 + number:02x}:00.0", physical="LinkUp",
    )  # fmt: skip
    return replace(found, **changes)


def down(number: int, **changes: object) -> RdmaPort:
    return port(number, **{"state": "DOWN", "physical": "Polling", **changes})


def roce(number: int, *gids: Gid, **changes: object) -> RdmaPort:
    return port(number, link_layer="Ethernet", gids=gids, **changes)


def having(*ports: RdmaPort, several: bool = False, **changes: object) -> Evidence:
    """Return two sound GPUs and these cards, all passed on but where a port says otherwise."""
    opened = tuple(
        DeviceNode(f"/dev/infiniband/uverbs{n}", one.fault) for n, one in enumerate(ports)
    )
    rdma = Rdma(ports, opened, interfaces=("lo", "ens1"), peer_memory=True, kernel=(6, 1))
    return healthy(2, rdma=replace(rdma, **changes), nodes=1 + several)


def found(seen: Evidence) -> list[Finding]:
    verdict = judge(seen, CHECKS)
    assert verdict.failure is None
    return list(verdict.warnings)


def ids(seen: Evidence) -> list[str]:
    return [one.id.removeprefix("resources.") for one in found(seen)]


NOWHERE = {"fault": "ENOENT"}
WELL = {
    "no card": healthy(2),
    "cards that work": having(port(0), port(1)),
    "… of several nodes": having(port(0), port(1), several=True),
    "RoCE with an address": having(roce(0, LOCAL, ROUTED)),
    "a host's RoCE cards, and one machine": having(roce(0, ROUTED, **NOWHERE)),
    "a host's cards that are down": having(down(0, **NOWHERE)),
    "some of a host's cards": having(port(0), port(1, **NOWHERE), port(2, **NOWHERE)),
    "others' cards in the host's /dev": having(port(0), port(1, fault="EPERM")),
    "a card's second port without a cable": having(
        port(0), down(1, pci_bus_id="0000:18:00.1")
    ),
    "virtual functions of a card that is here": having(port(0), down(1, virtual=True)),
    "an Ethernet port that is nobody's": having(port(0), down(1, link_layer="Ethernet")),
    "one of several without an address": having(roce(0, ROUTED), roce(1, LOCAL)),
    "RoCE of the management beside InfiniBand": having(port(0), roce(1, LOCAL)),
    "a kernel that does not say the types": having(roce(0, Gid("::ffff:10.65.0.3"))),
    "an address by hand": replace(
        having(roce(0, LOCAL)), environ={"NCCL_IB_GID_INDEX": "1"}
    ),
    "no RDMA on purpose": replace(
        having(port(0, **NOWHERE), several=True), environ={"NCCL_IB_DISABLE": "1"}
    ),
    "sockets on purpose": replace(
        having(port(0, **NOWHERE), several=True), environ={"NCCL_NET": "Socket"}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WELL)
def test_where_all_is_well_nothing_is_said(name: str) -> None:
    assert ids(WELL[name]) == []


@pytest.mark.parametrize("several", [False, True])
def test_without_gpus_nothing_is_said(several: bool) -> None:
    seen = having(port(0, **NOWHERE), down(1), roce(2), several=several)
    report = seen.machine.report._replace(gpus=())
    assert ids(replace(seen, machine=seen.machine._replace(report=report))) == []


WRONG = {
    "InfiniBand that was not passed on": (
        having(port(0, **NOWHERE), port(1, **NOWHERE)), "rdma_not_passed", "mlx5_0, mlx5_1: on",
    ),
    "RoCE that was not passed on to one of two nodes": (
        having(roce(0, ROUTED, **NOWHERE), several=True), "rdma_not_passed", "mlx5_0: on the host",
    ),
    "EFA that was not passed on": (
        having(port(0, link_layer="Unspecified", **NOWHERE)), "rdma_not_passed", "mlx5_0: on",
    ),
    "a kernel without device nodes": (
        having(port(0, **NOWHERE), nodes=()), "rdma_not_passed", "no device node for it",
    ),
    "a mount instead of a device": (
        having(port(0, fault="EPERM")), "rdma_forbidden", "uverbs0: EPERM",
    ),
    "no cable": (having(port(0), down(1)), "rdma_port", "mlx5_1:1 is DOWN (Polling)"),
    "no cable at all": (
        having(down(0, link_layer="Ethernet")), "rdma_port", "mlx5_0:1 is DOWN (Polling)",
    ),
    "no cable at all, nor device nodes, on two nodes": (
        having(down(0, **NOWHERE), several=True), "rdma_port", "mlx5_0:1 is DOWN",
    ),
    "link-local alone": (having(roce(0, LOCAL)), "rdma_gid", "ends at the next router"),
    "no address": (having(roce(0)), "rdma_gid", "mlx5_0:1 has no address"),
    "RoCE v1 alone": (
        having(roce(0, replace(ROUTED, kind="IB/RoCE v1"))), "rdma_gid", "ends at the next router",
    ),
    "another namespace": (
        having(roce(0, LOCAL, replace(ROUTED, interface="host0"))), "rdma_gid",
        "::ffff:10.65.0.3 of host0, which is in another network namespace",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_one_cause_gives_one_warning(name: str) -> None:
    seen, expected, words = WRONG[name]
    (warning,) = found(seen)
    assert warning.id == f"resources.{expected}"
    assert words in warning.what
    assert warning.fix


def fix(seen: Evidence) -> str:
    (warning,) = found(seen)
    return warning.fix


def test_the_fix_is_for_what_the_cable_says() -> None:
    assert "ibstat mlx5_0" in fix(having(down(0)))
    assert "opensm" in fix(having(port(0, state="INIT")))
    assert "rdma link show mlx5_0/1" in fix(having(down(0, link_layer="Ethernet")))


def test_the_fix_is_for_what_closes_the_nodes() -> None:
    def closed(mode: int, gid: int) -> Evidence:
        node = DeviceNode("/dev/infiniband/uverbs0", "", 0, gid, mode)
        return having(port(0), nodes=(node,))._replace(user=DEV)

    assert "--device=/dev/infiniband" in fix(WRONG["a mount instead of a device"][0])
    assert "--group-add 101" in fix(closed(0o660, 101))
    assert "chmod 666" in fix(closed(0o600, 0))
    assert "rdma_forbidden" not in ids(closed(0o666, 0))
    assert "sudo modprobe ib_uverbs" in fix(WRONG["a kernel without device nodes"][0])
    assert "--network=host" in fix(WRONG["another namespace"][0])
    assert "ip address add" in fix(WRONG["link-local alone"][0])


def test_a_gpu_s_own_card_is_missed_whatever_its_kind() -> None:
    """Ethernet cards that are down count where a GPU has no other behind its switch."""
    nics = tuple(
        Nic(f"mlx5_{n}", f"0000:{0x18 + n:02x}:00.0", ((n, "PIX"), (1 - n, "SYS")))
        for n in range(2)
    )
    cards = (roce(0, ROUTED), down(1, link_layer="Ethernet"))
    assert ids(having(*cards)) == []
    assert ids(having(*cards, nics=nics)) == ["rdma_port"]
    shared = (replace(nics[0], paths=((0, "PIX"), (1, "PXB"))), nics[1])
    assert ids(having(*cards, nics=shared)) == []


@pytest.mark.parametrize(
    ("device", "changes", "words"),
    [
        (ABLE, {}, "the driver offers no dma-buf"),
        (ABLE, {"peer_memory": True}, None),
        (replace(ABLE, dma_buf=True), {}, None),
        (replace(ABLE, dma_buf=True), {"kernel": (5, 4)}, "Linux 5.4 has no dma-buf for RDMA"),
        (replace(ABLE, dma_buf=True), {"kernel": (0, 0)}, None),
        (replace(ABLE, dma_buf=None), {}, "the driver offers no dma-buf"),  # before CUDA 11.7
        (replace(ABLE, gpudirect=False), {}, None),  # GeForce
        (replace(ABLE, gpudirect=None), {}, None),
    ],
)
def test_peer_memory(device: CudaDevice, changes: dict[str, object], words: str | None) -> None:
    trials = (CudaTrial(AS_GIVEN, "ok", devices=(device,)),)
    seen = having(port(0), **{"peer_memory": False, **changes})._replace(trials=trials)
    assert [words in one.what for one in found(seen) if words] == [True] * bool(words)
    assert ids(seen) == ["rdma_peer_memory"] * bool(words)
    assert ids(seen._replace(trials=())) == []
    assert ids(having(roce(0, ROUTED), down(1, link_layer="Ethernet"))) == []


@pytest.mark.parametrize(
    ("user", "capabilities", "rootless", "words"),
    [
        (DEV, None, False, "RDMA cards are here"),
        (DEV, {"IPC_LOCK"}, False, "IPC_LOCK is root's alone, and programs run as dev"),
        (ROOT, {"IPC_LOCK"}, False, None),
        (ROOT, {"IPC_LOCK"}, True, "RDMA cards are here"),
        (ROOT, {"CHOWN"}, False, "RDMA cards are here"),
        (ROOT, None, False, "RDMA cards are here"),
    ],
)
def test_a_capability_frees_root_of_the_limit(user, capabilities, rootless, words) -> None:
    seen = healthy(2)._replace(user=user)
    nodes = (*seen.hardware.device_nodes, "/dev/infiniband/uverbs0")
    host = seen.machine.host._replace(
        capabilities=None if capabilities is None else frozenset(capabilities), rootless=rootless
    )
    machine = seen.machine._replace(
        hardware=seen.hardware._replace(device_nodes=nodes),
        limits=seen.limits._replace(memlock=GIB >> 4), host=host,
    )  # fmt: skip
    warned = found(replace(seen, machine=machine))
    assert [one.id for one in warned] == ["resources.memlock"] * bool(words)
    assert all(words in one.what for one in warned)
