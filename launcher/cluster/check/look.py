"""What this node says of itself in the roll call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from launcher import __version__
from launcher.cluster import cards, ranks, torchrun
from launcher.cluster import network as choose
from launcher.cluster.check.facts import NodeReport
from launcher.cluster.place import Given
from launcher.cluster.torchrun import Around, Node
from launcher.detect import detect, user_python
from launcher.detect.torchrun import Torchrun
from launcher.model.errors import BadSetting
from launcher.model.named_tuple import NamedTuple


class Here(NamedTuple):
    """This node, and how it runs its part of the measured job."""

    report: NodeReport
    is_master: bool | None  # the master's address is one of its own
    job: str
    python: str
    environ: Mapping[str, str]
    seconds: float  # that it waits for the others, and then that the work may take
    tell: Callable[[str], None]


_SETTINGS = ("NCCL_", "GLOO_", "TORCH_NCCL_")


def look_around(given: Given, program: Torchrun, around: Around, seconds: float) -> Here:
    """Return this node, ready for the check.

    Raises BadSetting as `torchrun.look` does, and where a node's number is not known.
    """
    node = torchrun.look(given, around)
    for note in node.job.notes:
        around.tell(note)
    if node.job.rank is None and node.job.nodes > 1:
        raise BadSetting(
            "the check wants each node's number, and nothing says it here: --node-rank=R, 0 to "
            f"{node.job.nodes - 1}"
        )
    way = choose.choose_way(node.network, around.environ, node.job.nodes)
    seats = ranks.seat(node.processes, node.seen.devices, node.cpus)
    bound = ranks.bind(seats, given, around.environ, own_option=False, is_gpu=False)
    variables = {one.name: one.value for one in (*way.set, *bound.variables)}
    return Here(
        describe(node, program, around, way),
        choose.reach(node.network, node.job.master).is_master,
        node.job.job or "",
        program.python,
        {**around.environ, **variables},
        seconds,
        around.tell,
    )


def describe(node: Node, program: Torchrun, around: Around, way: choose.Way) -> NodeReport:
    """Return what this node believes and has.

    Args:
        way: what is set for the run.
    """
    limits = detect.read_limits(around.root)
    address = choose.towards_the_others(node.network) or ""
    interface = node.network.interface_of(address)
    environ = {**around.environ, **{one.name: one.value for one in way.set}}
    door = choose.chosen_door(node.network, around.environ, bool(node.seen.devices))
    return NodeReport(
        rank=node.job.rank or 0,
        nodes=node.job.nodes,
        processes=node.processes,
        hostname=node.network.hostname,
        address=address,
        master=node.job.master or "",
        port=node.job.port,
        platform=node.job.platform,
        interface=interface.name if interface else "",
        mtu=interface.mtu if interface else 0,
        versions=_versions(program.python, around.root),
        gpus=tuple(device.name for device in node.seen.devices),
        memlock=limits.memlock,
        shm=limits.shm,
        rdma=tuple(f"{p.link_layer} {p.rate}" for p in cards.active(node.network.rdma)),
        settings=tuple(
            (name, environ[name][:200]) for name in sorted(environ) if name.startswith(_SETTINGS)
        ),
        own_name=next(iter(node.network.own_addresses), ""),
        talks=door.address if door else "",
        talks_by=door.by if door else "",
    )


def _versions(python: str, root: Path) -> tuple[tuple[str, str], ...]:
    found = user_python.read_versions(python)
    hardware = detect.read_hardware(root)
    values = (
        ("launcher", __version__), ("Python", found.python), ("torch", found.pytorch),
        ("CUDA", found.cuda), ("NCCL", user_python.nccl_version(python)),
        ("driver", hardware.kernel_driver),
    )  # fmt: skip
    return tuple((name, value) for name, value in values if value)
