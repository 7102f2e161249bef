"""What each place is told: in its own words, whatever is to be mended."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from launcher.box import files
from launcher.checks import CHECKS, judge
from launcher.checks.facts.how_to_run import fit, fit_at, place_of, tell
from launcher.checks.facts.place import COMPOSE, DOCKER, Place
from launcher.checks.facts.places import PLACES
from launcher.cluster import cards as rdma_cards
from launcher.cluster.check import compare
from launcher.detect import detect
from launcher.model import errors
from launcher.model.evidence import Evidence
from launcher.model.host import Host
from testing import hosts
from testing.evidences import NO_NVML, cheap, healthy, nvml_fails
from testing.hosts import SHARED
from testing.machines import CASES, NOT_INJECTED, STATE, Case, answering, cards, gpu, machine
from testing.values import replace
from tests.unit.checks import (
    test_collective,
    test_cuda,
    test_driver,
    test_environment,
    test_hardware,
    test_injection,
    test_libraries,
    test_pytorch,
    test_rdma,
    test_resources,
    test_runtime,
)
from tests.unit.detect.test_detect import tree
from tests.unit.plan.test_shortcomings import BOXES

# What makes a host one of that place.
HOSTS: dict[str, dict[str, object]] = {
    **{name: {"platform": name} for name in PLACES if " " not in name},
    "lxc": {"platform": "plain", "starter": "lxc"},
    "slurm": {"platform": "plain", "starter": "slurm"},
    "hub": {"platform": "docker", "starter": "hub"},
    "hub on kubernetes": {"platform": "kubernetes", "starter": "hub"},
    "rootless podman": {"platform": "podman", "rootless": True},
}
# Words of another engine's, by the places in which they may stand.
ENGINES = {"docker", "podman", "rootless podman"}
FOREIGN = {
    r"\bdocker\b": {"docker"},
    r"\bpodman run\b": {"podman", "rootless podman"},
    # Docker in WSL looks like WSL.
    r"(?<!in Docker: )(?<!in Docker then )--(gpus|user|cap-(add|drop)|shm-size|read-only|tmpfs|"
    r"security-opt|privileged|ulimit|pids-limit|pid=|ipc|add-host|device [/f])": ENGINES,
    r" -e [A-Z_]+=| -v \S+:": ENGINES,
    r"\bkubectl\b|\bin the pod\b": {"kubernetes"},
    r"\bsrun\b": {"slurm"},
}
ABOUT = {"give": ("580",), "cpus": (8, 7), "own": (1000, 1000, "/workspace")}


def host_of(place: str) -> Host:
    return replace(CASES["h100-8x"].machine.host, **HOSTS[place])  # type: ignore[arg-type]


# An option is named for those who know what it is elsewhere.
MEANT_FOR_OTHERS = re.compile(r"what -.*? is to (other engines|the engine)")


def foreign(text: str, place: str) -> list[str]:
    text = MEANT_FOR_OTHERS.sub("", text)
    return [word for word, of in FOREIGN.items() if place not in of and re.search(word, text)]


def evidences() -> list[Evidence]:
    """Return every machine on which one of the checks' tests has something fail or warn."""
    found: list[Evidence] = [cheap(NO_NVML, NOT_INJECTED), healthy()]
    modules = (
        test_collective, test_cuda, test_driver, test_environment, test_hardware, test_injection,
        test_libraries, test_pytorch, test_rdma, test_resources, test_runtime,
    )  # fmt: skip
    for module in modules:
        for value in vars(module).values():
            found += within(value)
    return found


def within(value: object) -> Iterator[Evidence]:
    """Yield what a test's table holds, however it is nested."""
    if isinstance(value, Evidence):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from within(one)
    elif type(value) in (list, tuple):
        for one in value:
            yield from within(one)


EVIDENCES = evidences()


def at(place: str, seen: Evidence) -> Evidence:
    host = replace(seen.machine.host, **HOSTS[place])  # type: ignore[arg-type]
    return seen._replace(machine=seen.machine._replace(host=host))


GENERIC = healthy(2)._replace(environ={"CUDA_VISIBLE_DEVICES": "7", "CUDA_MPS_PIPE_DIRECTORY": "x"})


