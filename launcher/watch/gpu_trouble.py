"""What is said of GPUs that answer and got worse, in the checks' words.  In a forked child.

The checks take a fifth of a second of CPU, so they are asked where there is something to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from launcher import checks
from launcher.box.run_dir import read_value
from launcher.model import run_files
from launcher.model.evidence import Evidence
from launcher.model.machine import Gpu, Machine, NvLinkErrors
from launcher.model.plan import Finding
from launcher.model.watch import GpuState

_RESET = "hardware.recovery_reset"


def words(
    run_dir: str, due: Iterable[tuple[str, str]], states: Mapping[str, GpuState]
) -> Iterator[tuple[str, str, str]]:
    """Yield what is said of each condition that is due, after its UUID and the id of its check.

    Raises BadSetting where the machine of the start cannot be read.
    """
    start = read_value(Machine, run_files.MACHINE, run_dir)
    for uuid, check in due:
        if found := find(start, uuid, check, states[uuid]):
            yield uuid, check, _in_words(found)


def reset_reason(run_dir: str, uuid: str, state: GpuState) -> str:
    """Return why a GPU is not healthy of which the driver says that it needs a reset."""
    start = read_value(Machine, run_files.MACHINE, run_dir)
    found = find(start, uuid, _RESET, state)
    return _in_words(found) if found else ""


def as_line(words: str) -> str:
    what, _, fix = words.partition("; fix: ")
    return f"launcher: a GPU is not as at the start: {what}; fix: {fix}"


def _in_words(found: Finding) -> str:
    return f"{found.what}: {found.means}; fix: {found.fix}"


def find(start: Machine, uuid: str, check: str, state: GpuState) -> Finding | None:
    """Return what one check says of one GPU as it is now."""
    silent = GpuState()  # what the others are is said elsewhere
    gpus = tuple(_as_it_is(gpu, state if gpu.uuid == uuid else silent) for gpu in start.report.gpus)
    report = start.report._replace(gpus=gpus, lost=(), pairs=())
    rows = tuple(row._replace(warning=True) for row in checks.CHECKS if row.id == check)
    found = checks.judge(Evidence(start._replace(report=report), {}), rows).warnings
    return found[0] if found else None


def _as_it_is(gpu: Gpu, state: GpuState) -> Gpu:
    links = None
    if state.link_recoveries is not None:
        links = (gpu.nvlink_errors or NvLinkErrors(0))._replace(recoveries=state.link_recoveries)
    return gpu._replace(
        recovery=state.recovery,
        remap_pending=state.remap_pending,
        remap_failed=state.remap_failed,
        nvlink_errors=links,
        slowdown=state.slowdown,
        persistence=state.persistence,
        licensed=state.licensed,
    )
