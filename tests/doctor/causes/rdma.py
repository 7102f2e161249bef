"""Cards for RDMA, which jobs of several nodes need and one machine does not."""

from __future__ import annotations

from testing import rdma
from testing.doctor.scenario import Scenario
from testing.doctor.tree import Step, linked, written
from testing.rdma import Card
from tests.doctor.causes.runtime import NOT_ALMIGHTY

H100 = "h100-8x"
LITTLE_LOCKED = ("prlimit", "--memlock=8388608")
PEER_MEMORY = written("sys/module/nvidia_peermem/version", "565.57.01\n")
GPUDIRECT = {"gpu *": {"gpu_direct_rdma": "yes"}}
DMA_BUF = {"gpu *": {"gpu_direct_rdma": "yes", "dma_buf": "yes"}}
CABLE = linked("sys/class/net/ens1f0np0", "../../devices/virtual/net/ens1f0np0")
INFINIBAND = tuple(map(Card, range(8)))
ROCE = tuple(Card(n, layer="Ethernet", gids=rdma.ROCE) for n in range(2))
# Two nodes, as SkyPilot says it.
SEVERAL = {
    "SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "0", "SKYPILOT_NODE_IPS": "10.0.0.4\n10.0.0.5",
}  # fmt: skip


def cards(*wanted: Card) -> Step:
    return lambda tree: rdma.write_cards(tree.root, wanted)


def changed(card: Card, **changes: object) -> Card:
    return Card(**{**vars(card), **changes})  # type: ignore[arg-type]


def all_but_first(**changes: object) -> Step:
    """Make eight cards, of which the first differs."""
    return cards(changed(INFINIBAND[0], **changes), *INFINIBAND[1:])


NOT_PASSED = tuple(changed(card, mode=None) for card in INFINIBAND)

RDMA_WELL = (
    Scenario("healthy-infiniband", "Eight cards beside eight GPUs.", machine=H100,
             tree=(cards(*INFINIBAND), PEER_MEMORY), changes=GPUDIRECT,
             environ=SEVERAL),
    Scenario("healthy-dma-buf", "Cards that reach GPUs' memory without a module.", machine=H100,
             tree=(cards(*INFINIBAND),), changes=DMA_BUF),
    Scenario("healthy-roce", "Ethernet cards with addresses.", machine=H100,
             tree=(cards(*ROCE), CABLE, PEER_MEMORY), changes=GPUDIRECT),
    Scenario("healthy-geforce", "GPUs that no card can reach, whatever is loaded.",
             tree=(cards(*INFINIBAND),)),
    Scenario("healthy-host-with-roce", "One machine, whose host has Ethernet cards for itself.",
             tree=(cards(*(changed(card, mode=None) for card in ROCE)),), wrapper=LITTLE_LOCKED),
    Scenario("healthy-one-cable", "Cards of two ports, each with one cable.", machine=H100,
             tree=(cards(Card(0, device="pci0001:18/0001:18:01.0/0001:19:00.0"),
                         Card(1, "1: DOWN", "2: Polling",
                              device="pci0001:18/0001:18:01.0/0001:19:00.1")), PEER_MEMORY),
             changes=GPUDIRECT),
    Scenario("healthy-sockets-on-purpose", "Cards that were not passed on to who wants none.",
             machine=H100, tree=(cards(*NOT_PASSED),), environ={"NCCL_IB_DISABLE": "1"}),
    Scenario("healthy-root-may-lock", "Little memory may be locked, but by root, who is the user.",
             machine=H100, needs_root=True, wrapper=LITTLE_LOCKED,
             tree=(cards(*INFINIBAND), PEER_MEMORY, written("proc/self/status",
                                                            "CapEff:\t000001ffffffffff\n"))),
)  # fmt: skip