def fixes(place: str) -> Iterator[tuple[str, str]]:
    """Yield (check, fix) of all that can be said there.

    Many fixes are the same whatever was seen: those are asked for on a machine that is well.
    """
    *machines, generic = [at(place, seen) for seen in (*EVIDENCES, GENERIC)]
    for check in CHECKS:
        said = False
        for here in (*machines, generic):
            if check.seen(here) or (here is generic and not said):
                with contextlib.suppress(StopIteration):  # it names the first GPU that is meant
                    fix = check.fix if isinstance(check.fix, str) else check.fix(here)
                    said = True
                    yield check.id, fit(fix, here.machine.host)


def test_nearly_every_fix_is_looked_at() -> None:
    looked_at = {check_id for check_id, _ in fixes("docker")}
    assert {check.id for check in CHECKS} - looked_at <= {
        "driver.fabric_unhealthy", "hardware.fewer_nvlinks", "hardware.nvlink_errors",
    }  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_a_host_is_of_its_place(place: str) -> None:
    assert place_of(host_of(place)) == place


@pytest.mark.parametrize("need", Place._fields)
@pytest.mark.parametrize("place", PLACES)
def test_every_need_is_told_everywhere(place: str, need: str) -> None:
    text = tell(host_of(place), need, *ABOUT.get(need, ("WHAT", "1")))
    assert text or (need == "inside" or (need, place) == ("host", "plain"))
    assert text.isprintable()
    assert not re.search(r"\{\d?\}|\{\{", text), "what it is about is put in"
    assert text.count("{") == text.count("}")
    assert not foreign(text, place), text


@pytest.mark.parametrize("need", ["variable", "named", "mount", "group", "cpus"])
@pytest.mark.parametrize("place", PLACES)
def test_what_it_is_about_is_named(place: str, need: str) -> None:
    said = tell(host_of(place), need, *ABOUT.get(need, ("A=b{0}c",)))
    rented = place in ("runpod", "vast") or place.startswith("hub")
    limits = need in ("named", "cpus") and (rented or place == "kubernetes")
    limits = limits or (need, place) == ("group", "rootless podman")  # keep-groups is all of them
    assert limits or ("8" if need == "cpus" else "A=b{0}c") in said


@pytest.mark.parametrize("place", PLACES)
def test_a_fix_has_no_words_of_another_place(place: str) -> None:
    # Other forms, and who they are for, are named on purpose.
    known = {"runtime.permission", "runtime.imex_channel", "runtime.wsl_no_libraries"}
    for check_id, text in fixes(place):
        assert check_id in known or place == "docker" or not foreign(text, place), text
        if place == "plain":
            assert "on the host" not in text, text
            assert "container anew" not in text, text
        elif place not in ("docker", "podman", "rootless podman", "lxc"):
            assert not re.search(r"\bon the host\b", text.lower()), f"{check_id}: {text}"


HOMELESS = replace(STATE, home_fault="Permission denied", weakness="uid 1000 owns it")


@pytest.mark.parametrize("place", PLACES)
def test_what_the_banner_says_has_no_words_of_another_place(place: str) -> None:
    seen = set()
    found = replace(CASES["h100-8x"].machine, report=answering(gpu(0)))
    for box, environ, _ in (*BOXES, (hosts.host(SHARED), {"LD_PRELOAD": "/home/dev/x.so"}, [])):
        case = Case(replace(found, host=replace(box, **HOSTS[place])), {**environ})  # type: ignore[arg-type]
        for note in (*case.plan().notes, *replace(case, state=HOMELESS).plan().notes):
            seen.add(note.id)
            assert not foreign(f"{note.means}; {note.fix}", place), f"{note.id}: {note.fix}"
            if place == "plain":
                assert "on the host: " not in note.fix, note.fix
        assert case.plan().supervision.place == place_of(case.machine.host)
    assert len(seen) > 10


