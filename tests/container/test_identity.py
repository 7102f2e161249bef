"""Who you are: files belong to the host's user, whichever way they are made, with no option."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from testing.container import kernel
from testing.container.banner import unwrapped
from testing.container.box import PYTORCH_CHECKED, SSH_ALONE, Box, Boxes
from testing.container.login import KeyPair, Login, make_key

Folders = Callable[..., Path]

OWNER = 1234  # nobody's number, in the image or here


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return make_key(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Make folders of this machine to mount: `folders(uid, mode)`."""
    top = tmp_path_factory.mktemp("mounts")

    def make(uid: int, mode: int = 0o755) -> Path:
        folder = top / str(len(list(top.iterdir())))
        folder.mkdir()
        os.chown(folder, uid, uid)
        folder.chmod(mode)
        return folder

    return make


def mounted(folder: Path, at: str = "/workspace") -> tuple[str, str]:
    return "-v", f"{folder}:{at}"


def ways_to_make_a_file(box: Box, login: Login) -> None:
    """Make a file in the workspace from a notebook, over SSH, by sftp, and by `launcher exec`."""
    kernel.connect(box).run_cell("open('by-notebook', 'w').close()")
    assert login.ssh("touch /workspace/by-ssh").returncode == 0
    login.sftp("put /etc/hostname /workspace/by-sftp\n")
    box.exec("launcher", "exec", "--", "touch", "/workspace/by-exec")


def owners(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_uid for path in folder.iterdir() if path.name[0] != "."}


MADE = ("by-exec", "by-notebook", "by-sftp", "by-ssh")


# --- a folder of the host's user -------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(folders: Folders) -> Path:
    return folders(OWNER)


@pytest.fixture(scope="module")
def bound(shared_box: Boxes, folder: Path, key: KeyPair) -> Box:
    return shared_box(*mounted(folder), env={"PUBLIC_KEY": key.public})


def test_files_belong_to_the_hosts_user_whichever_way_they_are_made(
    bound: Box, folder: Path, key: KeyPair
) -> None:
    banner = unwrapped(bound.wait_for_banner())
    assert "Runs as   dev (uid 1234): /workspace belongs to this uid" in banner
    ways_to_make_a_file(bound, Login(bound.port(22), "dev", key))
    assert {name: uid for name, uid in owners(folder).items() if name in MADE} == dict.fromkeys(
        MADE, OWNER
    )


def test_everybody_agrees_on_the_name(bound: Box, key: KeyPair) -> None:
    bound.wait_for_banner()
    login = Login(bound.port(22), "dev", key)
    names = "id -u; id -un; whoami; stat -c %U /workspace; echo $HOME; stat -c %U ~ ~/.bashrc"
    expected = ["1234", "dev", "dev", "dev", "/home/dev", "dev", "dev"]
    assert login.ssh(names).stdout.split() == expected
    code = f"import subprocess; print(subprocess.getoutput({names!r}))"
    assert kernel.connect(bound).run_cell(code).split() == expected
    assert login.ssh("sudo -n id -u").stdout == "0\n"
    programs = login.ssh("sudo -n which jupyter pip python3").stdout.split()
    assert programs == ["/opt/venv/bin/jupyter", "/usr/local/bin/pip", "/usr/bin/python3"]
    assert login.ssh("touch /opt/venv/lib/mine && rm /opt/venv/lib/mine").returncode == 0
    assert login.ssh("touch ~/.bashrc ~/new").returncode == 0
    refused = login.ssh("launcher url; launcher healthcheck && echo healthy")
    assert "only root may; try: sudo launcher" in refused.stderr
    assert "healthy" in refused.stdout
    for command in (["url"], ["logs"], ["restart", "jupyter"], ["keys", "list"]):
        nobody = bound.exec("launcher", *command, user="nobody", check=False)
        assert nobody.returncode == 78, command
        assert "has no sudo here: come in as root (docker exec -u root …)" in nobody.stderr


def test_a_restart_changes_nothing(bound: Box, key: KeyPair) -> None:
    bound.wait_for_banner()
    bound.restart()
    bound.wait_for_log(r"(?s)uid 1234.*uid 1234", timeout=60)
    login = Login(bound.port(22), "dev", key)
    assert login.ssh("id -un; stat -c %U /workspace; sudo -n id -u").stdout.split() == [
        "dev", "dev", "0",
    ]  # fmt: skip


