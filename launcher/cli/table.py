"""The table of commands: what there is, what each takes, what it does."""

from __future__ import annotations

import contextlib
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Sequence

from launcher.cli import about, bash, cluster, inside, metrics, running, stages
from launcher.cli.command import Argument, Command, Section

_DOCTOR_PATIENCE = 60.0  # seconds: cuInit takes 30 where the fabric never gets ready


_JSON = Argument(("--json",), "print JSON, for programs", {"action": "store_true"})
_SHOW_SECRETS = Argument(
    ("--show-secrets",), "with tokens, passwords and keys in clear", {"action": "store_true"}
)
_NAME = Argument(("name",), "jupyter, ssh, or a program of supervisor.d", {"metavar": "NAME"})


def _seconds(text: str) -> float:
    """Read a number of seconds, for argparse.  Raises ArgumentTypeError."""
    with contextlib.suppress(ValueError):
        if 5 <= (found := float(text)) <= 3600:
            return found
    raise ArgumentTypeError(f"{text[:60]!r}: expected seconds, 5 to 3600")


def _hot(run: Callable[[Sequence[str]], int]) -> Callable[[Namespace], int]:
    """Adapt what is mostly called without a parser."""
    return lambda options: run(getattr(options, "words", ()))


def _completion(options: Namespace) -> int:
    print(bash.script(COMMANDS), end="")
    return 0


