"""Writing files whole, and keeping what outlives a restart."""

from __future__ import annotations

import base64
import fcntl
import os
import shutil
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.box import files
from launcher.box import state as box_state
from launcher.model.errors import BadSetting
from launcher.model.machine import GpuReport
from launcher.model.plan import KeyLine, RenderedFile, Secret
from launcher.paths.folder import Folder
from launcher.plan.plan import make_plan
from launcher.render.sshd import sshd_config
from testing.machines import HOST_KEY, LOGIN_KEY, machine, outset, settings
from testing.scripts import run_script

ROOT = Path(__file__).parents[3]


def file(path: Path, content: str | None = "new", mode: int = 0o600) -> RenderedFile:
    return RenderedFile(str(path), content, mode, -1, -1)


def mode_of(path: Path | str) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


# --- writing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_a_file_has_the_mode_that_was_rendered(tmp_path: Path, mode: int, umask: int) -> None:
    before = os.umask(umask)
    try:
        files.write([file(tmp_path / "dir", None, 0o755), file(tmp_path / "dir" / "f", mode=mode)])
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "dir") == 0o755
    assert mode_of(tmp_path / "dir" / "f") == mode


def test_writing_again_replaces_content_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    path.chmod(0o666)
    files.write([file(path, "new", 0o600)])
    assert path.read_text() == "new"
    assert mode_of(path) == 0o600
    assert os.listdir(tmp_path) == ["f"]


def test_bytes_that_are_no_text_are_written_as_they_came(tmp_path: Path) -> None:
    files.write([file(tmp_path / "f", "a\udcffb×")])
    assert (tmp_path / "f").read_bytes() == b"a\xffb\xc3\x97"


@pytest.mark.parametrize("name", ["f", "f.new"])
def test_a_symlink_in_the_way_is_not_followed(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / name).symlink_to(victim)
    files.write([file(tmp_path / "f")])
    assert victim.read_text() == "precious"
    assert not (tmp_path / "f").is_symlink()
    assert (tmp_path / "f").read_text() == "new"


def test_what_a_crash_left_behind_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "f.new").write_text("half")
    files.write([file(tmp_path / "f")])
    assert (tmp_path / "f").read_text() == "new"


def test_a_reader_sees_the_old_or_the_new_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "f"
    old, new = "o" * 300_000, "n" * 300_000
    path.write_text(old)
    code = (
        "import sys\n"
        "from launcher.box import files; from launcher.box import state\n"
        "from launcher.model.plan import RenderedFile\n"
        "for number in range(100):\n"
        f"    text = 'on'[number % 2] * {len(old)}\n"
        "    files.write([RenderedFile(sys.argv[1], text, 0o600, -1, -1)])\n"
    )
    seen = set()
    writer = subprocess.Popen([sys.executable, "-c", code, path], cwd=ROOT)
    while writer.poll() is None:
        seen.add(path.read_text())
    assert writer.returncode == 0
    assert seen <= {old, new}
    assert len(seen) == 2


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("file/in-the-way/f", id="no-directory"),
        pytest.param("/proc/launcher/f", id="read-only"),
        pytest.param("directory", id="a-directory-is-there"),
    ],
)
def test_what_cannot_be_written_is_named_with_what_it_needs(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    target = tmp_path / path
    with pytest.raises(BadSetting) as bad:
        files.write([file(target.parent, None, 0o755), file(target)])
    assert bad.value.exit_code == 78
    assert str(target.parent.parent) in str(bad.value)
    assert "--tmpfs" in str(bad.value)


@pytest.mark.parametrize("blocks", [0, 16])
def test_a_directory_without_room_is_named(tmp_path: Path, monkeypatch, blocks: int) -> None:
    files.check_room(str(tmp_path))
    room = os.statvfs_result([4096, 4096, 1000, blocks, blocks, 9, 9, 9, 0, 255])  # statvfs(3)
    monkeypatch.setattr(os, "statvfs", lambda path: room)
    with pytest.raises(BadSetting, match=f"cannot write {tmp_path}: it is full: make room"):
        files.check_room(str(tmp_path))


def test_a_file_is_given_to_its_owner(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may give files away")
    files.write([RenderedFile(str(tmp_path / "f"), "x", 0o600, 65534, 65533)])
    info = os.stat(tmp_path / "f")
    assert (info.st_uid, info.st_gid) == (65534, 65533)


def test_what_the_box_before_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "services").mkdir()
    names = ("supervisor.sock", "supervisord.pid", "banner", "plan.json", "services/jupyter.json")
    for name in names:
        (tmp_path / name).touch()
    me = os.geteuid()
    files.remove_stale(str(tmp_path), me)
    files.remove_stale(str(tmp_path), me)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["plan.json"]


def test_jupyters_files_are_kept_unless_they_were_another_users(tmp_path: Path) -> None:
    """A cookie lasts over a restart; one that Jupyter may not read would end it."""
    (tmp_path / "jupyter").mkdir()
    cookie = tmp_path / "jupyter" / "jupyter_cookie_secret"
    cookie.touch()
    files.remove_stale(str(tmp_path), os.geteuid())
    assert cookie.exists()
    files.remove_stale(str(tmp_path), os.geteuid() + 1)
    assert not cookie.exists()


def test_what_is_secret_goes_with_the_box(tmp_path: Path) -> None:
    for folder in ("services", "ssh", "user", "log", "jupyter"):
        (tmp_path / folder).mkdir()
    secret = ("plan.json", "banner", "services/jupyter.json", "user/login.sh", "jupyter.pem",
              "log/watch.log")  # fmt: skip
    kept = ("lock", "health.json", "log/sshd.log", "ssh/authorized_keys")
    for name in (*secret, *kept):
        (tmp_path / name).touch(0o600 if name in (*secret, "lock") else 0o644)
    (tmp_path / "link").symlink_to(tmp_path / "health.json")
    files.remove_secrets(str(tmp_path))
    files.remove_secrets(str(tmp_path / "missing"))
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*kept, "link"}


