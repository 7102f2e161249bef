"""How awake the GPUs are, by nvidia-smi, once a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from testing.gpu.machine import TestedMachine

_PERIOD = 1.0  # seconds


@dataclass(frozen=True)
class Sample:
    """One GPU at one moment.  What nvidia-smi does not tell is None."""

    gpu: int
    state: str | None  # "P0"
    sm_clock: int | None  # MHz
    power: int | None  # W
    utilization: int | None  # %
    memory_used: int | None  # bytes
    persistence: bool | None


def sample(
    machine: TestedMachine, seconds: float, each: Callable[[], None] = lambda: None
) -> list[Sample]:
    """Return every GPU once a second; `each` is called each time too."""
    found: list[Sample] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begin = time.monotonic()
        each()
        seen = machine.smi()
        for gpu in seen.gpus if seen else ():
            found.append(
                Sample(
                    gpu.index,
                    gpu.text("performance_state"),
                    gpu.number("clocks/sm_clock"),
                    gpu.number(
                        "gpu_power_readings/instant_power_draw",
                        "gpu_power_readings/power_draw",
                        "power_readings/power_draw",
                    ),
                    gpu.number("utilization/gpu_util"),
                    gpu.mebibytes("fb_memory_usage/used"),
                    gpu.flag("persistence_mode"),
                )
            )
        time.sleep(max(0.0, _PERIOD - (time.monotonic() - begin)))
    return found
