"""What a child of the watch does that looks at the GPUs.  What is heavy is for where it helps."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Mapping
from typing import Any

from launcher.model.watch import GpusAtStart, GpuState
from launcher.process.fork import limit_files

_CONTROL = "/dev/nvidiactl"


def look(run_dir: str, start: GpusAtStart, known: Mapping[str, Any]) -> bytes:
    """Return what was seen, as JSON: a loss, or how those are that are there.

    Args:
        run_dir: of the box.
        start: the GPUs as they were.
        known: what the watch knows: whether some are "recovering" from a loss, the "memory" of the
            look before, and the indices in "resets" of GPUs that need one.
    """
    from launcher.watch import roll_call

    limit_files()
    roll_call.ask_as_the_start_did(start)
    states = roll_call.as_at_start(start, control_fault())
    if states is None or known["recovering"]:
        from launcher.watch import gpu_loss

        return gpu_loss.look_for_loss(run_dir, dict(start.environ))
    there = [gpu for gpu in start.listed if gpu.uuid in states]
    awake = [gpu.uuid for gpu in there if not roll_call.may_sleep(gpu.bus)]
    seen = {"detail": "", "line": "", "awake": awake}
    return json.dumps(seen | _compare(run_dir, start, states, known)).encode()


def _compare(
    run_dir: str, start: GpusAtStart, states: Mapping[str, GpuState], known: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what is to be said, and what the driver says of resets, by index."""
    from launcher.gpus.xid import needs_reset
    from launcher.watch import soundness

    before = soundness.remember(known["memory"])
    due, memory = soundness.look(start.listed, states, before, time.monotonic())
    needing, well = soundness.resets(start.listed, states, known["resets"])
    lines = [f"launcher: GPU {index} needs no reset any more" for index in well]
    index = {gpu.uuid: gpu.index for gpu in start.listed}
    holding = {str(index[uuid]): ids for uuid, ids in soundness.holding(states, memory).items()}
    troubles: dict[str, dict[str, str]] = {}
    resets = dict.fromkeys(map(str, well), "")
    if due or needing:
        from launcher.watch import gpu_trouble

        for uuid, check, words in gpu_trouble.words(run_dir, due, states):
            lines.append(gpu_trouble.as_line(words))
            troubles.setdefault(str(index[uuid]), {})[check] = words
        for gpu in needing:
            why = gpu_trouble.reset_reason(run_dir, gpu.uuid, states[gpu.uuid])
            resets[str(gpu.index)] = why
            if not needs_reset(gpu.state.recovery):  # else the start has said it
                lines.append(gpu_trouble.as_line(why))
    found = {"troubles": troubles, "holding": holding}
    return {"lines": lines, "memory": memory, "resets": resets} | found


def judge(run_dir: str, start: GpusAtStart, kind: str, reason: str) -> bytes:
    """Return what the checks say of a driver that gave no answer, as JSON."""
    from launcher.model.machine import DriverFailure
    from launcher.watch import gpu_loss

    return gpu_loss.look_for_loss(run_dir, dict(start.environ), DriverFailure(kind, reason))


def control_fault() -> str:
    """Return why the driver's control node cannot be opened ("EPERM"), or "" where it can."""
    try:
        os.close(os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError as err:
        return errno.errorcode.get(err.errno or 0, str(err.errno))
    return ""
