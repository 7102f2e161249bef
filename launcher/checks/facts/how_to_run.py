"""How a container gets its GPUs: the platform's own form first.  Pure."""

from __future__ import annotations

from launcher.checks.facts.cards import card_name
from launcher.model.evidence import Evidence
from launcher.model.machine import Hardware

_DOCKER = "docker run --gpus all …"
_PODMAN = "podman run --device nvidia.com/gpu=all …"
_POD_SPEC = "resources: {limits: {nvidia.com/gpu: 1}}"

_GIVE = {
    "podman": _PODMAN,
    "kubernetes": f"in the pod's spec, for this container: {_POD_SPEC}",
    "runpod": "in RunPod's console: stop the Pod and start it with a GPU, or deploy another",
    "vast": "in Vast's console: rent an instance that gives its GPU to the container",
}
_OTHER_FORMS = (
    f"   (Compose: gpus: all; Kubernetes: {_POD_SPEC}; "
    "Podman: --device nvidia.com/gpu=all; Apptainer: --nv)"
)

_CONFIGURE = {
    "podman": "on the host: sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml; then "
    "podman run --device nvidia.com/gpu={asked} …",
    # k3s and others keep runc as the default runtime, and offer this class beside it.
    "kubernetes": "in the pod's spec: runtimeClassName: nvidia; or on the node: sudo nvidia-ctk "
    "runtime configure --runtime=containerd --set-as-default && sudo systemctl restart containerd",
    "runpod": _GIVE["runpod"],
    "vast": _GIVE["vast"],
}
_CONFIGURE_ELSEWHERE = (
    "docker run --gpus '\"device={asked}\"' …; if that fails, on the host: install "
    "nvidia-container-toolkit; sudo nvidia-ctk runtime configure --runtime=docker && "
    "sudo systemctl restart docker"
)


def give_gpus(seen: Evidence) -> str:
    """Return how to start this container with GPUs; of Docker's kin, in every form."""
    return _GIVE.get(seen.platform, _DOCKER + _OTHER_FORMS)


def give_gpus_here(seen: Evidence) -> str:
    """Return the one form for this platform."""
    return _GIVE.get(seen.platform, _DOCKER)


def use_nvidia_runtime(seen: Evidence) -> str:
    """Return how to make the engine give what NVIDIA_VISIBLE_DEVICES asks for."""
    asked = seen.environ.get("NVIDIA_VISIBLE_DEVICES", "all")
    return _CONFIGURE.get(seen.platform, _CONFIGURE_ELSEWHERE).format(asked=asked)


def with_capabilities(seen: Evidence) -> str:
    """Return how to start this container with all of the driver that computing needs."""
    value = "NVIDIA_DRIVER_CAPABILITIES=compute,utility"
    if seen.platform == "kubernetes":
        return f"in the pod's spec, for this container: env {value}"
    if seen.platform in ("runpod", "vast"):
        return f"among the environment variables of the template: {value}"
    if seen.platform == "podman":
        return f"podman run --device nvidia.com/gpu=all -e {value} …"
    # Compose's and --gpus' capabilities override the variable.
    return f"docker run --gpus all -e {value} …   (Compose: capabilities: [gpu], nothing more)"


def anew(seen: Evidence) -> str:
    """Return how to create this container once more."""
    return {
        "kubernetes": "kubectl delete pod …, and let it be created anew",
        "podman": "on the host: podman restart …",
        "runpod": "in RunPod's console: restart the Pod",
        "vast": "in Vast's console: restart the instance",
    }.get(seen.platform, "on the host: docker restart …")


def cards_in_words(hardware: Hardware) -> str:
    """Return "an NVIDIA GeForce RTX 4090", "8 × NVIDIA H100 SXM5 80GB", "2 NVIDIA GPUs"."""
    names = {card_name(device) for device in hardware.pci}
    count = len(hardware.pci)
    if len(names) > 1:
        return f"{count} NVIDIA GPUs"
    return f"an {names.pop()}" if count == 1 else f"{count} × {names.pop()}"
