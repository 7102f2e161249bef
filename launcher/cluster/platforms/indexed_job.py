"""Kubernetes' Indexed Jobs, and JobSets, which are made of them.  Pure.

A pod is called `JOB-INDEX` and has JOB_COMPLETION_INDEX; how many there are it is not told.
kubernetes.io, "Indexed Job for Parallel Processing"; its DNS name needs `subdomain:` and a headless
Service, and kubelet then writes the whole name into /etc/hosts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from launcher.cluster.place import HOSTS, Place, Surroundings, number

_SERVICE = "a headless Service, and its name as the pods' `subdomain:`; or --master-addr=HOST"


def read(around: Surroundings) -> Place | None:
    """Return the pod's number and node 0; the count is for PET_NNODES to say."""
    index = number(around.environ.get("JOB_COMPLETION_INDEX"))
    if index is None:
        return None
    job, found, _ = around.hostname.rpartition(f"-{index}")
    domain = next(_domains(around), None)
    master = f"{job}-0{domain}" if found and around.hostname.endswith(found) and domain else None
    return Place(
        "an Indexed Job",
        rank=index,
        master=master,
        job=job or None,
        by={
            "rank": "JOB_COMPLETION_INDEX", "master": "the pod's name and /etc/hosts",
            "job": "the pod's name",
        },
        no_master=_SERVICE,
    )  # fmt: skip


def _domains(around: Surroundings) -> Iterator[str]:
    """Yield what follows this pod's name in a longer name of its own: ".workers.ns.svc.…"."""
    longer = re.escape(around.hostname) + r"(\.[\w.-]+)"
    for line in around.files.get(HOSTS, "").splitlines():
        for name in line.partition("#")[0].split()[1:]:
            if found := re.fullmatch(longer, name):
                yield found[1]
