"""What a box says that it was started without, and what of who runs reaches the files."""

from __future__ import annotations

import pytest

from launcher.model.host import Host, Mount
from launcher.model.plan import Plan
from launcher.render.files import render
from launcher.text.text import summary_lines
from testing import machines
from testing.hosts import DEV, LIBRARY, NAMELESS, ROOTS, SHARED, SOMEBODYS, host
from testing.machines import Case, answering, gpu
from testing.values import replace

LOGIN = ("SETUID", "SETGID", "CHOWN", "KILL", "SYS_CHROOT")


def plan(box: Host, **environ: str) -> Plan:
    found = machines.machine(answering(gpu(0)))
    return Case(replace(found, host=box), environ).plan()


# What a box is started as, with what settings, and what is said of it.
SCENARIOS: dict[str, tuple[Host, dict[str, str], list[str]]] = {
    "as-documented": (host(), {}, []),
    "a-bind-mount": (host(SOMEBODYS), {}, []),
    "roots-folder": (host(ROOTS), {}, ["identity.root"]),
    "asked-for-root": (host(ROOTS), {"NB_UID": "0"}, []),
    "rootless": (host(ROOTS, rootless=True), {}, []),
    "nnp": (host(no_new_privileges=True), {}, ["sudo.no_new_privileges"]),
    "nnp-no-sudo": (host(no_new_privileges=True), {"GRANT_SUDO": "no"}, []),
    "least": (host(capabilities=frozenset(LOGIN)), {}, ["ssh.no_terminal"]),
    "cap-drop-all": (host(SHARED, capabilities=frozenset()), {}, ["identity.capabilities"]),
    "read-only": (host(SOMEBODYS, names_writable=False), {}, ["identity.names_not_written"]),
    "gifts-of-root": (host(SOMEBODYS), {"CHOWN_HOME": "yes", "CHOWN_EXTRA": "/data"}, []),
    "gifts-without-root": (
        host(me=DEV),
        {"CHOWN_EXTRA": "/data", "LAUNCHER_STATE_DIR": "/s"},
        ["identity.cannot_give"],
    ),
    "--user-and-NB_UID": (
        host(me=DEV),
        {"NB_UID": "7", "LAUNCHER_STATE_DIR": "/s"},
        ["identity.fixed"],
    ),
    "--user-1234": (
        host(SHARED, me=NAMELESS),
        {"LAUNCHER_STATE_DIR": "/run/launcher/state"},
        ["state.not_kept", "home.not_kept", "python.readonly"],
    ),
}
BOXES = tuple(SCENARIOS.values())


@pytest.mark.parametrize(("box", "environ", "ids"), BOXES, ids=SCENARIOS)
def test_what_the_banner_says_of_it(box: Host, environ: dict[str, str], ids: list[str]) -> None:
    found = plan(box, SSH_PORT="2222", **environ).notes
    notes = [note for note in found if note.id != "workspace.not_kept"]
    assert [note.id for note in notes] == ids
    assert all(note.what and note.means and note.fix for note in notes)


def test_a_command_is_told_whose_files_it_makes() -> None:
    found = replace(machines.machine(answering(gpu(0))), host=host(ROOTS))
    lines = summary_lines(found, Case(found).plan(), None)
    assert len(lines) == 2
    assert "everything runs as root" in lines[1]
    assert len(summary_lines(found, plan(host()), None)) == 1


@pytest.mark.parametrize("platform", ["docker", "runpod", "vast"])
def test_a_rented_machines_volume_is_roots_as_it_is_for_all_there(platform: str) -> None:
    """Nobody who rents mounted it, mistyped a path, or reaches the host."""
    notes = plan(host(ROOTS, platform=platform)).notes
    (note,) = [note for note in notes if note.id == "identity.root"]
    rented = platform != "docker"
    assert ("none needed" in note.fix, "in it, as root: chown -R 1000 /workspace" in note.fix) == (
        rented,
        rented,
    )
    assert ("mistyped" in note.fix, "on the host" in note.means) == (not rented, not rented)


@pytest.mark.parametrize("missing", ["SETUID", "SETGID", "SYS_CHROOT"])
def test_ssh_is_off_where_nobody_could_log_in(missing: str) -> None:
    made = plan(host(SHARED, capabilities=frozenset(LOGIN) - {missing}))
    assert made.ssh is None
    assert f"CAP_{missing}" in (made.ssh_off or "")


