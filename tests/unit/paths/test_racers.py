"""Root works in a folder while its owner swaps links in it: nothing of root's is touched.

Each operation is done again and again, for as long as its racer has turned around often enough.
"""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher.box import certificate, files, home, ssh_keys, state
from launcher.box.kept import Kept
from launcher.model.errors import BadSetting
from launcher.model.host import Account
from launcher.model.plan import Identity, RenderedFile
from launcher.paths.folder import Folder, read_file
from launcher.settings import load

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")

USER = 1234
SECRET = "root's own, which nobody else is to read"
TIMES = 50  # operations beside a racer, and at least for
A_WHILE = 0.5  # seconds

# As the folder's owner: under each name there is in turn a link to the victim, a link to a folder
# of root's, something harmless, and nothing.
RACER = """
import contextlib, os, sys
folder, victim, target, *names = sys.argv[1:]
os.setgroups([]); os.setgid({user}); os.setuid({user})
os.chdir(folder)
print("runs", flush=True)
while True:
    for name in names:
        for make in (
            lambda: os.symlink(victim, "made"),
            lambda: os.symlink(target, "made"),
            lambda: os.close(os.open("made", os.O_WRONLY | os.O_CREAT, 0o666)),
            lambda: os.mkdir("made"),
            lambda: None,
        ):
            with contextlib.suppress(OSError):
                make()
            with contextlib.suppress(OSError):
                os.rename(name, "gone")  # a folder of root's, too
            with contextlib.suppress(OSError):
                os.rename("made", name)
            for left in ("gone", "made"):
                with contextlib.suppress(OSError):
                    os.unlink(left)
                with contextlib.suppress(OSError):
                    os.rmdir(left)
                with contextlib.suppress(OSError):
                    os.rename(left, f"{{left}}-{{os.times().elapsed}}")
"""


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """Make a file and a folder of root's, and see them as they were at the end."""
    for above in (tmp_path, *tmp_path.parents):
        if above.stat().st_uid == 0 and above != Path("/tmp"):
            above.chmod(above.stat().st_mode | 0o011)
    folder = tmp_path / "roots"
    folder.mkdir(0o755)
    path = folder / "victim"
    path.write_text(SECRET)
    path.chmod(0o640)
    (folder / "token").write_text(SECRET)
    before = as_it_is(folder)
    yield path
    assert as_it_is(folder) == before


def as_it_is(folder: Path) -> list[tuple[str, int, int, str]]:
    """Return names, owners, modes and contents of a folder and what is in it."""
    return [
        (str(path), path.stat().st_uid, stat.S_IMODE(path.stat().st_mode),
         path.read_text() if path.is_file() else "")
        for path in (folder, *sorted(folder.iterdir()))
    ]  # fmt: skip


@pytest.fixture
def theirs(tmp_path: Path, victim: Path) -> Path:
    made = tmp_path / "theirs"
    made.mkdir()
    os.chown(made, USER, USER)
    return made


@contextlib.contextmanager
def racing(folder: Path, victim: Path, *names: str) -> Iterator[None]:
    argv = [sys.executable, "-c", RACER.format(user=USER), folder, victim, victim.parent, *names]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert process.stdout
    try:
        assert process.stdout.readline() == b"runs\n"
        yield
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def again_and_again(work: Callable[[], object], times: int = TIMES) -> list[object]:
    """Do it so often, and for a while; what it refuses is well, what it returns is looked at."""
    seen = []
    until = time.monotonic() + A_WHILE
    while times > 0 or time.monotonic() < until:
        times -= 1
        with contextlib.suppress(OSError, BadSetting):
            seen.append(work())
    return seen


def test_files_are_written(theirs: Path, victim: Path) -> None:
    file = RenderedFile(f"{theirs}/file", "written", 0o666, USER, USER)
    with racing(theirs, victim, "file", "file.new"):
        again_and_again(lambda: files.write([file]))


def test_folders_are_made_and_given_away(theirs: Path, victim: Path) -> None:
    made = [RenderedFile(f"{theirs}/{name}", None, 0o777, USER, USER) for name in ("a", "a/b")]
    file = RenderedFile(f"{theirs}/a/b/token", "written", 0o666, USER, USER)
    with racing(theirs, victim, "a"):
        again_and_again(lambda: files.write([*made, file]))


