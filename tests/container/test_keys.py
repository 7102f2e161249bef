"""Where public keys come from, and `launcher keys` in a running box."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from testing.container.banner import unwrapped
from testing.container.box import SSH_ALONE, Box, Boxes
from testing.container.login import KeyPair, Login, login, make_key
from tests.unit.box.test_ssh_keys import made_up_key

KEYS_DIR = "/etc/launcher/authorized_keys.d"
# What people paste by mistake.
GARBAGE = "my laptop's key"
UNKNOWN_TYPE = (
    "ssh-ed448 AAAACXNzaC1lZDQ0OAAAADkAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA laptop"
)
VARIABLES = (
    "PUBLIC_KEY", "SSH_PUBLIC_KEY", "SSH_PUBLIC_KEYS", "SSH_PUBKEY", "SSH_KEY", "AUTHORIZED_KEYS",
)  # fmt: skip


def is_let_in(box: Box, key: KeyPair) -> bool:
    return Login(box.port(22), key=key).is_let_in()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> list[KeyPair]:
    """Make a key for each source, of three kinds."""
    folder = tmp_path_factory.mktemp("keys")
    kinds = ("ed25519", "ecdsa", "rsa")
    return [make_key(folder, kinds[number % 3 if number < 3 else 0]) for number in range(14)]


# --- sources ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def merged(shared_box: Boxes, keys: list[KeyPair], tmp_path_factory: pytest.TempPathFactory) -> Box:
    """Start a box with a key from every source at once, and some things that are none."""
    folder = tmp_path_factory.mktemp("sources")
    for name in ("mounted", "more"):
        (folder / name).mkdir()
    (folder / "mounted" / "team").write_text(
        f"# the team\r\n\r\n{keys[6].public}\r\n{keys[7].public}\r\n"
    )
    (folder / "more" / "bob").write_text(f"{keys[8].public}\n{UNKNOWN_TYPE}\nssh-ed25519 AAAA\n")
    (folder / "one.pub").write_text(f'command="echo forced",no-pty {keys[9].public}\n')
    values = {name: key.public for name, key in zip(VARIABLES, keys, strict=False)}
    values["PUBLIC_KEY"] = f"{keys[0].public}\\n{keys[10].public}\\n{keys[1].public}"
    values["SSH_KEY"] = f"{keys[4].public}\n{keys[11].private.read_text()}"
    values["AUTHORIZED_KEYS"] = f"{GARBAGE}\n{keys[5].public}\nnull"
    return shared_box(
        *("-v", f"{folder}/mounted:{KEYS_DIR}:ro", "-v", f"{folder}:/sources:ro"),
        env={**values, "PUBLIC_KEY_DIR": "/sources/more", "PUBLIC_KEY_FILE": "/sources/one.pub"},
    )


def test_a_key_of_every_source_lets_in(merged: Box, keys: list[KeyPair]) -> None:
    """Six variables, one with written line ends, a file, two folders: twelve, one of them twice."""
    assert "   11 public keys may log in" in merged.wait_for_banner()
    let_in = [number for number, key in enumerate(keys) if number != 9 and is_let_in(merged, key)]
    assert let_in == [0, 1, 2, 3, 4, 5, 6, 7, 8, 10]


def test_options_are_kept(merged: Box, keys: list[KeyPair]) -> None:
    assert login(merged, keys[9]).ssh("id -un").stdout == "forced\n"


def test_what_is_no_key_is_named_by_source_and_line(merged: Box) -> None:
    said = unwrapped(merged.wait_for_banner())
    assert "AUTHORIZED_KEYS line 1: not a public key: this key cannot log in" in said
    assert "/sources/more/bob line 2: not a valid ssh-ed448 key: this key cannot log in" in said
    assert "/sources/more/bob line 3: not a valid ssh-ed25519 key: this key cannot log in" in said
    assert "SSH_KEY line 2: a private key: nobody can log in with it" in said
    assert said.count("cannot log in") == 3


def test_a_private_key_is_not_shown(merged: Box, keys: list[KeyPair]) -> None:
    """The log may be kept, and read by others; logins and notebooks do not have it either."""
    merged.wait_for_banner()
    log, plan = merged.logs(), merged.exec("cat", "/run/launcher/plan.json").stdout
    inside = login(merged, keys[0]).ssh("env").stdout
    private = keys[11].private.read_text().splitlines()[1:-1]
    assert [line for line in private if line in log + plan + inside] == []


def test_keys_of_a_users_own_file_count_besides(merged: Box, keys: list[KeyPair]) -> None:
    merged.wait_for_banner()
    assert not is_let_in(merged, keys[12])
    write = "umask 077; mkdir -p ~/.ssh; cat > ~/.ssh/authorized_keys"
    merged.exec("bash", "-lc", write, user="dev", stdin=f"{keys[12].public}\n")
    merged.exec("sh", "-c", "test -O /home/dev/.ssh/authorized_keys", user="dev")
    assert is_let_in(merged, keys[12])
    assert is_let_in(merged, keys[0])


def test_only_bad_keys_open_nothing(box: Boxes) -> None:
    """Somebody who set a key wants keys: a password in its place would surprise."""
    started = box(*SSH_ALONE, "-e", f"SSH_PUBKEY={GARBAGE}")
    banner = started.wait_for_banner()
    assert "nobody can log in: no key, and no password (keys are set, so keys only)" in banner
    assert "SSH_PUBKEY line 1: not a public key" in unwrapped(banner)
    assert "   password " not in banner


@pytest.mark.alone  # it measures how long the start takes
def test_a_megabyte_of_keys_does_not_hold_the_start(
    box: Boxes, keys: list[KeyPair], tmp_path: Path
) -> None:
    path = tmp_path / "everybody"
    path.write_text("".join(f"{made_up_key(n)}\n" for n in range(11_000))[:1_000_000])
    path.write_text(path.read_text().rpartition("\n")[0] + f"\n{keys[0].public}\n")
    started = box("-v", f"{path}:/keys:ro", "-e", "PUBLIC_KEY_FILE=/keys")
    after = re.search(r"after ([\d.]+) s", started.wait_for_banner())
    assert after
    print(f"banner after {after[1]} s")
    assert float(after[1]) < 10, "a process for each key would take a minute"
    begin = time.monotonic()
    assert is_let_in(started, keys[0])
    print(f"login with the last key in {time.monotonic() - begin:.2f} s")


# --- a running box ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def running(shared_box: Boxes, keys: list[KeyPair], state: Path) -> Box:
    return shared_box(
        *SSH_ALONE, "-v", f"{state}:/var/lib/launcher", "-e", f"PUBLIC_KEY={keys[0].public}"
    )


def test_a_key_is_added_to_a_running_box_by_whoever_may_sudo(
    running: Box, keys: list[KeyPair]
) -> None:
    access = login(running, keys[0])
    refused = access.ssh("launcher keys list")
    assert refused.returncode == 78
    assert "sudo launcher" in refused.stderr
    assert not is_let_in(running, keys[7])
    added = access.ssh("sudo launcher keys add", stdin=f"{keys[7].public}\n{keys[8].public}\n")
    assert added.stdout.count("added SHA256:") == 2, added.stderr
    assert is_let_in(running, keys[7])
    assert is_let_in(running, keys[8])
    listed = access.ssh("sudo launcher keys list").stdout
    assert listed.count("(launcher keys)") == 2
    assert listed.count("(PUBLIC_KEY)") == 1


def test_a_removed_key_is_refused_at_once(running: Box, keys: list[KeyPair]) -> None:
    access = login(running, keys[0])
    access.ssh("sudo launcher keys add", stdin=keys[3].public)
    assert is_let_in(running, keys[3])
    blob = keys[3].public.split()[1]
    found = running.exec("ssh-keygen", "-lf", "-", stdin=f"ssh-ed25519 {blob}\n").stdout.split()[1]
    assert running.exec("launcher", "keys", "remove", found).stdout.startswith("removed ")
    assert not is_let_in(running, keys[3])


def test_added_keys_outlive_a_reload_and_a_restart(running: Box, keys: list[KeyPair]) -> None:
    login(running, keys[0]).ssh("sudo launcher keys add", stdin=keys[4].public)
    before = running.logs().count("Received SIGHUP")  # of an RSA key that came late
    running.kill("HUP")
    running.wait_for_log("launcher: keys and configuration reloaded")
    again = "Received SIGHUP.*" * (before + 1)
    running.wait_for_log(f"(?s){again}Server listening")  # it hears nobody in between
    assert is_let_in(running, keys[4])
    running.restart()
    assert running.exec("true").returncode == 0
    running.wait_for_log(r"(?s)reloaded.*may log in.*═{80}")
    assert is_let_in(running, keys[4])
    assert is_let_in(running, keys[0])


def test_a_key_that_left_the_environment_is_gone(
    box: Boxes, running: Box, keys: list[KeyPair], state: Path
) -> None:
    """In a new container with the same state; what was added stays."""
    login(running, keys[0]).ssh("sudo launcher keys add", stdin=keys[5].public)
    running.stop()
    second = box(*SSH_ALONE, "-v", f"{state}:/var/lib/launcher", "-e", f"SSH_KEY={keys[6].public}")
    second.wait_for_banner()
    assert [is_let_in(second, keys[number]) for number in (0, 5, 6)] == [False, True, True]
