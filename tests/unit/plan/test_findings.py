"""What the banner warns of: one scenario for each note, and silence where all is well."""

from __future__ import annotations

import pytest

from launcher.model.host import Mount
from launcher.model.machine import GpuReport, LostGpu
from launcher.model.plan import Finding, KeyLine, Plan, Secret, State
from launcher.model.public_key import PRIVATE_KEY
from launcher.plan.findings import plan_notes
from launcher.plan.plan import make_plan
from testing.machines import (
    CASES,
    GIB,
    HOST_KEY,
    LOGIN_KEY,
    NO_LIBRARY,
    NOT_INJECTED,
    STATE,
    Case,
    answering,
    gpu,
    machine,
    mig_gpu,
    outset,
)
from testing.values import replace

GPU = answering(gpu(0))
NO_GPU = GpuReport(failure=NO_LIBRARY)
NOT_KEPT = "workspace.not_kept"  # these boxes have no volume; it has a test of its own
LOST = LostGpu(3, "GPU is lost", 15)


def ids(plan: Plan) -> list[str]:
    return [note.id for note in plan.notes if note.id != NOT_KEPT]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(machine(GPU), [], id="healthy"),
        pytest.param(machine(NO_GPU, NOT_INJECTED), ["runtime.not_injected"], id="no-gpu"),
        pytest.param(machine(answering(gpu(0), lost=(LOST,))), ["hardware.lost"], id="one-lost"),
        pytest.param(machine(answering(lost=(LOST,))), ["hardware.all_lost"], id="all-lost"),
        pytest.param(machine(answering(mig_gpu(0, 0))), ["hardware.mig_empty"], id="mig-empty"),
        pytest.param(machine(answering(mig_gpu(0, 1))), [], id="mig"),
        pytest.param(machine(GPU, shm=64 << 20), ["resources.shm"], id="shm-64-mib"),
        pytest.param(machine(GPU, shm=GIB - 1), ["resources.shm"], id="shm-just-too-small"),
        pytest.param(machine(GPU, shm=GIB), [], id="shm-1-gib"),
        pytest.param(
            machine(GPU, workspace_missing=True, workspace_writable=False),
            ["workspace.missing"],
            id="no-workspace",
        ),
        pytest.param(
            machine(GPU, workspace_writable=False), ["workspace.readonly"], id="read-only"
        ),
        pytest.param(
            machine(NO_GPU, NOT_INJECTED, shm=0, workspace_writable=False),
            ["runtime.not_injected", "resources.shm", "workspace.readonly"],
            id="the-gpu-comes-first",
        ),
    ],
)
def test_what_is_noted(found, expected) -> None:
    assert ids(Case(found).plan()) == expected


def test_shm_that_is_not_known_is_no_complaint() -> None:
    assert ids(Case(machine(GPU, shm=None)).plan()) == []


def test_every_note_says_what_it_means_and_what_mends_it() -> None:
    for case in CASES.values():
        for note in case.plan().notes:
            assert note.what
            assert note.means
            assert note.fix


def test_a_lost_gpu_is_named_with_the_drivers_words() -> None:
    note, _ = Case(machine(answering(gpu(0), lost=(LOST,)))).plan().notes
    assert "GPU 3" in note.what
    assert LOST.error in note.what


def test_a_bad_key_is_named_by_source_and_line() -> None:
    keys = (
        KeyLine("PUBLIC_KEY", 1, LOGIN_KEY),
        KeyLine("/keys/bob", 7, "x", "not a public key: 'x'"),
    )
    state = State(STATE.token, Secret("x"), HOST_KEY, None, keys)
    case = Case(machine(GPU))
    plan = case.plan()
    ssh = plan.ssh
    assert ssh is not None
    known = outset(case.machine, case.settings())
    assert plan_notes(known, ssh, writable=True) == ()
    (note,) = plan_notes(known, replace(ssh, keys=state.keys), writable=True)
    assert note.id == "ssh.bad_key"
    assert "/keys/bob line 7" in note.what


def key_notes(*keys: KeyLine) -> list[Finding]:
    case = Case(machine(GPU), state=replace(STATE, keys=keys))
    made = make_plan(outset(case.machine, case.settings()), case.state)
    return [note for note in made.notes if note.id == "ssh.bad_key"]


def test_what_is_wrong_with_many_lines_is_one_note() -> None:
    """A web page in the place of a list of keys has thousands of lines."""
    lines = [KeyLine("SSH_KEY", number, "<html>", "not a public key") for number in range(1, 1001)]
    (note,) = key_notes(*lines)
    assert note.what == "SSH_KEY lines 1, 2, 3, 4, 5 and 995 more: not a public key"


def test_a_private_key_is_named_with_what_to_do() -> None:
    private, other = key_notes(
        KeyLine("SSH_KEY", 1, "", PRIVATE_KEY), KeyLine("SSH_KEY", 9, "x", "not a public key")
    )
    assert private.what == "SSH_KEY line 1: a private key"
    assert "new pair" in private.fix
    assert "new pair" not in other.fix


def test_the_workspaces_user_and_path_are_named() -> None:
    found = machine(GPU, workspace_writable=False, mounts=(Mount("/data", "ext4"),))
    (note,) = Case(found, {"WORKSPACE": "/data"}).plan().notes
    assert "dev (uid 1000)" in note.what
    assert "/data" in note.what
    assert "1000" in note.fix


def test_where_there_is_no_mount_the_fix_is_one() -> None:
    (note,) = Case(machine(GPU, workspace_writable=False)).plan().notes
    assert note.id == "workspace.readonly"
    assert "-v $PWD:/workspace" in note.fix
    assert "chown" not in note.fix


@pytest.mark.parametrize("workspace", ["/workspace", "/workspace/mine"])
def test_a_volume_that_is_read_only_is_no_matter_of_its_owner(workspace: str) -> None:
    mounts = (Mount("/", "overlay"), Mount("/workspace", "ext4", writable=False))
    found = machine(GPU, workspace_writable=False, mounts=mounts)
    (note,) = Case(found, {"WORKSPACE": workspace}).plan().notes
    assert note.what == f"{workspace} is mounted read-only"
    assert f"without :ro: docker run -v DIRECTORY:{workspace} …" in note.fix
    assert "chown" not in note.fix


def test_a_root_that_is_read_only_needs_a_volume() -> None:
    mounts = (Mount("/", "overlay", writable=False),)
    (note,) = Case(machine(GPU, workspace_writable=False, mounts=mounts)).plan().notes
    assert note.fix == "mount one: docker run -v $PWD:/workspace …"


@pytest.mark.parametrize(
    ("volumes", "mounts", "expected"),
    [
        ((), (), "/workspace is no volume"),
        (("/data",), (), "a volume is mounted on /data, which nothing here opens"),
        (("/home/dev",), (), "/workspace is no volume"),
        (("/data",), (Mount("/workspace", "ext4"),), None),
        ((), (Mount("/workspace", "tmpfs"),), "/workspace is no volume"),
    ],
)
def test_what_ends_with_the_container_is_said_once(volumes, mounts, expected) -> None:
    notes = Case(machine(GPU, volumes=volumes, mounts=mounts)).plan().notes
    said = [note for note in notes if note.id.startswith("workspace.")]
    assert [note.what for note in said] == ([expected] if expected else [])
    assert all("-v $PWD:/workspace" in note.fix for note in said)
