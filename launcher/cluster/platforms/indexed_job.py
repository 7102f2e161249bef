"""Kubernetes' Indexed Jobs, and JobSets, which are made of them.  Pure.

A pod is called `JOB-INDEX` and has JOB_COMPLETION_INDEX; how many there are it is not told.
kubernetes.io, "Indexed Job for Parallel Processing"; its DNS name needs `subdomain:` and a headless
Service, and kubelet then writes the whole name into /etc/hosts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from launcher.cluster import values
from launcher.cluster.place import HOSTS, Place, Surroundings

INDEX = "JOB_COMPLETION_INDEX"
_SERVICE = "a headless Service, and its name as the pods' `subdomain:`; or --master-addr=HOST"


def read(around: Surroundings) -> Place | None:
    """Return the pod's number and node 0; the count is for PET_NNODES to say."""
    text = around.environ.get(INDEX, "").strip()
    if not text:
        return None
    index = values.rank(INDEX, text)
    job, found, _ = around.hostname.rpartition(f"-{index}")
    domain = next(_domains(around), None)
    master = f"{job}-0{domain}" if found and around.hostname.endswith(found) and domain else None
    return Place(
        "an Indexed Job",
        rank=index,
        master=master,
        job=job or None,
        by={
            "rank": INDEX, "master": "the pod's name and /etc/hosts",
            "job": "the pod's name",
        },
        own=("master",),
        no_master=_SERVICE,
    )  # fmt: skip


def is_of_a_set(hostname: str, index: int) -> bool:
    """Return whether a pod may be of one of several Jobs: the index counts within each.

    A JobSet's are called SET-REPLICATED-JOB-INDEX; what has another name may be of anything.
    """
    job, found, _ = hostname.rpartition(f"-{index}")
    plain = found and hostname.endswith(found) and not re.search(r"-[0-9]+$", job)
    return not plain


def _domains(around: Surroundings) -> Iterator[str]:
    """Yield what follows this pod's name in a longer name of its own: ".workers.ns.svc.…"."""
    longer = re.escape(around.hostname) + r"(\.[\w.-]+)"
    for line in around.files.get(HOSTS, "").splitlines():
        for name in line.partition("#")[0].split()[1:]:
            if found := re.fullmatch(longer, name):
                yield found[1]
