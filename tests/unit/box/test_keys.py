"""`launcher keys` in a running box: what sshd reads, what outlives a restart, what is refused."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.box import files, keys
from launcher.box import state as box_state
from launcher.model import state_files
from launcher.model.errors import BadSetting
from launcher.model.machine import GpuReport
from launcher.model.plan import KeyLine
from launcher.model.public_key import fingerprint
from launcher.plan.plan import make_plan
from launcher.render.files import render
from testing.machines import HOST_KEY, LOGIN_KEY, machine, outset, settings

ROOT = Path(__file__).parents[3]
ALICE = f"{LOGIN_KEY} alice@laptop"
BOB = f"{HOST_KEY} bob"


class Box:
    """The files of a running box, and what `launcher keys` does to them."""

    def __init__(self, directory: Path, environ: dict[str, str]) -> None:
        self.run, self.state = directory / "run", directory / "state"
        self.environ = {
            **environ,
            "LAUNCHER_RUN_DIR": str(self.run),
            "LAUNCHER_STATE_DIR": str(self.state),
        }
        self.start()

    def start(self) -> None:
        chosen = settings(self.environ)
        state = box_state.open_state(str(self.state), chosen.key_lines, login_key=False)
        plan = make_plan(outset(machine(GpuReport()), chosen), state)
        files.write([file for file in render(plan) if file.uid <= 0])

    def keys(self, *words: str, stdin: str = "") -> str:
        return keys.run_keys_command(words, lambda: stdin)

    def let_in(self) -> list[str]:
        return (self.run / "ssh" / "authorized_keys").read_text().splitlines()


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    """Return a box whose settings let Alice in."""
    monkeypatch.setenv("LAUNCHER_RUN_DIR", str(tmp_path / "run"))
    return Box(tmp_path, {"PUBLIC_KEY": ALICE})


@pytest.mark.parametrize("by", ["words", "one-word", "stdin", "dash"])
def test_a_key_is_added_at_once_and_for_the_next_start(box: Box, by: str) -> None:
    words = {"words": BOB.split(), "one-word": [BOB], "stdin": [], "dash": ["-"]}[by]
    said = box.keys("add", *words, stdin=f"\n{BOB}\n")
    assert said == f"added {fingerprint(HOST_KEY)}  ssh-ed25519  bob  (launcher keys)"
    assert box.let_in() == [ALICE, BOB]
    box.start()
    assert box.let_in() == [ALICE, BOB]


def test_what_was_added_is_roots(box: Box) -> None:
    box.keys("add", BOB)
    kept = box.state / state_files.ADDED_KEYS
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE((box.run / "ssh" / "authorized_keys").stat().st_mode) == 0o644
    assert sorted(os.listdir(box.run / "ssh")) == ["authorized_keys", "sshd_config"]


def test_adding_twice_changes_nothing(box: Box) -> None:
    box.keys("add", BOB)
    assert box.keys("add", f"{HOST_KEY} robert").startswith("here already: ")
    assert box.keys("add", ALICE).startswith("here already: ")
    assert box.let_in() == [ALICE, BOB]


@pytest.mark.parametrize("by", ["fingerprint", "comment", "line"])
def test_a_key_is_removed(box: Box, by: str) -> None:
    box.keys("add", BOB)
    wanted = {"fingerprint": fingerprint(HOST_KEY), "comment": "bob", "line": BOB}[by]
    assert box.keys("remove", *wanted.split()).startswith("removed ")
    assert box.let_in() == [ALICE]
    box.start()
    assert box.let_in() == [ALICE]


def test_a_key_of_a_source_is_removed_there(box: Box) -> None:
    with pytest.raises(BadSetting, match="comes from PUBLIC_KEY; take it out there"):
        box.keys("remove", "alice@laptop")
    assert box.let_in() == [ALICE]


def test_a_key_that_a_source_has_too_stays(box: Box) -> None:
    box.keys("add", BOB)
    box.environ["SSH_KEY"] = BOB
    box.start()
    assert "still let in by SSH_KEY" in box.keys("remove", "bob")
    assert box.let_in() == [ALICE, BOB]


def test_a_key_that_left_the_environment_is_gone_and_an_added_one_is_not(box: Box) -> None:
    box.keys("add", BOB)
    del box.environ["PUBLIC_KEY"]
    box.start()
    assert box.let_in() == [BOB]


def test_an_added_key_means_keys_only(box: Box) -> None:
    """As one from the environment does."""
    box.keys("add", BOB)
    del box.environ["PUBLIC_KEY"]
    box.start()
    assert "PasswordAuthentication no" in (box.run / "ssh" / "sshd_config").read_text()


def test_the_list_names_each_source(box: Box) -> None:
    box.environ["SSH_KEY"] = "garbage"
    box.start()
    box.keys("add", BOB)
    assert box.keys("list").splitlines() == [
        f"{fingerprint(LOGIN_KEY)}  ssh-ed25519  alice@laptop  (PUBLIC_KEY)",
        "SSH_KEY line 1: not a public key",
        f"{fingerprint(HOST_KEY)}  ssh-ed25519  bob  (launcher keys)",
        "and the keys in ~/.ssh/authorized_keys of each user",
    ]


def test_a_comment_cannot_write_on_the_terminal(box: Box) -> None:
    assert "\x1b" not in box.keys("add", f"{HOST_KEY} \x1b[31mred")
    assert "\x1b" not in box.keys("list")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param((), "usage", id="nothing"),
        pytest.param(("frobnicate",), "usage", id="unknown"),
        pytest.param(("list", "all"), "usage", id="list-has-no-argument"),
        pytest.param(("remove",), "usage", id="remove-what"),
        pytest.param(("remove", "carol"), "no such key", id="remove-a-stranger"),
        pytest.param(("add",), "no key is given", id="an-empty-stdin"),
        pytest.param(("add", "hunter2"), "not a public key", id="garbage"),
        pytest.param(("add", f"{BOB}\n{LOGIN_KEY[:50]}"), "line 2", id="one-of-two-is-bad"),
        pytest.param(
            ("add", "-----BEGIN RSA PRIVATE KEY-----\nAAAA"), "a private key", id="private"
        ),
    ],
)
def test_what_is_refused_changes_nothing(box: Box, words: tuple[str, ...], says: str) -> None:
    with pytest.raises(BadSetting) as bad:
        box.keys(*words)
    assert says in str(bad.value)
    assert "hunter2" not in str(bad.value)
    assert box.let_in() == [ALICE]
    assert not (box.state / state_files.ADDED_KEYS).exists()


def test_two_at_once_undo_nothing_of_each_other(box: Box) -> None:
    made = []
    for number in range(8):
        path = box.state / f"test-{number}"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
        made.append(path.with_suffix(".pub").read_text().strip())
    command = [sys.executable, "-m", "launcher.cli.main", "keys", "add"]
    env = {**os.environ, "LAUNCHER_RUN_DIR": str(box.run)}
    running = [subprocess.Popen([*command, key], env=env, cwd=ROOT) for key in made]
    assert [process.wait(timeout=60) for process in running] == [0] * len(made)
    assert set(box.let_in()) == {ALICE, *made}


def test_where_no_box_runs_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAUNCHER_RUN_DIR", str(tmp_path))
    with pytest.raises(BadSetting, match="no box runs here"):
        keys.run_keys_command(["list"], lambda: "")


def test_added_keys_are_numbered_as_they_are_kept(box: Box) -> None:
    box.keys("add", BOB)
    assert list(box_state.added_keys(str(box.state))) == [KeyLine("launcher keys", 1, BOB)]