def test_a_home_that_cannot_be_written_is_noted() -> None:
    case = Case(replace(machines.machine(answering(gpu(0))), host=host()))
    state = replace(machines.STATE, home_fault="it is read-only")
    _, note = replace(case, state=state).plan().notes
    assert note.id == "home.not_writable"
    assert "/home/dev" in note.what
    assert "read-only" in note.what
    assert "CHOWN_HOME" in note.fix
    asked = replace(case, state=state, environ={"CHOWN_HOME": "1"}).plan().notes[-1]
    assert "CHOWN_HOME" not in asked.fix


@pytest.mark.parametrize(
    "box",
    [
        host(me=DEV),
        host(SHARED, capabilities=frozenset(LOGIN) - {"CHOWN"}),
        host(mounts=(Mount("/", "overlay", writable=False),)),
        host(mounts=(Mount("/", "overlay"), Mount("/home/dev", "nfs4", writable=False))),
    ],
    ids=["not-root", "no-chown", "read-only-root", "read-only-home"],
)
def test_a_home_is_given_away_only_where_that_can_be(box: Host) -> None:
    case = Case(replace(machines.machine(answering(gpu(0))), host=box))
    state = replace(machines.STATE, home_fault="it is read-only")
    notes = {note.id: note for note in replace(case, state=state).plan().notes}
    fix = notes["home.not_writable"].fix
    assert fix.startswith("mount a volume there: docker run -v home:/")
    assert "CHOWN_HOME" not in fix


@pytest.mark.parametrize(("seen", "ids"), [(True, []), (False, ["workspace.readonly"])])
def test_who_works_there_knows_best_whether_he_can_write(seen: bool, ids: list[str]) -> None:
    """A network disk, or a root without capabilities, shows root less than that."""
    hidden = replace(SOMEBODYS, mode=0o700, writable=False)
    case = Case(replace(machines.machine(answering(gpu(0))), host=host(hidden)))
    state = replace(machines.STATE, workspace_writable=seen)
    found = [note.id for note in replace(case, state=state).plan().notes]
    assert [name for name in found if name != "workspace.not_kept"] == ids


# --- in the files ----------------------------------------------------------------------------


def written(box: Host, name: str, **environ: str) -> str:
    files = {file.path: file.content for file in render(plan(box, SSH_PORT="2222", **environ))}
    return files[f"/run/launcher/{name}"] or ""


def test_sudo_is_for_the_uid_whatever_its_name() -> None:
    assert written(host(SOMEBODYS), "sudoers/user") == "#1234 ALL=(ALL:ALL) NOPASSWD: ALL\n"
    for box, environ in ((host(), {"GRANT_SUDO": "no"}), (host(ROOTS), {}), (host(me=DEV), {})):
        assert "NOPASSWD" not in written(box, "sudoers/user", **environ)


def test_grant_sudo_no_closes_roots_ssh() -> None:
    assert "PermitRootLogin prohibit-password\n" in written(host(), "ssh/sshd_config")
    assert "PermitRootLogin no\n" in written(host(), "ssh/sshd_config", GRANT_SUDO="no")


def test_the_umask_reaches_shells_sftp_and_jupyter() -> None:
    assert "\numask 0002\n" in written(host(), "user/environment.sh", NB_UMASK="002")
    assert "\numask 0002\n" in written(host(), "user/login.sh", UMASK="002")
    assert "internal-sftp -u 0002\n" in written(host(), "ssh/sshd_config", NB_UMASK="002")
    assert '"umask": 2' in written(host(), "services/jupyter.json", NB_UMASK="002")
    assert "umask" not in written(host(), "user/login.sh")
    assert "internal-sftp\n" in written(host(), "ssh/sshd_config")


def test_roots_sshd_loads_no_library_of_the_users() -> None:
    box = host(SOMEBODYS, names_writable=False)
    service = written(box, "services/sshd.json", LD_PRELOAD="/workspace/theirs.so")
    assert LIBRARY in service
    assert "theirs.so" not in service
    assert "LD_PRELOAD" not in written(host(), "services/sshd.json", LD_PRELOAD="/w/theirs.so")
