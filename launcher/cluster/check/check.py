"""`launcher cluster check`: node 0 asks, the others answer, and all end with the same status.

First what every node believes is compared, over plain TCP: torchrun notices nothing of it, and
trains with half of the world.  Only then is anything of torch's tried.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from launcher.cluster.check import answer, ask, compare, roll_call, speed
from launcher.cluster.check.facts import AFTER_REACH, Finding, Outcome, Reduced
from launcher.cluster.check.look import Here
from launcher.cluster.check.wire import Line

_SHOWN = 4  # strangers that are named


def run(here: Here) -> Outcome:
    """Be node 0, or go to it.  Takes at most twice `seconds`, and half a minute."""
    report = here.report
    if report.nodes == 1:
        return _conclude(here, (), roll_call.Present((), (), 0.0))
    if report.rank == 0:
        return _be_node_0(here)
    return answer.be_another(here)


# --- node 0 ----------------------------------------------------------------------------------


def _be_node_0(here: Here) -> Outcome:
    report = here.report
    if here.is_master is False and (line := _another_node_0(here)):
        return answer.answer(here, line)
    try:
        server = roll_call.listen(report.port)
    except OSError as err:
        found = Finding(
            "reach", f"node 0 cannot listen on port {report.port}: {err.strerror}",
            "another job, or a remnant of one, has it: torchrun would fail on node 0, and the "
            "others wait fifteen minutes",
            f"who is it: ss -ltnp 'sport = :{report.port}'; or another --master-port on all",
        )  # fmt: skip
        return Outcome(report.nodes, (report,), (found,), AFTER_REACH)
    here.tell(f"node 0 of {report.nodes} waits for the others on port {report.port}")
    with server:
        present = roll_call.gather(server, report.nodes, here.job, here.seconds)
    return _conclude(here, present.came, present)


def _another_node_0(here: Here) -> Line | None:
    """Return a line to whoever is node 0 already, where the master's address is not ours."""
    try:
        return roll_call.come(here.report.master, here.report, here.job, 2.0, lambda _: None)
    except roll_call.Unreachable:
        return None


def _conclude(here: Here, came: ask.Present, present: roll_call.Present) -> Outcome:
    """Compare, connect, measure; tell the others how it ended."""
    began = time.monotonic()
    reports = tuple(sorted((here.report, *(one.report for one in came)), key=lambda one: one.rank))
    names = {report.rank: report.shown for report in reports}
    found = [
        *compare.absent(here.report, reports, here.seconds),
        *_strangers(here, present.refused),
        *compare.compare(reports),
    ]
    clocks = dict(roll_call.offsets(came, time.monotonic() + ask.A_MOMENT))
    found += compare.clocks(clocks, names)
    skipped = [] if here.report.nodes > 1 else ["beliefs", "clocks", "pairs"]
    if here.report.nodes > 1 and not came:  # one node agrees with itself
        skipped += ["beliefs", "clocks", "versions", "machines"]
    reduced: tuple[Reduced, ...] = ()
    if came and _may(found, ("beliefs",)):
        found += compare.blame(ask.connect(here, came), reports)
    elif here.report.nodes > 1:
        skipped.append("pairs")
    if _may(found, ("reach", "beliefs", "versions", "pairs")):
        reduced = ask.measure_all(here, came, reports)
        found += speed.judge(reduced, names)
    else:
        skipped.append("all_reduce")
    outcome = Outcome(
        here.report.nodes, reports, tuple(found), tuple(skipped), tuple(sorted(clocks.items())),
        reduced, time.monotonic() - began, present.waited,
    )  # fmt: skip
    ask.dismiss(came, outcome)
    return outcome


def _strangers(here: Here, refused: Sequence[str]) -> Iterator[Finding]:
    if refused:
        listed = "; ".join(refused[:_SHOWN]) + (" …" if len(refused) > _SHOWN else "")
        yield Finding(
            "reach", f"{len(refused)} connections were not of this job: {listed}",
            "another job meets at the same port, or somebody scans it",
            "another --master-port, or the same --rdzv-id on all nodes", fatal=False,
        )  # fmt: skip
    if here.report.rank == 0 and here.is_master is False:
        yield Finding(
            "reach", answer.not_its_own(here), "the others go to whoever has it",
            answer.OWN_MASTER, fatal=False,
        )  # fmt: skip


def _may(found: Sequence[Finding], stages: Sequence[str]) -> bool:
    """Return whether nothing of these stages failed."""
    return not any(one.fatal and one.stage in stages for one in found)
