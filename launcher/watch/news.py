"""What changed between two looks of watch, and is worth a line in the log.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from launcher.model.named_tuple import NamedTuple
from launcher.model.services import SERVICES, program_of, service_of
from launcher.model.watch import Probe
from launcher.supervise.programs import Program

SUPERVISE = "supervise"
_LASTING = ("stopped", "ended", "failed")  # what supervise writes of the others may be late
_CONFIRMED_AFTER = 5.0  # seconds; a driver that is asked again this much later means it


def changes(before: Sequence[Probe], after: Sequence[Probe]) -> Iterator[str]:
    """Yield a line for every service that was lost or came back."""
    was = {probe.service: probe.ready for probe in before}
    for probe in after:
        if was.get(probe.service, True) and not probe.ready:
            yield f"launcher: {probe.service} is not ready: {probe.detail}"
        elif probe.ready and not was.get(probe.service, True):
            yield f"launcher: {probe.service} is ready again"


def with_answers(probes: Sequence[Probe], unanswered: Mapping[str, str]) -> Iterator[Probe]:
    """Yield the probes, less ready where a service did not answer when it was last asked."""
    for probe in probes:
        fault = unanswered.get(probe.service) if probe.ready else None
        yield Probe(probe.service, False, fault) if fault else probe
    if SUPERVISE in unanswered:
        yield Probe(SUPERVISE, False, unanswered[SUPERVISE])


def with_programs(
    probes: Sequence[Probe], programs: Mapping[str, Program], anew: str
) -> Iterator[Probe]:
    """Yield the probes, and one of each required program that has none of its own.

    That a program has ended says more than that nobody answers on its port, or that somebody does.

    Args:
        probes: of the services.
        programs: what supervise knows.
        anew: how the box is started once more here.
    """
    down = {
        service_of(name): not_running(name, program)
        for name, program in programs.items()
        if program.required and name != "watch"
    }
    for probe in probes:
        why = down.pop(probe.service, None)
        state = programs[name].state if (name := program_of(probe.service)) in programs else ""
        if probe.ready and not (why and state in _LASTING):
            yield probe
        else:
            yield Probe(
                probe.service, False, why or f"{probe.detail}; fix: {_restart(probe, anew)}"
            )
    for service, why in down.items():
        if service not in SERVICES:
            yield Probe(service, why is None, why or "runs")


def _restart(probe: Probe, anew: str) -> str:
    if probe.service == SUPERVISE:  # which is what restarts the others
        return anew
    return f"launcher restart {program_of(probe.service)}"


def not_running(name: str, program: Program) -> str | None:
    """Return in words why a program does not run, or None where it does."""
    ended = f": {program.end}" if program.end else ""
    return {
        "starting": None,
        "running": None,
        "waiting": f"it ended, and is started again{ended}",
        "stopping": "it is being stopped",
        "stopped": f"it was stopped; start it: launcher restart {name}",
        "ended": f"it ended{ended}",
        "failed": f"it failed for good{ended}; its last lines: launcher logs {name}",
    }.get(program.state)


class GpuNews(NamedTuple):
    """What the log says of the GPUs, and what the last look saw instead.

    What is seen is one line: what is lost, and "" where all is as at the start.  It is believed
    when two looks in a row disagree with the log, so that one hiccup stays silent.
    """

    said: str = ""
    suspected: str | None = None

    def see(self, detail: str) -> GpuNews:
        """Return what is known after one more look."""
        if detail == self.said:
            return GpuNews(self.said)
        if self.suspected is not None and bool(self.suspected) == bool(detail):
            return GpuNews(detail)
        return GpuNews(self.said, detail)

    def pause(self, interval: float) -> float:
        """Return the seconds until the next look, where they are usually `interval`."""
        return interval if self.suspected is None else min(interval, _CONFIRMED_AFTER)
