"""Caches go into the workspace where that is a volume, and nowhere that the user did not want."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.detect import detect, mounts
from launcher.model.host import CACHE_FOLDERS, Account, Folder, Mount
from launcher.model.machine import GpuReport
from launcher.plan.caches import CACHES, NAMES, lasts, plan_caches
from launcher.plan.identity import may_write
from launcher.text.banner import render_banner
from testing.machines import DEV, PROBES, ROOT, STARTED, Case, machine

OVERLAY = Mount("/", "overlay")
VOLUME = Mount("/workspace", "ext4")
CLOSED = Folder(uid=0, gid=0, mode=0o755, writable=True)  # root's, from an image that runs as root
OPEN = Folder(uid=0, gid=0, mode=0o777, writable=True)


def planned(
    environ: dict[str, str] | None = None,
    *,
    workspace: str = "/workspace",
    account: Account = DEV,
    found: tuple[Mount, ...] = (OVERLAY, VOLUME),
    **host: object,
) -> dict[str, str]:
    box = machine(GpuReport(), mounts=found, **host).host
    variables = plan_caches(box, account, workspace, environ or {}, may_write(account, box))
    return {var.name: var.value for var in variables}


def test_caches_go_to_the_volume_each_with_its_reason() -> None:
    assert planned() == {
        "HF_HOME": "/workspace/.cache/huggingface",
        "PIP_CACHE_DIR": "/workspace/.cache/pip",
        "UV_CACHE_DIR": "/workspace/.cache/uv",
        "TORCH_HOME": "/workspace/.cache/torch",
    }
    box = machine(GpuReport(), mounts=(OVERLAY, VOLUME)).host
    whys = [var.why for var in plan_caches(box, DEV, "/workspace", {}, writable=True)]
    assert all(why.endswith(", on the volume /workspace") for why in whys)
    assert len(set(whys)) == len(NAMES)


@pytest.mark.parametrize(
    "why_not",
    [
        pytest.param({"found": (OVERLAY,)}, id="no-volume"),
        pytest.param({"found": ()}, id="mounts-are-hidden"),
        pytest.param({"found": (OVERLAY, Mount("/workspace", "tmpfs"))}, id="memory"),
        pytest.param({"found": (OVERLAY, VOLUME, Mount("/workspace", "tmpfs"))}, id="hidden"),
        pytest.param({"found": (OVERLAY, Mount("/workspace/data", "ext4"))}, id="below-it"),
        pytest.param({"found": (OVERLAY, Mount("/work", "ext4"))}, id="another-name"),
        pytest.param({"workspace_writable": False}, id="not-the-users-to-write"),
        pytest.param({"image": False}, id="a-plain-machine"),
        pytest.param({"environ": {"XDG_CACHE_HOME": "/big/cache"}}, id="the-user-has-a-place"),
        pytest.param({"workspace": "/home/dev"}, id="the-workspace-is-home"),
        pytest.param({"found": (OVERLAY, VOLUME, Mount("/home/dev", "nfs4"))}, id="home-lasts"),
        pytest.param({"found": (OVERLAY, VOLUME, Mount("/home", "nfs4"))}, id="homes-last"),
        pytest.param({"cache_folders": (("/workspace/.cache", CLOSED),)}, id="somebody-elses"),
    ],
)
def test_nothing_is_touched(why_not: dict[str, object]) -> None:
    assert planned(**why_not) == {}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "found",
    [
        (OVERLAY, Mount("/workspace", "tmpfs"), VOLUME),
        (OVERLAY, VOLUME, Mount("/home/dev", "tmpfs")),
        (OVERLAY, VOLUME, Mount("/home/dev/.cachet", "ext4")),
    ],
)
def test_mounts_that_change_nothing(found: tuple[Mount, ...]) -> None:
    assert set(planned(found=found)) == {*NAMES}


def test_a_folder_of_a_volume_is_on_it() -> None:
    found = (OVERLAY, Mount("/data", "xfs"))
    assert planned(workspace="/data/me", found=found)["HF_HOME"] == "/data/me/.cache/huggingface"


@pytest.mark.parametrize("name", NAMES)
def test_what_the_user_set_is_kept(name: str) -> None:
    assert set(planned({name: "/mine"})) == {*NAMES} - {name}
    assert set(planned({name: ""})) == {*NAMES}


def test_detect_looks_at_every_cache_that_is_planned() -> None:
    assert tuple(folder for _, folder, _ in CACHES) == CACHE_FOLDERS


def test_a_cache_that_is_mounted_stays_where_it_is() -> None:
    """`-v ~/.cache/huggingface:/home/dev/.cache/huggingface`, as model servers document it."""
    own = Mount("/home/dev/.cache/huggingface", "ext4")
    assert set(planned(found=(OVERLAY, VOLUME, own))) == {*NAMES} - {"HF_HOME"}


@pytest.mark.parametrize(("folder", "moved"), [(CLOSED, False), (OPEN, True)])
def test_a_cache_that_somebody_else_made(folder: Folder, moved: bool) -> None:
    folders = (("/workspace/.cache", OPEN), ("/workspace/.cache/huggingface", folder))
    assert ("HF_HOME" in planned(cache_folders=folders)) is moved
    assert "PIP_CACHE_DIR" in planned(cache_folders=folders)
    # Root writes everywhere.
    assert "HF_HOME" in planned(cache_folders=folders, account=ROOT)


# --- in the plan and in the banner -----------------------------------------------------------


def test_the_plan_asks_whether_its_own_user_can_write() -> None:
    """The workspace is another's than the image's user: it is that one whose caches move."""
    theirs = Folder(uid=1234, gid=1234, mode=0o700, writable=True)
    host = {"mounts": (OVERLAY, VOLUME), "workspace": theirs, "workspace_writable": False}
    found = Case(machine(GpuReport(), **host))
    assert {var.name for var in found.plan().environment} >= {*NAMES}
    kept = Case(found.machine, {"HF_HOME": "/mine"}).plan()
    assert kept.user_environment()["HF_HOME"] == "/mine"


def test_the_banner_says_where_downloads_go() -> None:
    found = Case(machine(GpuReport(), mounts=(OVERLAY, VOLUME)), {"HF_HOME": "/mine"})
    text = " ".join(render_banner(found.machine, found.plan(), PROBES, STARTED + 1, {}).split())
    where = "Caches /workspace/.cache, on its volume: PIP_CACHE_DIR, UV_CACHE_DIR, TORCH_HOME"
    assert where in text
    plain = Case(machine(GpuReport()))
    assert "Caches" not in render_banner(plain.machine, plain.plan(), PROBES, STARTED + 1, {})


# --- who may write to a folder ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "account", "may"),
    [
        (Folder(1000, 1000, 0o700, True), DEV, True),
        (Folder(1000, 1000, 0o577, True), DEV, False),  # the owner's bits count, not the others'
        (Folder(0, 27, 0o770, True), DEV, True),
        (Folder(0, 27, 0o757, True), DEV, False),
        (Folder(0, 0, 0o777, True), DEV, True),
        (Folder(0, 0, 0o776, True), DEV, False),
        (Folder(0, 0, 0o777, False, read_only=True), DEV, False),
        (Folder(1000, 1000, 0o700, True), ROOT, True),
        (Folder(0, 0, 0o777, False), ROOT, False),
    ],
)
def test_who_may_write(folder: Folder, account: Account, may: bool) -> None:
    assert folder.lets_write(account, ROOT) is may


# --- mountinfo -------------------------------------------------------------------------------

MOUNTINFO = """\
1402 1290 0:71 / / rw,relatime master:392 - overlay overlay rw,lowerdir=/l/A:/l/B,upperdir=/u
1403 1402 0:75 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
1410 1402 8:1 /volumes/w/_data /workspace rw,relatime - ext4 /dev/sda1 rw,discard
1411 1402 8:1 /etc/hosts /etc/hosts rw,relatime - ext4 /dev/sda1 rw,discard
1412 1402 0:30 / /usr/lib/libcuda.so.1 ro,nosuid - xfs /dev/sdb rw
1413 1402 0:31 / /data\\040sets\\134new\\012line rw shared:1 master:2 - fuse.mfs mfs#host:9421 rw
1414 1402 0:32 / /home/dev rw - tmpfs tmpfs rw,size=65536k
"""


def test_what_is_mounted(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(MOUNTINFO + "not a line of it\n")
    assert mounts.read_mounts(tmp_path) == (
        OVERLAY,
        VOLUME,
        Mount("/data sets\\new\nline", "fuse.mfs"),
        Mount("/home/dev", "tmpfs"),
    )


def test_where_the_kernel_hides_it(tmp_path: Path) -> None:
    assert mounts.read_mounts(tmp_path) == ()


def test_this_machine_has_a_root() -> None:
    assert "/" in [mount.path for mount in mounts.read_mounts()]


@pytest.mark.parametrize(
    ("path", "yes"), [("/workspace", True), ("/workspace/a/b", True), ("/workspaces", False)]
)
def test_what_lasts(path: str, yes: bool) -> None:
    assert lasts((OVERLAY, VOLUME), path) is yes


# --- detect ----------------------------------------------------------------------------------


def test_caches_that_are_there_already(tmp_path: Path) -> None:
    (tmp_path / "work/.cache/pip").mkdir(parents=True)
    (tmp_path / "work/.cache/another").mkdir()
    (tmp_path / "work/.cache/pip").chmod(0o750)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(MOUNTINFO)
    host = detect.read_host({}, "nobody", f"{tmp_path}/work", tmp_path)
    assert VOLUME in host.mounts
    folders = dict(host.cache_folders)
    assert set(folders) == {f"{tmp_path}/work/.cache", f"{tmp_path}/work/.cache/pip"}
    assert folders[f"{tmp_path}/work/.cache/pip"].mode == 0o750
    assert detect.read_host({}, "nobody", f"{tmp_path}/none", tmp_path).cache_folders == ()
