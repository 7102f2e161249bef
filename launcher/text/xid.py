"""What the log says of an Xid: what happened, whose fault, what follows, what to do.  Pure."""

from __future__ import annotations

from launcher.checks.facts.how_to_run import fit_at
from launcher.gpus.xid import FAULTS, advise, explain
from launcher.model.watch import ListedGpu

_NOTHING = "nothing is to be done"


def xid_line(gpu: ListedGpu, code: int, recovery: int | None, place: str) -> str:
    """Return the one line of an Xid.

    Args:
        gpu: where it happened.
        code: its number.
        recovery: what the driver says that the GPU needs; None where it does not say.
        place: where the box runs, a row of checks/facts/places.
    """
    row, advice = explain(code), advise(code, recovery)
    whose = f" ({FAULTS[row.fault]})" if row.fault else ""
    what = f"launcher: GPU {gpu.index}: Xid {code}: {row.means}{whose}: {advice.follows}"
    return f"{what}; {f'fix: {_fix(advice.fix, gpu, place)}' if advice.fix else _NOTHING}"


def reset_reason(gpu: ListedGpu, code: int, recovery: int | None, place: str) -> str:
    """Return why a GPU is not healthy after an Xid; "" where it needs no reset."""
    advice = advise(code, recovery)
    if not advice.resets:
        return ""
    what = f"GPU {gpu.index}: Xid {code}: {explain(code).means}: {advice.follows}"
    return f"{what}; fix: {_fix(advice.fix, gpu, place)}"


def storm_line(index: int, code: int, count: int, seconds: float) -> str:
    times = "once" if count == 1 else f"{count} times"
    return f"launcher: GPU {index}: Xid {code} came {times} more within {seconds:.0f} s"


def _fix(fix: str, gpu: ListedGpu, place: str) -> str:
    return fit_at(fix.format(gpu.smi_id), place)
