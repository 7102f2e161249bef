"""The simulated machines, as options of `docker run` and as what should be found."""

from __future__ import annotations

from sim import description, driver

ALL = ("--gpus", "all")


def machine(name: str) -> dict[str, str]:
    """Return the variable that gives a container another machine than the default one."""
    return {"NVSIM_CONTAINER_MACHINE": name}


def gpus(name: str = "h100-8x") -> tuple[description.Device, ...]:
    return description.gpus(driver.find(name).read_text())


def uuids(name: str = "h100-8x") -> list[str]:
    return [gpu.get("uuid") for gpu in gpus(name)]
