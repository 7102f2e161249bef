"""Who the user's programs run as: a test for each row of the table."""

from __future__ import annotations

import pytest

from launcher.model.errors import BadSetting
from launcher.model.host import Account, Folder, Host, Mount
from launcher.model.plan import Identity
from launcher.plan.identity import may_write, name_variables, plan_identity, takes_workspace
from testing import machines
from testing.hosts import (
    BOB,
    DEV,
    GROUPS,
    LIBRARY,
    NAMELESS,
    OWN,
    READ_ONLY,
    ROOTS,
    SHARED,
    SOMEBODYS,
    WWW,
    host,
)
from testing.machines import ROOT
from testing.values import replace


def identity(box: Host, **environ: str) -> Identity:
    return plan_identity(box, machines.settings(environ))


def line(found: Identity) -> tuple[str, int, int, str]:
    account = found.account
    return account.name, account.uid, account.gid, account.home


MOUNTED = (Mount("/workspace", "ext4"),)
THE_DEV = ("dev", 1000, 1000, "/home/dev")
MOVED = ("dev", 1234, 1234, "/home/dev")


@pytest.mark.parametrize(
    ("box", "environ", "expected", "names"),
    [
        # explicit
        pytest.param(host(), {"NB_UID": "1234"}, ("dev", 1234, 1000, "/home/dev"), "written",
                     id="NB_UID"),
        pytest.param(host(), {"PUID": "1234", "PGID": "1300"}, ("dev", 1234, 1300, "/home/dev"),
                     "written", id="PUID-PGID"),
        pytest.param(host(SOMEBODYS), {"NB_UID": "1000"}, THE_DEV, "kept", id="NB_UID-of-dev"),
        pytest.param(host(SOMEBODYS), {"NB_UID": "1234"}, MOVED, "written",
                     id="NB_UID-takes-the-group-of-its-folder"),
        pytest.param(host(), {"NB_UID": "1500"}, ("bob", 1500, 1500, "/home/bob"), "kept",
                     id="a-uid-that-has-a-name-keeps-it"),
        pytest.param(host(), {"NB_UID": "33"}, ("www-data", 33, 33, "/home/www-data"), "written",
                     id="a-daemons-account-becomes-a-persons"),
        pytest.param(host(), {"NB_UID": "0"}, ("root", 0, 0, "/root"), "kept", id="NB_UID-0"),
        pytest.param(host(), {"NB_GID": "100"}, ("dev", 1000, 100, "/home/dev"), "written",
                     id="NB_GID-alone"),
        pytest.param(host(), {"NB_USER": "alice"}, ("alice", 1000, 1000, "/home/alice"),
                     "written", id="NB_USER-renames-dev"),
        pytest.param(host(SOMEBODYS), {"NB_USER": "alice"}, ("alice", 1234, 1234, "/home/alice"),
                     "written", id="NB_USER-is-the-workspaces-owner"),
        pytest.param(host(ROOTS), {"NB_USER": "alice"}, ("alice", 1000, 1000, "/home/alice"),
                     "written", id="NB_USER-is-not-made-root"),
        pytest.param(host(SOMEBODYS), {"NB_USER": "bob"}, ("bob", 1500, 1500, "/home/bob"),
                     "kept", id="NB_USER-who-exists"),
        pytest.param(host(), {"NB_USER": "bob", "NB_UID": "1234"},
                     ("bob", 1234, 1500, "/home/bob"), "written", id="NB_USER-under-another-uid"),
        pytest.param(host(), {"NB_USER": "root"}, ("root", 0, 0, "/home/root"), "written",
                     id="NB_USER-root"),
        pytest.param(host(names_writable=False), {"NB_USER": "root"},
                     ("root", 0, 0, "/home/root"), "kept", id="NB_USER-root-read-only"),
        # the workspace's owner
        pytest.param(host(SOMEBODYS), {}, MOVED, "written", id="owner"),
        pytest.param(host(replace(SOMEBODYS, gid=0)), {}, ("dev", 1234, 1000, "/home/dev"),
                     "written", id="owner-never-takes-roots-group"),
        pytest.param(host(replace(SOMEBODYS, uid=1500)), {}, ("bob", 1500, 1500, "/home/bob"),
                     "kept", id="owner-who-has-a-name"),
        pytest.param(host(SOMEBODYS, names_writable=False), {}, MOVED, "wrapped",
                     id="owner-and-etc-is-read-only"),
        pytest.param(host(replace(SHARED, uid=65534, gid=65534), workspace_writable=True), {},
                     THE_DEV, "kept", id="an-unmapped-owner-is-nobody"),
        # dev
        pytest.param(host(), {}, THE_DEV, "kept", id="dev"),
        pytest.param(host(SHARED), {}, THE_DEV, "kept", id="dev-can-write-roots-folder"),
        pytest.param(host(READ_ONLY), {}, THE_DEV, "kept", id="root-could-not-write-either"),
        pytest.param(host(None), {}, THE_DEV, "kept", id="no-workspace"),
        pytest.param(host(replace(ROOTS, gid=2000, mode=0o2775), extra_groups=(2000,)), {},
                     THE_DEV, "written", id="dev-with-the-pods-fsGroup"),
        pytest.param(host(extra_groups=(44,), names_writable=False), {}, THE_DEV, "kept",
                     id="groups-alone-need-no-new-name"),
        # root
        pytest.param(host(ROOTS), {}, ("root", 0, 0, "/root"), "kept", id="root"),
        pytest.param(host(replace(ROOTS, replaceable=True)), {}, THE_DEV, "kept",
                     id="not-root-for-a-folder-that-others-can-put-there"),
        pytest.param(host(replace(ROOTS, replaceable=True), rootless=True), {}, THE_DEV, "kept",
                     id="nor-where-rootless"),
        pytest.param(host(ROOTS), {"GRANT_SUDO": "no"}, THE_DEV, "kept",
                     id="not-root-where-nobody-is-to-be"),
        pytest.param(host(replace(ROOTS, uid=65534, gid=65534)), {}, THE_DEV, "kept",
                     id="not-root-for-a-folder-of-nobodys"),
        pytest.param(host(ROOTS, rootless=True), {"GRANT_SUDO": "no"}, ("root", 0, 0, "/root"),
                     "kept", id="rootless-without-sudo"),
        pytest.param(host(ROOTS, rootless=True), {}, ("root", 0, 0, "/root"), "kept",
                     id="rootless"),
        pytest.param(host(SOMEBODYS, capabilities=frozenset()), {}, ("root", 0, 0, "/root"),
                     "kept", id="without-capabilities"),
        # docker run --user
        pytest.param(host(me=DEV), {}, THE_DEV, "kept", id="--user-1000"),
        pytest.param(host(me=DEV), {"NB_UID": "1234"}, THE_DEV, "kept",
                     id="--user-wins-over-NB_UID"),
        pytest.param(host(me=NAMELESS), {}, ("dev", 1234, 0, "/run/launcher/home"), "wrapped",
                     id="--user-1234:0"),
        pytest.param(host(me=NAMELESS, user_home="/home/dev"), {"NB_USER": "alice"},
                     ("alice", 1234, 0, "/home/dev"), "wrapped", id="--user-and-NB_USER"),
        # -v /etc/passwd:/etc/passwd:ro besides: a name of the host's, whose home is not mounted
        pytest.param(host(me=BOB, me_usable=False), {},
                     ("bob", 1500, 1500, "/run/launcher/home"), "wrapped", id="--user-of-the-host"),
        pytest.param(host(me=BOB, me_usable=False, user_home="/home/bob"), {},
                     ("bob", 1500, 1500, "/home/bob"), "wrapped", id="--user-of-the-host-HOME"),
        pytest.param(host(me=BOB, me_usable=False, nss_wrapper=None), {},
                     ("bob", 1500, 1500, "/home/bob"), "kept", id="--user-of-the-host-as-it-is"),
        pytest.param(host(me=NAMELESS, nss_wrapper=None), {},
                     ("1234", 1234, 0, "/run/launcher/home"), "unknown", id="--user-nameless"),
    ],
)  # fmt: skip
def test_the_table(box: Host, environ: dict[str, str], expected: tuple, names: str) -> None:
    found = identity(box, **environ)
    assert (line(found), found.names) == (expected, names)
    assert found.why
    assert found.account.shell.startswith("/bin/")