# --- other mounts ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uid", "mode", "says"),
    [
        (0, 0o755, "root (uid 0): /workspace is root's, and dev cannot write there"),
        (0, 0o777, "dev (uid 1000): the workspace user"),
        (1000, 0o755, "dev (uid 1000): the workspace user"),
    ],
)
def test_whom_other_folders_make_of_a_command(
    box: Boxes, folders: Folders, uid: int, mode: int, says: str
) -> None:
    mount = folders(uid, mode)
    done = box.run("sh", "-c", "touch /workspace/file; id", options=mounted(mount))
    wanted = says.split()[2].rstrip("):")
    assert f"uid={wanted}({says.split()[0]})" in done.stdout.decode()
    assert owners(mount) == {"file": int(wanted)}


def test_a_named_volume_is_dev_s(box: Boxes) -> None:
    done = box.run("sh", "-c", "touch file; stat -c %u file", options=["-v", "/workspace"])
    assert done.stdout.decode() == "1000\n"


def test_a_groups_folder_is_dev_s_in_that_group(box: Boxes, folders: Folders) -> None:
    """As Kubernetes gives a volume to a pod's fsGroup."""
    mount = folders(0, 0o775)
    os.chown(mount, 0, 2000)
    options = [*mounted(mount), "--group-add", "2000"]
    done = box.run("sh", "-c", "touch /workspace/file; id -un; id -Gn", options=options)
    assert done.stdout.decode().split() == ["dev", "dev", "group2000"]
    assert owners(mount) == {"file": 1000}


def test_a_roots_folder_is_explained(box: Boxes, folders: Folders) -> None:
    banner = unwrapped(box(*SSH_ALONE, *mounted(folders(0))).wait_for_banner())
    assert "/workspace belongs to root, and dev cannot write there" in banner
    assert 'NB_UID="$(id -u)"' in banner


def test_an_empty_home_is_filled_by_its_user(box: Boxes, folders: Folders) -> None:
    home = folders(OWNER)
    box.run("true", options=[*mounted(folders(OWNER)), *mounted(home, "/home/dev")])
    assert {path.name: path.stat().st_uid for path in home.iterdir()} == dict.fromkeys(
        (".bash_logout", ".bashrc", ".profile"), OWNER
    )


# --- names of the Jupyter Docker Stacks -------------------------------------------------------


@pytest.fixture(scope="module")
def data(folders: Folders) -> Path:
    """A folder of somebody else's, and a link in it that leads to the system."""
    made = folders(777)
    (made / "deep").mkdir()
    (made / "deep" / "file").touch()
    (made / "link").symlink_to("/etc/shadow")
    return made


@pytest.fixture(scope="module")
def alice(shared_box: Boxes, key: KeyPair, data: Path) -> Box:
    stacks = {"NB_USER": "alice", "NB_UID": "1300", "NB_GID": "1400", "NB_GROUP": "lab"}
    more = {"NB_UMASK": "002", "GRANT_SUDO": "no", "PUBLIC_KEY": key.public}
    gifts = {"CHOWN_EXTRA": "/data,/not/there,/opt/venv/share", "CHOWN_EXTRA_OPTS": "-R"}
    return shared_box(*mounted(data, "/data"), env={**stacks, **more, **gifts})


def test_names_are_those_that_were_asked_for(alice: Box, key: KeyPair) -> None:
    assert "alice (uid 1300): NB_UID=1300" in alice.wait_for_banner()
    login = Login(alice.port(22), "alice", key)
    about = (
        "id -u; id -un; id -g; id -gn; pwd; echo $HOME; cat ~/.profile >/dev/null && echo seeded"
    )
    expected = ["1300", "alice", "1400", "lab", "/home/alice", "/home/alice", "seeded"]
    assert login.ssh(about).stdout.split() == expected
    assert login.ssh("umask; touch f; stat -c %a f").stdout.split() == ["0002", "664"]
    umask = kernel.connect(alice).run_cell("import os; print(oct(os.umask(0)))")
    assert umask == "0o2\n"


def test_folders_that_are_named_are_given_away_with_what_is_in_them(alice: Box, data: Path) -> None:
    said = alice.wait_for_log(r"launcher: CHOWN_EXTRA: cannot give .*")[0]
    assert "/not/there to alice (uid 1300): No such file or directory" in said
    alice.wait_for_banner()
    paths = (data, data / "deep", data / "deep" / "file", data / "link")
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in paths} == {(1300, 1400)}
    whose = alice.exec("stat", "-c", "%u", "/opt/venv/share/jupyter", "/etc/shadow", "/data").stdout
    assert whose.split() == ["1300", "0", "1300"]


def test_grant_sudo_no_leaves_no_way_to_root(alice: Box, key: KeyPair) -> None:
    alice.wait_for_banner()
    login = Login(alice.port(22), "alice", key)
    assert login.ssh("sudo -n id -u").returncode != 0
    assert not Login(alice.port(22), "root", key).is_let_in()
    assert login.is_let_in()


# --- without root, without writing, without powers --------------------------------------------

