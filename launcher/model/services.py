"""Our own services: what people call them, and the programs that supervise runs for them."""

from __future__ import annotations

GROUP = "box"  # of supervisor's, which has our programs

# Our programs: by which name people know the service, and watch probes it.
_SERVICES = {"jupyter": "jupyter", "sshd": "ssh"}
_PROGRAMS = {service: program for program, service in _SERVICES.items()}
SERVICES = tuple(_PROGRAMS)


def service_of(program: str) -> str:
    """Return what people call a program: sshd is the one behind ssh."""
    return _SERVICES.get(program, program)


def program_of(service: str) -> str:
    """Return the program behind a service, by either name."""
    return _PROGRAMS.get(service, service)
