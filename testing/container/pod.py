"""A pod as the options of `docker run`: what a kubelet makes of its first container."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# In every pod (Kubernetes, "Accessing the API from a Pod").
API = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
GPUS = "nvidia.com/gpu"


def run_options(pod: dict[str, Any], claims: Path) -> list[str]:
    """Return the options; a claim's volume is a folder in `claims`, and is kept there."""
    spec = pod["spec"]
    (container,) = spec["containers"]
    group = spec.get("securityContext", {}).get("fsGroup")
    variables = {**API, **{one["name"]: one.get("value", "") for one in container["env"]}}
    return [
        *("--hostname", pod["metadata"]["name"]),
        *(part for pair in variables.items() for part in ("-e", "=".join(pair))),
        *_security(container["securityContext"], group),
        *_limits(container["resources"].get("limits", {})),
        *_volumes(spec["volumes"], container["volumeMounts"], group, claims),
        *(("--entrypoint", container["command"][0]) if container.get("command") else ()),
    ]


def arguments(pod: dict[str, Any]) -> list[str]:
    """Return what stands behind the image's name."""
    (container,) = pod["spec"]["containers"]
    return [*(container.get("command") or ())[1:], *(container.get("args") or ())]


def _security(context: dict[str, Any], group: int | None) -> Iterator[str]:
    if (uid := context.get("runAsUser")) is not None:
        gid = context.get("runAsGroup")
        yield from ("--user", f"{uid}" if gid is None else f"{uid}:{gid}")
    if group is not None:
        yield from ("--group-add", str(group))
    if context.get("allowPrivilegeEscalation") is False:
        yield from ("--security-opt", "no-new-privileges")
    for capability in context.get("capabilities", {}).get("drop", ()):
        yield from ("--cap-drop", capability)


def _limits(limits: dict[str, Any]) -> Iterator[str]:
    if memory := limits.get("memory"):
        yield from ("--memory", str(memory))
    if gpus := limits.get(GPUS):
        yield from ("--gpus", str(gpus))


def _volumes(
    volumes: list[dict[str, Any]], mounts: list[dict[str, str]], group: int | None, claims: Path
) -> Iterator[str]:
    of = {volume["name"]: volume for volume in volumes}
    for mount in mounts:
        volume, path = of[mount["name"]], mount["mountPath"]
        if "emptyDir" in volume:
            yield from ("--tmpfs", f"{path}:exec,mode=2777")
            continue
        folder = claims / volume["persistentVolumeClaim"]["claimName"]
        folder.mkdir(parents=True, exist_ok=True)
        # What a kubelet does for fsGroup: theirs to write, and what is made there too.
        os.chown(folder, 0, 0 if group is None else group)
        folder.chmod(0o2775)
        yield from ("-v", f"{folder}:{path}")