HARDENED = (
    *("--read-only", "--tmpfs", "/run", "--tmpfs", "/tmp"),
    *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
)
PORTS = ("-p", "127.0.0.1::8888", "-p", "127.0.0.1::2222")


@pytest.mark.parametrize(
    "options", [pytest.param((), id="plain"), pytest.param(HARDENED, id="hardened")]
)
def test_a_uid_without_a_name_has_notebooks_and_ssh(
    box: Boxes, key: KeyPair, options: tuple[str, ...]
) -> None:
    """As OpenShift starts it; hardened, as a strict cluster does."""
    # A tmpfs that Docker makes is 1777: /tmp as it should be, and /run here.
    started = box(
        *PYTORCH_CHECKED, "--user", "1234:0", *PORTS, *options, env={"PUBLIC_KEY": key.public}
    )
    banner = unwrapped(started.wait_for_banner())
    assert " Ready " in banner, banner
    for words in ("dev (uid 1234)", "the token and the host key are new", "PACKAGES=workspace"):
        assert words in banner
    # A group is of no use where nobody can write.
    assert ("--group-add 1000" in banner) is ("--read-only" not in options)
    login = Login(started.port(2222), "dev", key)
    about = "id -u; whoami; echo $HOME; touch ~/file && ls -l ~/file | cut -d' ' -f3"
    home = "/tmp/launcher-1234/home"
    assert login.ssh(about).stdout.split() == ["1234", "dev", home, "dev"]
    assert login.ssh("-tt", "tty").returncode == 0
    code = f"import subprocess, os; print(subprocess.getoutput({about!r}))"
    assert kernel.connect(started).run_cell(code).split() == ["1234", "dev", home, "dev"]
    assert started.exec("launcher", "healthcheck", check=False).returncode == 0
    assert started.exec("bash", "-ic", "whoami").stdout == "dev\n"


def test_a_read_only_root_gets_its_name_from_the_library(
    box: Boxes, folders: Folders, key: KeyPair
) -> None:
    started = box(
        *("--read-only", "--tmpfs", "/run", "--tmpfs", "/tmp"),
        *mounted(folders(OWNER)),
        *mounted(folders(OWNER), "/home/dev"),
        env={"PUBLIC_KEY": key.public},
    )
    banner = unwrapped(started.wait_for_banner())
    assert " Ready " in banner
    assert "sudo, which ignores that" in banner
    login = Login(started.port(22), "dev", key)
    assert login.ssh("id -u; whoami; stat -c %U /workspace ~/.bashrc").stdout.split() == [
        "1234", "dev", "dev", "dev",
    ]  # fmt: skip


def test_without_capabilities_root_stays_root_and_ssh_is_off(box: Boxes) -> None:
    banner = unwrapped(box("--cap-drop", "ALL").wait_for_banner())
    assert " Ready " in banner
    assert "root (uid 0): no other user is possible without CAP_SETUID" in banner
    assert "SSH       off: nobody could log in without CAP_SETUID" in banner
    assert "--cap-add SETUID --cap-add SETGID" in banner


LEAST = ("CHOWN", "SETUID", "SETGID", "KILL", "SYS_CHROOT")


@pytest.mark.parametrize("terminal", [True, False])
def test_with_the_least_set_everything_works(
    box: Boxes, folders: Folders, key: KeyPair, terminal: bool
) -> None:
    """In a workspace that root itself may not enter, as on a network disk with root_squash."""
    names = (*LEAST, "AUDIT_WRITE") if terminal else LEAST
    options = [word for name in names for word in ("--cap-add", name)]
    workspace = mounted(folders(OWNER, 0o700))
    env = {"PUBLIC_KEY": key.public}
    started = box("--cap-drop", "ALL", *options, *workspace, env=env)
    banner = unwrapped(started.wait_for_banner())
    assert " Ready " in banner
    assert "cannot write" not in banner
    assert ("a login with a terminal does not" in banner) is not terminal
    login = Login(started.port(22), "dev", key)
    assert login.ssh("id -u").stdout == f"{OWNER}\n"
    assert (login.ssh("-tt", "tty").returncode == 0) is terminal
    if terminal:
        code = "import os; open('made', 'w'); print(os.getuid())"
        assert kernel.connect(started).run_cell(code) == f"{OWNER}\n"
        assert started.stop() < 8


def test_no_new_privileges_says_that_sudo_does_not_work(box: Boxes, key: KeyPair) -> None:
    started = box("--security-opt", "no-new-privileges", env={"PUBLIC_KEY": key.public})
    banner = unwrapped(started.wait_for_banner())
    assert " Ready " in banner
    assert "sudo does not work" in banner
    assert Login(started.port(22), "dev", key).ssh("sudo -n true").returncode != 0
