"""What the place where a box runs is told to do, as `place` and its rows have it.  Pure.

That table is imported where something is said, and not on the way to the first line.
"""

from __future__ import annotations

import re

from launcher.checks.facts.cards import card_name
from launcher.model.evidence import Evidence
from launcher.model.host import Host, Whereabouts
from launcher.model.machine import Hardware

_OTHER_FORMS = (
    "   (Compose: gpus: all; Kubernetes: resources: {limits: {nvidia.com/gpu: 1}}; "
    "Podman: --device nvidia.com/gpu=all; Apptainer: --nv)"
)
# Where a person types the start into a shell, which reads $(…).
_SHELLS = ("docker", "podman", "rootless podman", "plain", "lxc", "wsl2", "slurm")
_STARTERS = {"hub", "slurm", "lxc"}
# Needs that are about nothing in particular: their words of Docker's may stand in any message.
_NEEDS = ("anew", "shm", "memlock", "pids", "memory", "mps", "seccomp", "rdma", "network")
_OPTIONS = r"docker run (-\S[^…]*?) …"
_ONLY_DOCKERS = r" \(docker [^)]*\)"


def place_of(host: Host | Whereabouts) -> str:
    """Return the row of this box in the table of places: who is to be told what."""
    if host.platform in ("runpod", "vast"):
        return host.platform
    if host.starter == "hub":
        return "hub on kubernetes" if host.platform == "kubernetes" else "hub"
    if host.platform == "kubernetes" or host.starter not in _STARTERS:
        rootless = "rootless " if host.platform == "podman" and host.rootless else ""
        return f"{rootless}{host.platform}".replace("gvisor", "docker")
    return host.starter


def is_rented(host: Host) -> bool:
    """Return whether nobody who is here reaches the host: more is had by renting another."""
    return host.platform in ("runpod", "vast")


def set_to_own(host: Host, name: str, command: str, words: str) -> str:
    """Return how a setting is given what is the person's own.

    Args:
        host: the box.
        name: of the setting.
        command: what prints it in the person's shell.
        words: what to write elsewhere.
    """
    in_a_shell = place_of(host) in _SHELLS
    return tell(host, "setting", f'{name}="$({command})"' if in_a_shell else f"{name}={words}")


def mount_on(host: Host, path: str) -> str:
    """Return how a folder or a volume of the person's own is mounted on `path`."""
    if is_rented(host):
        return tell(host, "mount", path)
    own = "$PWD" if place_of(host) in _SHELLS else "VOLUME"
    return tell(host, "mount", f"{own}:{path}")


def tell(host: Host, need: str, *about: object) -> str:
    """Return what is told there for a need, a field of `Place`; of Docker, Compose's form too."""
    return tell_at(place_of(host), need, *about)


def tell_at(name: str, need: str, *about: object) -> str:
    """Return the same for a row of the table of places, as `place_of` names it."""
    from launcher.checks.facts.place import COMPOSE
    from launcher.checks.facts.places import PLACES

    text = str(getattr(PLACES[name], need)).format(*about)
    if name == "docker" and need in COMPOSE:
        text += f"   (Compose: {COMPOSE[need].format(*about)})"
    return text


def fit(text: str, host: Host) -> str:
    """Return a fix, written in the words of a container of Docker's, in those of this place."""
    return fit_at(text, place_of(host))


def fit_at(text: str, name: str) -> str:
    """Return the same for a row of the table of places."""
    if name == "docker":
        return text
    from launcher.checks.facts.place import DOCKER
    from launcher.checks.facts.places import PLACES

    place = PLACES[name]
    for need in _NEEDS:
        words = getattr(DOCKER, need).partition("   ")[0]
        text = text.replace(words, getattr(place, need).format())
    text = re.sub(_OPTIONS, lambda found: place.option.format(found[1]), text)
    text = re.sub(_ONLY_DOCKERS, "", text)
    text = text.replace("create the container anew", place.recreate)
    text = text.replace("in the container: ", f"{place.inside}: " if place.inside else "")
    if place.host:
        return text.replace("on the host", place.host)
    for words in ("on the host: ", "on the host, ", " on the host"):  # here is the host
        text = text.replace(words, "")
    return text


def has_options(host: Host) -> bool:
    """Return whether a person types an engine's options there."""
    return place_of(host) in ("docker", "podman", "rootless podman")


def by_hand(seen: Evidence, options: str) -> str:
    """Return what is added where an engine's options are typed, and "" elsewhere."""
    return f"; by hand: {options}" if has_options(seen.machine.host) else ""


def give_gpus(seen: Evidence) -> str:
    """Return how to start this container with GPUs; of Docker's kin, in every form."""
    docker = place_of(seen.machine.host) == "docker"
    return f"docker run --gpus all …{_OTHER_FORMS}" if docker else give_gpus_here(seen)


def give_gpus_here(seen: Evidence) -> str:
    """Return the one form for this place."""
    if place_of(seen.machine.host) == "docker":
        return "docker run --gpus all …"
    return tell(seen.machine.host, "give", _branch(seen))


def give_named(seen: Evidence, names: str) -> str:
    """Return how to start this container with these GPUs or instances."""
    return tell(seen.machine.host, "named", names)


def use_nvidia_runtime(seen: Evidence) -> str:
    """Return how to make the engine give what NVIDIA_VISIBLE_DEVICES asks for."""
    return tell(seen.machine.host, "engine", seen.environ.get("NVIDIA_VISIBLE_DEVICES", "all"))


def with_capabilities(seen: Evidence) -> str:
    """Return how to start this container with all of the driver that computing needs."""
    value = "NVIDIA_DRIVER_CAPABILITIES=compute,utility"
    return tell(seen.machine.host, "capabilities", value)


def anew(seen: Evidence) -> str:
    """Return how to create this container once more."""
    return tell(seen.machine.host, "anew")


def _branch(seen: Evidence) -> str:
    version = seen.hardware.kernel_driver or seen.report.driver_version or ""
    return version.partition(".")[0] or "BRANCH"


def cards_in_words(hardware: Hardware) -> str:
    """Return "an NVIDIA GeForce RTX 4090", "8 × NVIDIA H100 SXM5 80GB", "2 NVIDIA GPUs"."""
    names = {card_name(device) for device in hardware.pci}
    count = len(hardware.pci)
    if len(names) > 1:
        return f"{count} NVIDIA GPUs"
    return f"an {names.pop()}" if count == 1 else f"{count} × {names.pop()}"
