"""Make the torchrun command that fits this node, with the reason of everything in it."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from launcher.cluster import devices, network, options, ranks, rendezvous
from launcher.cluster.agree import Master, hold_masters
from launcher.cluster.job import Job, find_job
from launcher.cluster.options import STARTING, Words
from launcher.cluster.place import FILES, Given, Said, Surroundings
from launcher.cluster.rendezvous import Choice
from launcher.cluster.values import are_one_host
from launcher.detect import jobs
from launcher.detect import network as network_reader
from launcher.detect.driver import GUEST
from launcher.detect.torchrun import Option, Torchrun
from launcher.model.errors import BadSetting
from launcher.model.job import RunningJob
from launcher.model.named_tuple import NamedTuple
from launcher.model.network import Network
from launcher.model.printable import printable

NAME_PATIENCE = 60.0  # seconds until the master has a name: a pod gets its own as it starts
_MOST = 1 << 20  # characters of a file: the hosts of tens of thousands of nodes
_WRAPPER = f"{GUEST}/rank.py"
# torchrun's options that say where a node is, and have variables.
_OF_PLACE = {
    name: Option(name.strip("-").replace("-", "_"), takes_value=True)
    for name in ("--nnodes", "--node-rank", "--master-addr", "--rdzv-endpoint")
}

Tell = Callable[[str], None]


class Around(NamedTuple):
    """The edges: the user's environment and home, and whom to tell what is waited for."""

    environ: Mapping[str, str]
    python: str  # the user's interpreter, as the settings have it
    home: str
    tell: Tell
    root: Path = Path("/")


class Node(NamedTuple):
    """This node's part, with what was seen on the way."""

    job: Job
    processes: int
    counted: Choice  # --nproc-per-node
    seen: devices.Seen
    cpus: ranks.CpuSets
    network: Network


class Command(NamedTuple):
    """What will be run, and why."""

    node: Node
    argv: tuple[str, ...]
    environ: Mapping[str, str]
    arguments: tuple[Choice, ...]
    variables: tuple[Choice, ...]
    kept: tuple[Choice, ...]
    notes: tuple[str, ...]

    @property
    def shown(self) -> str:
        """Return the command as a shell takes it, and a terminal obeys nothing of."""
        return " ".join(map(_quoted, self.argv))


def _quoted(word: str) -> str:
    if printable(word) == word:
        return shlex.quote(word)
    return "$'" + printable(word.replace("\\", "\\\\").replace("'", "\\'")) + "'"


def look(given: Given, around: Around, patience: float = 0.0) -> Node:
    """Find out which part of which job this node is.

    Args:
        patience: seconds until the master has a name; 0 = it is asked for once.

    Raises BadSetting for what contradicts itself, and where CUDA does not start and nobody said
    how many processes there shall be.
    """
    given = _without_auto(given)
    seen = devices.see_devices(around.environ, around.tell, around.root)
    cpus = devices.read_cpus(around.root)
    try:
        processes, count = ranks.count_processes(given, seen.devices, cpus, len(cpus.allowed))
    except ValueError as err:
        raise BadSetting(str(err)) from None
    if seen.failure and "nproc_per_node" not in given:
        raise BadSetting(
            f"CUDA does not start: {seen.failure}; which layer is broken: launcher doctor; to "
            "train on CPUs all the same: --nproc-per-node=N"
        )
    if processes == 0:
        raise BadSetting("--nproc-per-node=gpu, and CUDA sees no GPU: launcher doctor says why")
    job = find_job(given, _surroundings(around.environ, around.root), processes)
    master = job.master if job.nodes > 1 else None
    if master:
        _wait_for_name(master, patience, around.tell)
    seen_of_it = network_reader.read_network(master, around.environ, around.home, around.root)
    job = job._replace(notes=(*job.notes, *_hold_masters(job, seen_of_it)))
    return Node(job, processes, count, seen, cpus, seen_of_it)


def _hold_masters(job: Job, network: Network) -> list[str]:
    """Return what is said of other variables that name node 0.  Raises BadSetting."""
    if job.master is None or not job.others:
        return []
    chosen = Master(job.master, job.by["master"])
    others = {one.host for one in job.others if not are_one_host(one.host, job.master)}
    addresses = {name: network_reader.addresses_of(name) for name in others}
    addresses[job.master] = network.master_addresses
    return list(hold_masters(chosen, job.others, addresses))


def make_command(words: Words, program: Torchrun, around: Around) -> Command:
    """Return the command for what was typed.  Raises BadSetting, as `look`; or without torchrun."""
    if not program.argv:
        raise BadSetting(
            f"there is no torchrun on PATH nor beside {around.python}: pip install torch, or "
            "activate the environment that has it"
        )
    given = _without_auto(words.given)
    node = look(given, around, 0.0 if words.dry_run else NAME_PATIENCE)
    reach = network.reach(node.network, node.job.master)
    arguments = rendezvous.choose_arguments(node.job, given, node.counted, reach)
    way = network.choose_way(node.network, around.environ, node.job.nodes)
    bound = _bind(node, given, program, around)
    if bound.option:
        arguments = (*arguments, bound.option)
    again = rendezvous.choose_variables(node.job, given, around.environ)
    variables = (*way.set, *bound.variables, *again)
    empty = options.empty_variables(around.environ)
    notes = [*node.job.notes, *rendezvous.notes(node.job, given, reach), *way.notes, *bound.notes]
    notes += _notes(node)
    if words.dry_run and node.job.nodes > 1 and not node.network.master_addresses:
        notes.append(
            f"the master's name {node.job.master} has no address yet: a run gives it "
            f"{NAME_PATIENCE:g} s, and what is above of the network is without it"
        )
    notes += [f"{name} is set to nothing, of which torchrun dies: left out" for name in empty]
    return Command(
        node,
        _argv(program, arguments, words, bound.lists),
        _environ(around.environ, variables, empty, wrapped=bool(bound.lists)),
        arguments,
        variables,
        (*_kept(given), *way.kept),
        tuple(notes),
    )