@pytest.mark.parametrize("folder", [OWN, SOMEBODYS, replace(SOMEBODYS, uid=33)])
def test_the_user_environment_stays_writable(folder: Folder) -> None:
    """By its group, which every account of the box's user has."""
    assert 1000 in identity(host(folder)).account.groups


def test_a_second_start_finds_what_the_first_has_written() -> None:
    first = identity(host(SOMEBODYS))
    groups = (*GROUPS, (first.group, 1234))
    accounts = (ROOT, WWW, BOB, first.account)
    again = host(SOMEBODYS, account=first.account, accounts=accounts, groups=groups)
    second = identity(again)
    assert (second.account, second.names) == (first.account, "kept")


def test_the_group_has_a_name_of_its_own() -> None:
    assert identity(host(SOMEBODYS)).group == "dev1234"  # "dev" is the name of 1000
    assert identity(host(SOMEBODYS), NB_USER="alice").group == "alice"
    assert identity(host(SOMEBODYS), NB_GROUP="lab").group == "lab"
    assert identity(host(), NB_GROUP="lab").names == "written"
    nameless = NAMELESS._replace(gid=1010, groups=(1010, 1000))
    assert identity(host(me=nameless)).group == "dev1010"
    assert identity(host(me=nameless), NB_USER="alice").group == "alice"
    assert identity(host(me=nameless), NB_GROUP="lab").group == "lab"


@pytest.mark.parametrize(
    ("environ", "sudo", "root_login"),
    [({}, True, True), ({"GRANT_SUDO": "yes"}, True, True), ({"GRANT_SUDO": "no"}, False, False)],
)
def test_sudo_and_roots_login_go_together(environ, sudo, root_login) -> None:
    found = identity(host(), **environ)
    assert (found.sudo, found.root_login) == (sudo, root_login)


