"""What every node but 0 does: go to node 0, answer what it asks, and learn how it ended."""

from __future__ import annotations

import time

from launcher.cluster.check import echo, measure, roll_call
from launcher.cluster.check.facts import AFTER_REACH, STAGES, Finding, Outcome
from launcher.cluster.check.look import Here
from launcher.cluster.check.wire import (
    NOT_WHAT_IT_SHOULD_BE,
    Broken,
    Line,
    Message,
    decode,
    decode_all,
    encode,
)

OWN_MASTER = "--master-addr with this node's own name or address"
_SPARE = 5.0  # seconds for the words after the last measurement


def be_another(here: Here) -> Outcome:
    report = here.report
    try:
        line = roll_call.come(report.master, report, here.job, here.seconds, here.tell)
    except roll_call.Unreachable as err:
        also = ""
        if here.is_master:
            also = f"; this host has the master's address, and is node {report.rank}, not node 0"
        found = Finding(
            "reach",
            f"node 0 at {report.master}:{report.port} was not reached in {here.seconds:g} s: "
            f"{err}{also}",
            "torchrun would wait fifteen minutes for it",
            err.fix,
        )  # fmt: skip
        return Outcome(report.nodes, (report,), (found,), AFTER_REACH)
    return answer(here, line)


def answer(here: Here, line: Line) -> Outcome:
    """Do what node 0 asks, until it says how all of it ended."""
    until = time.monotonic() + 2 * here.seconds + echo.LONGEST + 2 * _SPARE
    doors: list[echo.Echo] = []
    try:
        while True:
            asked = line.receive(until)
            if "refused" in asked:
                return _alone(
                    here, f"node 0 does not take this node: {str(asked['refused'])[:200]}"
                )
            if asked.get("do") == "end":
                return _ended(here, asked)
            line.send(_do(here, asked, doors), until)
    except Broken as err:
        if here.report.rank == 0:
            return _alone(
                here,
                f"{not_its_own(here)}: who answers there is no node of a check ({err})",
                OWN_MASTER,
            )
        return _alone(here, f"node 0 was there, and then not: {err}")
    finally:
        line.close()
        for door in doors:
            door.close()


def not_its_own(here: Here) -> str:
    """Return what is wrong with the master's address, on node 0."""
    return f"this is node 0, and {here.report.master} is not one of its addresses"


def _do(here: Here, asked: Message, doors: list[echo.Echo]) -> Message:
    """Answer one question; what is none of ours gets an empty answer."""
    what, report = asked.get("do"), here.report
    try:
        if what == "clock":
            return {"clock": time.time()}
        if what == "listen":
            doors.append(echo.Echo(report.door))
            return {"port": doors[-1].port}
        if what == "pairs":
            seconds = min(float(asked["seconds"]), echo.LONGEST)
            found = echo.try_partners(report.rank, report.nodes, asked["peers"], seconds)
            return {"pairs": [encode(one) for one in found]}
        if what == "reduce":
            plan = decode(measure.Plan, asked)
            if plan is not None:
                plan = plan._replace(seconds=min(plan.seconds, here.seconds))
                ran = measure.run(plan, report, here.python, here.environ)
                return {"reduced": [encode(one) for one in ran]}
    except (*NOT_WHAT_IT_SHOULD_BE, OSError) as err:
        return {"failed": str(err)[:200]}
    return {}


def _alone(here: Here, what: str, fix: str = "what node 0 says; run it on all again") -> Outcome:
    found = Finding("reach", what, "the check ended for this node", fix)
    return Outcome(here.report.nodes, (here.report,), (found,), AFTER_REACH)


def _ended(here: Here, asked: Message) -> Outcome:
    found, told = decode_all(Finding, asked.get("findings")), asked.get("skipped")
    skipped = tuple(stage for stage in STAGES if stage in told) if isinstance(told, list) else ()
    return Outcome(here.report.nodes, (here.report,), found, skipped)