def running(command: Command, now: float, root: Path = Path("/")) -> RunningJob:
    """Return the job as what stands beside it names it.

    Args:
        now: CLOCK_MONOTONIC, seconds.
    """
    node = command.node
    over = network.talked_over(node.network, command.environ, bool(node.seen.devices))
    return RunningJob(
        node.job.nodes, node.job.rank, node.processes, node.network.hostname, node.job.master,
        node.job.port, node.job.platform, now,
        jobs.read_traffic(over, root) if node.job.nodes > 1 else (),
    )  # fmt: skip


def count_nodes(environ: Mapping[str, str], root: Path = Path("/")) -> int:
    """Return how many nodes the job has that this box is part of, as far as something says it.

    What contradicts itself, or says no more than half, is a job of several all the same.
    """
    given = options.read_words([], _OF_PLACE, environ).given
    try:
        said = find_job(given, _surroundings(environ, root), processes=1).nodes
    except BadSetting:
        said = 2
    return max(said, *(found.job.nodes for found in jobs.read_jobs(root)), 1)


def _surroundings(environ: Mapping[str, str], root: Path) -> Surroundings:
    paths = (*FILES, environ.get("OMPI_MCA_orte_default_hostfile", ""))
    texts = {path: _read(root / path.lstrip("/")) for path in filter(None, paths)}
    there = {path: text for path, text in texts.items() if text is not None}
    return Surroundings(environ, socket.gethostname(), there)


def _read(path: Path) -> str | None:
    """Return the text of a file that a variable may name; None where it is none."""
    with contextlib.suppress(OSError):  # a name that is too long, too
        if path.is_file():
            with open(path, errors="replace") as stream:
                return stream.read(_MOST)
    return None


def _wait_for_name(master: str, seconds: float, tell: Tell) -> None:
    """Wait until the master's name has an address; a pod gets its own only as it starts."""
    deadline = time.monotonic() + seconds
    told = False
    while seconds and not network_reader.addresses_of(master):
        if time.monotonic() > deadline:
            tell(f"the master's name {master} has no address; torchrun goes on asking")
            return
        if not told:
            tell(f"the master's name {master} has no address yet; it has {seconds:g} s")
            told = True
        time.sleep(0.5)


def _bind(node: Node, given: Given, program: Torchrun, around: Around) -> ranks.Bound:
    seats = ranks.seat(node.processes, node.seen.devices, node.cpus)
    numactl = shutil.which("numactl", path=around.environ.get("PATH")) is not None
    own_option = numactl and "numa_binding" in program.dests
    return ranks.bind(seats, given, around.environ, own_option, bool(node.seen.devices))


def _without_auto(given: Given) -> dict[str, Said]:
    """Drop PET_NPROC_PER_NODE=auto, which asks for what is found here.

    Kubeflow's default; torchrun's own reading starts a process for each CPU where no GPU is.
    """
    said = given.get("nproc_per_node")
    auto = said is not None and said.value == "auto" and said.by.startswith("PET_")
    return {name: it for name, it in given.items() if not (auto and name == "nproc_per_node")}


def _argv(
    program: Torchrun, arguments: Sequence[Choice], words: Words, lists: str
) -> tuple[str, ...]:
    """Put ours before the user's, so that theirs win; what is merged takes the place of theirs."""
    merged = {"rdzv_conf"} if any(one.name == "--rdzv-conf" for one in arguments) else set()
    left_out = {*merged, *(STARTING if lists else ())}
    typed = [word for dest, taken in words.options if dest not in left_out for word in taken]
    script = words.script
    if lists:
        script = (_WRAPPER, lists, _kind(words), *script)
    return (*program.argv, *(one.word for one in arguments), *typed, *script)


def _kind(words: Words) -> str:
    """Return what the script is to torchrun, for rank.py to start it as that."""
    if "module" in words.given:
        return "module"
    return "program" if "no_python" in words.given else "script"


def _environ(
    environ: Mapping[str, str], variables: Sequence[Choice], empty: Sequence[str], wrapped: bool
) -> dict[str, str]:
    gone = {*empty, *(f"PET_{dest.upper()}" for dest in STARTING if wrapped)}
    found = {name: value for name, value in environ.items() if name not in gone}
    return found | {one.name: one.value for one in variables}


def _kept(given: Given) -> list[Choice]:
    """Return the user's own options, which win."""
    return [
        Choice(f"--{dest.replace('_', '-')}", said.value, "yours" if by_hand else said.by)
        for dest, said in given.items()
        if (by_hand := said.by.startswith("-")) or said.by.startswith("PET_")
    ]


def _notes(node: Node) -> list[str]:
    found = []
    cpus = len(node.cpus.allowed)
    if node.processes > cpus:
        found.append(
            f"{node.processes} processes on {cpus} CPU{'s' * (cpus != 1)}: they take turns; in "
            "Slurm: --cpus-per-task, in Kubernetes: the pod's CPU limit"
        )
    if node.seen.failure:
        found.append(f"CUDA does not start: {node.seen.failure}")
    return found