# --- state -----------------------------------------------------------------------------------


def state(directory: Path, *lines: str, login_key: bool = False):
    keys = [KeyLine("PUBLIC_KEY", n, line) for n, line in enumerate(lines, start=1)]
    return box_state.open_state(str(directory), keys, login_key)


def test_where_ed25519_is_refused_the_host_key_is_an_rsa_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by OpenSSL in its FIPS mode."""
    real = shutil.which("ssh-keygen")
    fips = tmp_path / "bin" / "ssh-keygen"
    fips.parent.mkdir()
    fips.write_text(f'#!/bin/sh\ncase "$*" in *ed25519*) exit 1 ;; esac\nexec {real} "$@"\n')
    fips.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fips.parent}:{os.environ['PATH']}")
    found = state(tmp_path / "state")
    assert found.host_key is None
    assert found.rsa_host_key.startswith("ssh-rsa ")
    assert state(tmp_path / "state") == found

    made = make_plan(outset(machine(GpuReport()), settings({})), found)
    assert made.ssh.host_key == found.rsa_host_key
    config = sshd_config(made, made.ssh)
    assert config.count("HostKey ") == 1
    assert 'HostKey "/var/lib/launcher/ssh_host_rsa_key"' in config


def test_state_outlives_a_restart(tmp_path: Path) -> None:
    first = state(tmp_path / "state", login_key=True)
    assert state(tmp_path / "state", login_key=True) == first
    other = state(tmp_path / "other", login_key=True)
    for field in ("token", "password", "host_key", "login_key"):
        assert getattr(first, field) != getattr(other, field)


def test_state_is_for_root_alone(tmp_path: Path) -> None:
    state(tmp_path / "state", login_key=True)
    assert mode_of(tmp_path / "state") == 0o700
    for name in ("token", "password", "ssh_host_ed25519_key", "login_key"):
        assert mode_of(tmp_path / "state" / name) == 0o600


def test_a_token_has_32_random_bytes(tmp_path: Path) -> None:
    token = state(tmp_path).token.reveal()
    assert len(base64.urlsafe_b64decode(token + "=")) == 32


def test_a_password_can_be_typed(tmp_path: Path) -> None:
    password = state(tmp_path).password.reveal()
    assert len(password) == 22  # 132 bits
    assert password.isascii()


def test_a_state_that_the_owner_made_is_used(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("  mine\n")
    assert state(tmp_path).token == Secret("mine")


def test_an_empty_token_file_is_no_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("\n")
    made = state(tmp_path).token.reveal()
    assert len(made) == 43
    assert (tmp_path / "token").read_text() == made


def test_a_host_key_that_others_could_read_is_mended(tmp_path: Path) -> None:
    before = state(tmp_path)
    (tmp_path / "ssh_host_ed25519_key").chmod(0o644)
    assert state(tmp_path) == before
    assert mode_of(tmp_path / "ssh_host_ed25519_key") == 0o600


def test_without_ssh_keygen_there_is_no_host_key(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    made = state(tmp_path, LOGIN_KEY, login_key=True)
    assert (made.host_key, made.login_key) == (None, None)
    assert made.keys[0].fault is None  # unjudged, so sshd has the last word


@pytest.mark.parametrize("path", ["file/state", "/proc/launcher-state"])
def test_a_state_directory_that_cannot_be_written(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadSetting) as bad:
        state(tmp_path / path)
    assert str(tmp_path / path) in str(bad.value)


# --- public keys -----------------------------------------------------------------------------


def ssh_string(data: bytes) -> bytes:
    """Return an SSH string: RFC 4251, section 5."""
    return struct.pack(">I", len(data)) + data


def hardware_key() -> str:
    """Return a key of a FIDO token, as OpenSSH's PROTOCOL.u2f describes it."""
    kind = b"sk-ssh-ed25519@openssh.com"
    blob = ssh_string(kind) + ssh_string(bytes(range(32))) + ssh_string(b"ssh:")
    return f"{kind.decode()} {base64.b64encode(blob).decode()} token"