# fmt: off
SECTIONS: tuple[Section, ...] = (
    Section("", (
        Command("banner", "", "print the banner again: URL, SSH line, devices", running.banner),
        Command("url", "[--json]", "print the Jupyter URL alone", running.url, (_JSON,)),
        Command("status", "[--json]", "what runs since when, what is wrong; 0 when well",
                running.status, (_JSON,)),
        Command("metrics", "[--json]", "the box and its GPUs as Prometheus text",
                metrics.metrics,
                (Argument(("--json",), "print what it is made of, but for the GPUs, as JSON",
                          {"action": "store_true"}),),
                "For node-exporter's textfile collector; Prometheus itself asks Jupyter "
                "(docs/metrics.md)."),
        Command("logs", "[NAME] [-f]", "what the programs said last; -f: and go on",
                running.logs, (
                    Argument(("name",), "jupyter, ssh, watch …; launcher: its own "
                             "last hundred; none: all of the programs",
                             {"nargs": "?", "metavar": "NAME"}),
                    Argument(("-f", "--follow"), "go on with what is said from now on",
                             {"action": "store_true"}),
                    Argument(("-n", "--lines"), "how many lines of each (%(default)s)",
                             {"type": int, "default": 50, "metavar": "N"}),
                )),
        Command("start", "NAME", "start a program of the box again (as root)", running.start,
                (Argument(("name",), "the program; none: be the box itself",
                          {"nargs": "?", "metavar": "NAME"}),
                 Argument(("--background",), "without NAME: start the box and return, where the "
                          "container's entrypoint was replaced", {"action": "store_true"})),
                "Without NAME it is the box: what the container's entrypoint does."),
        Command("run", "-- CMD …", "run CMD where the entrypoint was replaced",
                running.run,
                (Argument(("words",), "`-- CMD ARGUMENT …`",
                          {"nargs": "*", "metavar": "-- CMD"}),)),
        Command("stop", "NAME", "stop one, until it is started again (as root)", running.stop,
                (_NAME,)),
        Command("restart", "NAME", "stop and start one; the others go on (as root)",
                running.restart, (_NAME,)),
        Command("reload", "", "read keys and configuration again (as root)", running.reload),
        Command("keys", "list|add|remove", "who may log in; let somebody in, or out (as root)",
                running.keys, (
                    Argument(("what",), "list, add or remove",
                             {"choices": ("list", "add", "remove")}),
                    Argument(("key",), "add: the line of a .pub file; none: lines of standard "
                             "input.  remove: SHA256:…, or the key's comment",
                             {"nargs": "*", "metavar": "KEY"}),
                )),
        Command("exec", "-- CMD …", "run CMD as the workspace user, as it was planned",
                _hot(inside.become),
                (Argument(("words",), "`-- CMD ARGUMENT …`; or the name of a service, which "
                          "supervise calls", {"nargs": "*", "metavar": "-- CMD"}),)),
        Command("healthcheck", "", "exit 0 when the box is healthy, 1 with the reason",
                _hot(inside.healthcheck)),
    )),
    Section("To train:", (
        Command("torchrun", "[…] SCRIPT …", "become torchrun, with the arguments that fit",
                cluster.torchrun, (
                    Argument(("--dry-run",), "print each argument with its reason, and run nothing",
                             {"action": "store_true"}),
                    Argument(("--json",), "the same, for programs", {"action": "store_true"}),
                    Argument(("words",), "torchrun's own options, which win; the script and its "
                             "arguments", {"nargs": "*", "metavar": "WORD"}),
                ),
                "Processes: the devices that CUDA sees.  Nodes, rank and rendezvous: from PET_*, "
                "Slurm, Kubernetes, MPI or the cloud that started this container, else one "
                "machine.  docs/cluster.md has all of them.", as_typed=True),
        Command("cluster", "check", "run on all nodes before a job: which is wrong",
                cluster.cluster, (
                    Argument(("what",), "check, the only one so far", {"choices": ("check",)}),
                    Argument(("--seconds",), "how long to wait for the others, and then for what "
                             "is measured: 5 to 3600 (%(default)g)",
                             {"type": _seconds, "default": 60.0, "metavar": "N"}),
                    _JSON,
                    *(Argument((f"--{dest.replace('_', '-')}",), "as torchrun's, where nothing "
                               "else says it", {"metavar": "X"}) for dest in cluster.PLACE),
                ),
                "Stages: reach, beliefs, clocks, versions, machines, pairs, all_reduce.  Exit "
                "status: 0 when all are well, else 10 + the number of the first that is not, on "
                "every node."),
    )),
    Section("When something is wrong:", (
        Command("doctor", "[ID …]", "which layer is broken, and what mends it",
                stages.doctor, (
                    Argument(("checks",), "look at these checks or layers alone: driver, "
                             "runtime.cgroup …", {"nargs": "*", "metavar": "ID"}),
                    Argument(("--json",), "print verdict and evidence as JSON",
                             {"action": "store_true"}),
                    Argument(("--steps",), "the same, after a line of JSON for each layer as soon "
                             "as it is known", {"action": "store_true"}),
                    Argument(("--verbose",), "print the evidence too", {"action": "store_true"}),
                    Argument(("--collective",), "let the GPUs talk to each other as well: "
                             "point-to-point and all_reduce; where that fails, again with one way "
                             "less at a time", {"action": "store_true"}),
                    Argument(("--timeout",), "how long CUDA, PyTorch and each try of --collective "
                             "may take (%(default)g)",
                             {"type": float, "default": _DOCTOR_PATIENCE, "metavar": "SECONDS"}),
                    Argument(("--report",), "write one file to attach to a bug report: no secret, "
                             "no serial number, no UUID", {"metavar": "FILE"}),
                ),
                "Layers, lowest first: hardware, driver, runtime, libraries, cuda, pytorch, "
                "environment, resources, and collective where that is asked for.  Exit status: 0 "
                "when healthy, else 10 + the number of the layer that is broken.  `launcher "
                "explain ID` describes every check."),
        Command("explain", "ID", "what a finding, or a line of the log, means", about.explain, (
                    Argument(("what",), "a finding's id, or the line itself",
                             {"nargs": "*", "metavar": "ID"}),
                    Argument(("--list",), "print every finding's id", {"action": "store_true"}),
                )),
        Command("topo", "[--json|--svg F]", "how the GPUs are connected; as text or as a picture",
                stages.topo, (_JSON, Argument(("--svg",), "draw a picture into FILE; - for "
                                              "standard output", {"metavar": "FILE"}))),
        Command("record", "", "describe this machine for a bug report, no serial",
                stages.record),
        Command("settings", "[--json]", "every setting, its default and its value here",
                stages.settings, (_JSON, _SHOW_SECRETS)),
    )),
    Section("The pipeline, one stage at a time (JSON):", (
        Command("detect", "", "what this machine is", stages.detect, (_JSON,)),
        Command("plan", "", "what will be done, and why", stages.plan, (_JSON, _SHOW_SECRETS)),
        Command("render", "DIR", "write what the services would read, below DIR", stages.render,
                (Argument(("directory",), "is made where it is not there", {"metavar": "DIR"}),)),
    )),
    Section("About:", (
        Command("version", "[--json]", "of the launcher, and of the user's PyTorch", about.version,
                (_JSON,)),
        Command("completion", "bash", "print what lets the shell complete commands",
                _completion,
                (Argument(("shell",), "the only one so far", {"choices": ("bash",)}),)),
    )),
    Section("Inside the box, called by supervise:", (
        Command("watch", "", "readiness, banner, health", _hot(inside.watch)),
        Command("post-start", "", "after the banner, become /post_start.sh",
                _hot(inside.post_start)),
    )),
)
# fmt: on

COMMANDS = {command.name: command for section in SECTIONS for command in section.commands}
