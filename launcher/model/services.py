"""Our own services: what people call them, and the programs that supervise runs for them."""

from __future__ import annotations

# Our programs: by which name people know the service, and watch probes it.
SERVICES = {"jupyter": "jupyter", "sshd": "ssh"}
PROGRAMS = {service: program for program, service in SERVICES.items()}