RDMA = (
    Scenario(
        "rdma-not-passed", "An InfiniBand host whose container has no /dev/infiniband.",
        machine=H100, tree=(cards(*NOT_PASSED),), warns=("resources.rdma_not_passed",),
        seen=("mlx5_0, mlx5_1, mlx5_2, mlx5_3 and 4 more",),
        names=("--device=/dev/infiniband --ulimit memlock=-1",),
    ),
    Scenario(
        "roce-not-passed", "Two nodes, and Ethernet cards for RDMA that were not passed on.",
        machine=H100, environ=SEVERAL, warns=("resources.rdma_not_passed",),
        tree=(cards(*(changed(card, mode=None) for card in ROCE)),),
        seen=("mlx5_0, mlx5_1",), names=("--device=/dev/infiniband",),
    ),
    Scenario(
        "rdma-closed", "Device nodes whose mode keeps everybody out.", machine=H100,
        needs_root=True, warns=("resources.rdma_forbidden",), wrapper=NOT_ALMIGHTY,
        tree=(cards(*(changed(card, mode=0) for card in INFINIBAND)), PEER_MEMORY),
        seen=("/dev/infiniband/uverbs0: EACCES",), names=("chmod 666",),
    ),
    Scenario(
        "rdma-port-polling", "One of eight InfiniBand ports has no cable.", machine=H100,
        tree=(all_but_first(state="1: DOWN", physical="2: Polling"), PEER_MEMORY),
        warns=("resources.rdma_port",), seen=("mlx5_0:1 is DOWN (Polling)",),
        names=("ibstat mlx5_0", "cable"),
    ),
    Scenario(
        "rdma-no-subnet-manager", "A fabric that no subnet manager has set up.", machine=H100,
        tree=(cards(*(changed(card, state="2: INIT") for card in INFINIBAND)), PEER_MEMORY),
        warns=("resources.rdma_port",), seen=("mlx5_0:1 is INIT (LinkUp)",),
        names=("opensm",),
    ),
    Scenario(
        "roce-down", "Two nodes, and no cable at any Ethernet card.", machine=H100,
        environ=SEVERAL, warns=("resources.rdma_port",), names=("ip link set",),
        tree=(cards(*(changed(card, state="1: DOWN", physical="3: Disabled") for card in ROCE)),),
    ),
    Scenario(
        "roce-link-local", "Ethernet cards whose interfaces have no address of their own.",
        machine=H100, tree=(
            cards(*(changed(card, gids=rdma.ROCE[:2]) for card in ROCE)), CABLE, PEER_MEMORY,
        ), warns=("resources.rdma_gid",),
        seen=("mlx5_0:1 has fe80::ac0:ebff:feda:1cfb",), names=("ip address add",),
    ),
    Scenario(
        "roce-no-gid", "Ethernet cards without an address at all.", machine=H100,
        tree=(cards(*(changed(card, gids=rdma.ROCE[4:]) for card in ROCE)), CABLE, PEER_MEMORY),
        warns=("resources.rdma_gid",), seen=("mlx5_0:1 has no address",),
        names=("ip address add",),
    ),
    Scenario(
        "roce-other-namespace", "Ethernet cards in a container with a network of its own.",
        machine=H100, tree=(cards(*ROCE), PEER_MEMORY),
        warns=("resources.rdma_gid",), names=("--network=host",),
        seen=("::ffff:10.65.0.3 of ens1f0np0, which is in another network namespace",),
    ),
    Scenario(
        "no-peer-memory", "Cards that do not reach GPUs' memory.", machine=H100,
        tree=(cards(*INFINIBAND),), changes=GPUDIRECT,
        warns=("resources.rdma_peer_memory",), seen=("the driver offers no dma-buf",),
        names=("modprobe nvidia-peermem",),
    ),
    Scenario(
        "old-kernel-dma-buf", "A driver with dma-buf, on a kernel without it for RDMA.",
        machine=H100, changes=DMA_BUF, tree=(
            cards(*INFINIBAND), written("proc/version", "Linux version 5.4.0 (gcc) #1 SMP\n"),
        ), warns=("resources.rdma_peer_memory",), seen=("Linux 5.4 has no dma-buf",),
        names=("modprobe nvidia-peermem",),
    ),
    Scenario(
        "little-locked", "RDMA cards, and little memory may be locked.", wrapper=LITTLE_LOCKED,
        tree=(written("dev/infiniband/uverbs0", ""),),
        warns=("resources.memlock",), names=("--ulimit memlock=-1",),
    ),
)  # fmt: skip