# Said by whoever finds it, before anybody knows where that is; the ends of the launcher fit it.
SAID_ANYWHERE = (
    *(errors.reason(OSError(number, "no")) for number in
      (errno.EAGAIN, errno.EMFILE, errno.ENOMEM, errno.ENOSPC, errno.EISDIR)),
    str(files.cannot_write("/run/launcher", OSError(errno.ENOSPC, "full"))),
    str(files.cannot_write("/run/launcher", OSError(errno.EROFS, "Read-only file system"))),
    *(row.fix for row in compare._ROWS),
    *rdma_cards.explain_closed(("mlx5_0",)),
    "remove it, then: on the host: docker restart …; a HUP is enough (docker kill -s HUP …)",
    "the box here is of uid 1000: come in as it (docker exec -u 1000 …)",
)  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("said", SAID_ANYWHERE)
def test_what_is_said_anywhere_is_fitted_to_the_place(said: str, place: str) -> None:
    text = fit_at(said, place)
    assert not foreign(text, place), text
    assert not re.search(r"[{}]", text) or place.endswith("kubernetes")
    assert (text == said) == (place == "docker" or not foreign(said, "plain"))


@pytest.mark.parametrize("place", PLACES)
def test_the_verdict_is_told_in_the_places_words(place: str) -> None:
    seen = at(place, cheap(nvml_fails(10, "Timeout"), cards(1)))
    failure = judge(seen).failure
    assert failure is not None
    start = f"{PLACES[place].host}: " if PLACES[place].host else ""
    assert failure.fix.startswith(f"{start}sudo dmesg")


def test_a_plain_machine_without_libcuda_is_told_to_install_it() -> None:
    failure = judge(at("plain", cheap(NO_NVML, NOT_INJECTED))).failure
    assert failure is not None
    assert "container" not in failure.what
    assert "sudo apt install libnvidia-compute-550" in failure.fix


@pytest.mark.parametrize(
    ("place", "word"), [("runpod", "RunPod's console"), ("vast", "Vast's console")]
)
def test_rented_machines_are_not_told_of_pods_specs(place: str, word: str) -> None:
    limits = CASES["h100-8x"].machine.limits._replace(shm=0)
    seen = at(place, cheap(answering(gpu(0)), cards(1)))
    small = seen._replace(machine=seen.machine._replace(limits=limits))
    fixes = {one.id: one.fix for one in judge(small).warnings}
    assert word in fixes["resources.shm"]
    assert "emptyDir" not in fixes["resources.shm"]


def test_composes_form_stands_beside_dockers() -> None:
    assert set(COMPOSE) < set(Place._fields)
    assert tell(host_of("docker"), "shm").endswith("(Compose: shm_size: 8g)")
    assert DOCKER.shm in tell(host_of("docker"), "shm")


@pytest.mark.parametrize("code", [9, 12, 17, 999])
def test_in_wsl_no_failure_of_nvml_is_a_linux_hosts(code: int) -> None:
    """The module is Windows': `sudo modprobe nvidia` has nothing to load."""
    hardware = replace(cards(0), pci=(), pci_hidden=True, kernel_driver=None, modules=())
    wsl = replace(hardware, device_nodes=("/dev/dxg",))
    seen = Evidence(machine(nvml_fails(code, "N/A"), wsl, platform="wsl2"), {})
    failure = judge(seen).failure
    assert failure is not None
    assert failure.id == "runtime.wsl_blocked"
    assert "modprobe" not in failure.fix


# --- who started it ------------------------------------------------------------------------------


OF_A_MACHINE = {"proc/self/mountinfo": "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"}


@pytest.mark.parametrize(
    ("environ", "files", "starter"),
    [
        ({}, {}, ""),
        ({"JUPYTERHUB_API_TOKEN": "x"}, {".dockerenv": ""}, "hub"),
        ({"JUPYTERHUB_API_TOKEN": "x", "SLURM_JOB_ID": "7"}, {}, "hub"),
        ({"SLURM_JOB_ID": "7"}, {}, "slurm"),
        ({"container": "lxc"}, {}, "lxc"),
        ({}, {"run/systemd/container": "lxc\n"}, "lxc"),
        ({}, {"run/systemd/container": "lxc-libvirt\n"}, "lxc"),
        ({}, {"run/systemd/container": "lxc\n", ".dockerenv": ""}, ""),  # Docker in LXC
        ({}, {"run/systemd/container": "lxc\n", ".dockerenv": "", **OF_A_MACHINE}, "lxc"),
        ({"container": "podman"}, {"run/.containerenv": ""}, ""),
        ({}, {"run/systemd/container": "systemd-nspawn\n"}, ""),
    ],
)
def test_who_started_the_box(tmp_path: Path, environ: dict, files: dict, starter: str) -> None:
    host = detect.read_host(environ, "nobody", "/", tree(tmp_path, files))
    assert host.starter == starter