def test_root_who_is_the_user_may_log_in() -> None:
    assert identity(host(ROOTS), GRANT_SUDO="no", NB_UID="0").root_login
    assert identity(host(ROOTS, rootless=True), GRANT_SUDO="no").root_login


@pytest.mark.parametrize("me", [DEV, NAMELESS])
def test_nobody_else_grants_sudo(me: Account) -> None:
    assert not identity(host(me=me)).sudo


@pytest.mark.parametrize("environ", [{"NB_UID": "1234"}, {"NB_USER": "eve"}, {"NB_GID": "7"}])
def test_the_accounts_of_a_machine_that_is_not_ours_are_left_alone(environ) -> None:
    with pytest.raises(BadSetting, match="left alone"):
        identity(host(image=False), **environ)


def test_a_stranger_who_owns_the_workspace_is_not_made_on_a_plain_machine() -> None:
    box = host(SOMEBODYS, image=False, account=None)
    assert identity(box).is_root
    bobs = host(replace(SOMEBODYS, uid=1500), image=False, account=None)
    assert identity(bobs).account == BOB


@pytest.mark.parametrize(
    ("folder", "account", "writes"),
    [
        (Folder(1234, 0, 0o700, True), replace(DEV, uid=1234), True),
        (Folder(1234, 0, 0o500, True), replace(DEV, uid=1234), False),
        (Folder(1234, 1000, 0o577, True), replace(DEV, uid=1234), False),  # the owner's bits count
        (Folder(0, 1000, 0o770, True), replace(DEV, uid=1234), True),
        (Folder(0, 1000, 0o707, True), replace(DEV, uid=1234), False),
        (Folder(0, 0, 0o757, True), replace(DEV, uid=1234), True),
        (Folder(1234, 0, 0o777, False, read_only=True), replace(DEV, uid=1234), False),
        (Folder(1234, 0, 0o700, False), replace(DEV, uid=1234), True),  # root is squashed
        (Folder(0, 0, 0o000, True), ROOT, True),
    ],
)
def test_who_may_write_the_workspace(folder, account, writes) -> None:
    assert may_write(account, host(folder)) is writes


def test_a_name_from_the_library_leaves_the_users_own_preload_in_place() -> None:
    box = host(me=NAMELESS)
    settings = machines.settings({"LD_PRELOAD": "/opt/theirs.so"})
    found = {var.name: var.value for var in name_variables(identity(box), box, settings)}
    assert found == {
        "LD_PRELOAD": f"{LIBRARY}:/opt/theirs.so",
        "NSS_WRAPPER_PASSWD": "/run/launcher/names/passwd",
        "NSS_WRAPPER_GROUP": "/run/launcher/names/group",
    }
    assert name_variables(identity(host()), host(), settings) == ()


@pytest.mark.parametrize(
    ("changes", "uid", "taken"),
    [
        pytest.param({}, 1001, True, id="the-image-s-own"),
        pytest.param({}, 1000, False, id="dev-s-already"),
        pytest.param({}, 0, False, id="root-needs-none"),
        pytest.param({"workspace": SOMEBODYS}, 1001, False, id="somebody-s"),
        pytest.param({"workspace": ROOTS}, 1001, True, id="root-s-of-an-image"),
        pytest.param({"mounts": MOUNTED}, 1001, False, id="a-volume-in-use"),
        pytest.param({"mounts": MOUNTED, "workspace_unused": True}, 1001, True, id="a-new-volume"),
        pytest.param({"capabilities": frozenset()}, 1001, False, id="no-CHOWN"),
        pytest.param({"me": DEV}, 1001, False, id="not-root"),
        pytest.param({"image": False}, 1001, False, id="a-plain-machine"),
        pytest.param({"workspace": replace(OWN, writable=False)}, 1001, False, id="read-only"),
    ],
)
def test_which_workspace_is_given_to_the_user(changes, uid: int, taken: bool) -> None:
    box = host()._replace(**changes)
    account = DEV._replace(uid=uid)
    assert takes_workspace(account, box, "/workspace") is taken


@pytest.mark.parametrize(
    ("gids", "joined"),
    [
        ((44,), (44,)),  # video: a Jetson's, or SUSE's
        ((109, 44), (109, 44)),  # a number of the host's, which is no group here
        ((27,), ()),  # whose number is sudo's here
        ((6, 44), (44,)),  # disk
        ((), ()),
    ],
)
def test_the_group_of_the_device_nodes_is_joined_where_it_gives_no_other_power(
    gids: tuple[int, ...], joined: tuple[int, ...]
) -> None:
    groups = (*GROUPS, ("sudo", 27), ("disk", 6), ("video", 44))
    box = host(device_groups=gids, groups=groups)
    before = identity(host(groups=groups)).account.groups
    found = identity(box)
    assert found.account.groups == (*before, *(gid for gid in joined if gid not in before))
    assert found.names == ("written" if set(joined) - set(before) else "kept")


def test_who_is_not_root_joins_nothing() -> None:
    assert identity(host(me=DEV, device_groups=(44,))).account.groups == DEV.groups