def test_a_mode_is_set(theirs: Path, victim: Path) -> None:
    with racing(theirs, victim, "key"), Folder(str(theirs)) as folder:
        again_and_again(lambda: folder.close_to_others("key"))


def test_a_file_is_read(theirs: Path, victim: Path) -> None:
    with racing(theirs, victim, "token"), Folder(str(theirs)) as folder:
        seen = again_and_again(lambda: read_file(f"{theirs}/token"))
        seen += again_and_again(lambda: folder.read("token"))
    assert seen, "the racer left no time at all"
    assert set(seen) == {b""}


@pytest.mark.parametrize("name", ["JUPYTER_TOKEN_FILE", "PUBLIC_KEY_FILE", "PUBLIC_KEY_DIR"])
def test_a_setting_s_file_is_read(theirs: Path, victim: Path, name: str) -> None:
    path = theirs if name == "PUBLIC_KEY_DIR" else theirs / "token"
    with racing(theirs, victim, "token"):
        seen = again_and_again(lambda: load.load_settings({name: str(path)}))
    for settings in seen:
        assert SECRET not in repr((settings.key_lines, settings.warnings))
        assert settings.jupyter_token is None


def test_the_state_is_opened(theirs: Path, victim: Path) -> None:
    names = ("token", "token.new", "ssh_host_ed25519_key", "ssh_host_ed25519_key.pub")
    with racing(theirs, victim, *names):
        seen = again_and_again(lambda: state.open_state(str(theirs), [], login_key=False), 5)
    assert SECRET not in {made.token.reveal() for made in seen}


def test_a_host_key_is_made(theirs: Path, victim: Path) -> None:
    def make() -> None:
        with Kept(str(theirs)) as kept:
            ssh_keys.key_pair(kept, "key", "launcher")

    with racing(theirs, victim, "key", "key.pub", "key.new", "key.new.pub"):
        again_and_again(make, 5)


def test_a_host_key_is_made_where_its_folder_is_taken_away(theirs: Path, victim: Path) -> None:
    """ssh-keygen writes through a link; so where it writes is nobody else's, wherever that is."""
    with Folder(str(theirs)) as folder, folder.workshop() as workshop:
        (name,) = os.listdir(theirs)
        (theirs / name).rename(theirs / "taken")
        (theirs / name).symlink_to(victim.parent)
        workshop.write("key", b"made", 0o600)
        workshop.move("key", folder)
    assert (theirs / "key").read_bytes() == b"made"
    assert (theirs / name).is_symlink()


def test_a_certificate_is_made(theirs: Path, victim: Path) -> None:
    settings = load.load_settings({"LAUNCHER_TLS": "1", "LAUNCHER_STATE_DIR": str(theirs)})
    with racing(theirs, victim, "jupyter_tls.pem", "jupyter_tls.pem.new"):
        again_and_again(lambda: certificate.provide(settings), 5)


def test_a_certificate_is_read(theirs: Path, victim: Path) -> None:
    pair = {"LAUNCHER_TLS_CERT": f"{theirs}/token", "LAUNCHER_TLS_KEY": f"{theirs}/token"}
    settings = load.load_settings(pair)
    with racing(theirs, victim, "token"):
        assert not again_and_again(lambda: certificate.provide(settings))


@pytest.mark.parametrize("chown", ["", "folder", "all"])
def test_a_home_is_given_away(theirs: Path, victim: Path, chown: str) -> None:
    account = Account("user", USER, USER, f"{theirs}/home", "/bin/bash", (USER,))
    identity = Identity(account, "", chown_home=chown)
    with racing(theirs, victim, "home"):
        again_and_again(lambda: home.make_home(identity), 5)


def test_everything_in_a_home_is_given_away(theirs: Path, victim: Path) -> None:
    with contextlib.suppress(PermissionError):
        os.link(victim, theirs / "hard")
    with racing(theirs, victim, "a", "b"), Folder(str(theirs)) as folder:
        again_and_again(lambda: deque(folder.give_everything(USER, USER), maxlen=0))
