"""What is said of folders that people mount: each fix can be done there, by who it is."""

from __future__ import annotations

import pytest

from launcher.model.host import Host, Mount
from launcher.model.plan import Finding
from testing import machines
from testing.hosts import DEV, NAMELESS, OWN, ROOTS, SHARED, SOMEBODYS, host
from testing.machines import STATE, Case, answering, gpu
from testing.values import replace

ON = (Mount("/workspace", "ext4"),)
ABOVE = "/workspace belongs to uid 1234"
ITSELF = "/var/lib/launcher belongs to uid 1234"
CLOSED = replace(SOMEBODYS, mode=0o700)
DEVS = replace(OWN, writable=False)


def note(box: Host, name: str, weakness: str = "", **environ: str) -> Finding | None:
    found = replace(machines.machine(answering(gpu(0))), host=box)
    state = replace(STATE, weakness=weakness)
    return next((one for one in Case(found, environ, state).plan().notes if one.id == name), None)


@pytest.mark.parametrize(
    ("weakness", "box", "fix"),
    [
        (ITSELF, host(), "in it, as root (docker exec -u root …): chown root /var/lib/launcher; "
         "chmod 700 /var/lib/launcher"),
        (ITSELF, host(platform="runpod"), "in it, as root: chown root /var/lib/launcher; "
         "chmod 700 /var/lib/launcher"),
        (ABOVE, host(), "a volume of its own, in no folder of others': "
         "docker run -v launcher-state:/var/lib/launcher …"),
        (ABOVE, host(platform="runpod"), "leave LAUNCHER_STATE_DIR out; among the environment "
         "variables of the template: JUPYTER_PASSWORD and PUBLIC_KEY are kept anyway, and the "
         "host key alone is new at every start"),
        (ITSELF, host(capabilities=frozenset({"SETUID"})), "a volume of its own, in no folder of "
         "others': docker run -v launcher-state:/var/lib/launcher …"),
        (ITSELF, host(mounts=(Mount("/var/lib/launcher", "nfs4", writable=False),)),
         "a volume of its own, in no folder of others': "
         "docker run -v launcher-state:/var/lib/launcher …"),
    ],
)  # fmt: skip
def test_a_state_that_others_can_change(weakness: str, box: Host, fix: str) -> None:
    found = note(box, "state.of_others", weakness)
    assert found is not None
    assert found.fix == fix


@pytest.mark.parametrize(
    ("changes", "fix"),
    [
        ({}, "on the host: sudo chown -R 1000 DIRECTORY, the one that is mounted on /workspace"),
        ({"rootless": True}, "in it, as root (docker exec -u root …): chown -R 1000 /workspace"),
        ({"platform": "podman", "rootless": True},
         "on the host: podman unshare chown -R 1000 DIRECTORY, the one that is mounted on "
         "/workspace"),
        ({"platform": "kubernetes"}, "in the pod: securityContext: {fsGroup: 1000}"),
        ({"platform": "runpod"}, "in it, as root: chown -R 1000 /workspace"),
        ({"platform": "kubernetes", "starter": "hub"},
         "whoever runs the hub: c.KubeSpawner.fs_gid = 1000"),
        ({"platform": "plain", "starter": "slurm"},
         "in the job: a folder of your own on /workspace, as the mounts of the container name it"),
    ],
)  # fmt: skip
def test_a_mounted_workspace_is_made_the_users_where_that_can_be(
    changes: dict[str, object], fix: str
) -> None:
    found = note(host(CLOSED, mounts=ON, **changes), "workspace.readonly", NB_UID="1000")
    assert found is not None
    assert found.fix == fix


def test_who_is_not_root_is_told_whose_folder_to_mount() -> None:
    """The engine makes a volume that is missing, and it is root's."""
    kept = note(host(SHARED, me=NAMELESS), "workspace.not_kept")
    closed = note(host(DEVS, me=NAMELESS, workspace_writable=False), "workspace.readonly")
    home = note(host(SHARED, me=NAMELESS), "home.not_kept")
    assert kept
    assert closed
    assert home
    assert kept.fix.startswith("to keep it, a folder that uid 1234 may write: docker run -v $PWD")
    assert closed.fix.startswith("mount one, a folder that uid 1234 may write: docker run -v $PWD")
    assert home.fix.startswith("mount a folder of uid 1234: docker run -v DIRECTORY:/workspace")
    roots = note(host(SHARED), "workspace.not_kept")
    assert roots is not None
    assert roots.fix == "to keep it: docker run -v $PWD:/workspace …"


def test_a_home_goes_on_the_volume_that_is_there() -> None:
    found = note(host(SHARED, me=NAMELESS, mounts=ON), "home.not_kept")
    assert found is not None
    assert found.fix.startswith("set one on a volume: docker run -e HOME=/workspace/home")


@pytest.mark.parametrize(
    ("platform", "words"),
    [("kubernetes", "a volumeMount VOLUME:/workspace"), ("runpod", "a volume for /workspace")],
)
def test_a_shells_words_are_for_shells(platform: str, words: str) -> None:
    found = note(host(SHARED, platform=platform), "workspace.not_kept")
    assert found is not None
    assert words in found.fix
    assert "$PWD" not in found.fix


@pytest.mark.parametrize("writable", [True, False])
def test_a_group_helps_only_where_something_can_be_written(writable: bool) -> None:
    box = host(SHARED, me=NAMELESS, mounts=(Mount("/", "overlay", writable=writable),))
    found = note(box, "python.readonly")
    assert found is not None
    assert ("--group-add 1000" in found.fix) is writable
    assert "LAUNCHER_PACKAGES=workspace" in found.fix


def test_root_s_workspace_on_kubernetes_is_its_group_s() -> None:
    found = note(host(ROOTS, platform="kubernetes", mounts=ON), "identity.root")
    assert found is not None
    assert found.fix.endswith("or in the pod: securityContext: {fsGroup: 1000}")


def test_a_folder_of_the_scheduler_s_is_nobody_s_volume() -> None:
    found = note(host(volumes=("/alloc",)), "workspace.other_volume", NOMAD_ALLOC_DIR="/alloc")
    assert found is None
    assert note(host(volumes=("/alloc",)), "workspace.other_volume") is not None


def test_a_box_without_a_network_says_so_and_claims_no_port() -> None:
    found = note(host(no_network=True), "network.none")
    assert found is not None
    assert "--network none" in found.what
    assert "nobody outside reaches Jupyter or SSH" in found.means
    assert note(host(), "network.none") is None
    ssh_off = note(host(no_network=True), "network.none", LAUNCHER_SERVICES="jupyter")
    assert ssh_off is not None
    assert "SSH" not in ssh_off.means
    assert note(host(no_network=True, me=DEV), "network.none")