def generated(kind: str, path: Path) -> str:
    bits = ["-b", "2048"] if kind == "rsa" else []
    argv = ["ssh-keygen", "-q", "-t", kind, *bits, "-N", "", "-f", path]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    return path.with_suffix(".pub").read_text().strip()


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(LOGIN_KEY, id="without-comment"),
        pytest.param(f"{LOGIN_KEY} me @ my laptop", id="with-comment"),
        pytest.param(f'command="echo hi",no-pty {LOGIN_KEY} me', id="with-options"),
        pytest.param(f'restrict,environment="A=b c" {LOGIN_KEY}', id="option-with-space"),
        pytest.param(hardware_key(), id="hardware-token"),
        pytest.param("rsa", id="rsa"),
        pytest.param("ecdsa", id="ecdsa"),
    ],
)
def test_good_keys(tmp_path: Path, line: str) -> None:
    if " " not in line:
        line = generated(line, tmp_path / "key")
    (key,) = state(tmp_path / "state", line).keys
    assert key.fault is None
    assert key.text == line


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("garbage", id="garbage"),
        pytest.param(LOGIN_KEY[:50], id="truncated"),
        pytest.param(LOGIN_KEY[:-4], id="cut-by-four-characters"),
        pytest.param(LOGIN_KEY.replace("ssh-ed25519 ", "ssh-foo "), id="unknown-type"),
        pytest.param(LOGIN_KEY.replace("ssh-ed25519 ", "ssh-rsa "), id="another-type-inside"),
        pytest.param(f'command="unterminated {LOGIN_KEY}', id="open-quote"),
        pytest.param("ssh-ed25519", id="type-alone"),
        pytest.param("-----BEGIN OPENSSH PRIVATE KEY-----", id="private-key"),
        pytest.param("\udcff\x1b[31m", id="bytes"),
    ],
)
def test_bad_keys(tmp_path: Path, line: str) -> None:
    good, bad, last = state(tmp_path, LOGIN_KEY, line, HOST_KEY).keys
    assert (good.fault, last.fault) == (None, None)
    assert bad.fault
    assert (bad.source, bad.number) == ("PUBLIC_KEY", 2)


def test_a_key_type_that_sshd_no_longer_takes_is_bad(tmp_path: Path) -> None:
    try:
        line = generated("dsa", tmp_path / "key")
    except subprocess.CalledProcessError:
        pytest.skip("this ssh-keygen makes no DSA keys any more")
    (key,) = state(tmp_path / "state", line).keys
    assert key.fault == "a DSA key, which sshd takes no more"


def test_what_was_pasted_by_mistake_is_not_repeated(tmp_path: Path) -> None:
    generated("ed25519", tmp_path / "key")
    lines = (tmp_path / "key").read_text().splitlines()
    faults = "\n".join(key.fault for key in state(tmp_path / "state", "hunter2", *lines).keys)
    assert "hunter2" not in faults
    assert not [line for line in lines if line[:8] in faults]


# --- passwords -------------------------------------------------------------------------------


def test_a_password_that_cannot_be_set_says_why() -> None:
    assert box_state.set_password("nobody-of-that-name", Secret("x"))


def test_no_password_is_no_fault() -> None:
    assert box_state.set_password("nobody-of-that-name", None) is None


def test_without_chpasswd_there_is_no_password(monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert "chpasswd" in box_state.set_password("nobody-of-that-name", Secret("x"))


# --- logs ------------------------------------------------------------------------------------


def test_the_last_lines_of_a_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"\n".join(b"line %d" % n for n in range(100)) + b"\n\xff\n")
    lines = files.last_lines(str(tmp_path / "log"))
    assert lines[-2:] == ["line 99", "\ufffd"]
    assert len(lines) == files.LAST_LINES


def test_a_log_that_is_not_there_has_no_lines(tmp_path: Path) -> None:
    assert files.last_lines(str(tmp_path / "log")) == []


def test_boxes_that_start_at_once_on_one_empty_volume_share_its_secrets(tmp_path: Path) -> None:
    done = run_script(f"""
import os
from launcher.box import state
from launcher.process.fork import fork_to_answer, write_all
def open_it(writer):
    found = state.open_state({str(tmp_path / "state")!r}, [], login_key=False)
    secrets = (found.token.reveal(), found.password.reveal(), found.host_key)
    write_all(writer, repr(secrets).encode())
    return 0
children = [fork_to_answer(open_it) for _ in range(8)]
answers = set()
for pid, reader in children:
    with open(reader, "rb") as stream:
        answers.add(stream.read())
    assert os.waitpid(pid, 0)[1] == 0
print(len(answers), b"ssh-ed25519" in answers.pop())
""")
    assert done.stdout == "1 True\n", done.stderr


def test_a_turn_that_somebody_holds_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.box.kept._PATIENCE", 0.1)
    with Folder(str(tmp_path / "state"), make=0o700) as held:
        fcntl.flock(held.fd, fcntl.LOCK_EX)
        found = box_state.open_state(str(tmp_path / "state"), [], login_key=False)
    assert found.host_key
