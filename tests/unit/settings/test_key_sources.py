"""Public keys as people and platforms send them: what counts as a line, and from where."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.model.errors import BadSetting
from launcher.model.plan import KeyLine
from launcher.model.public_key import OTHER_FORMAT, PRIVATE_KEY
from launcher.settings import key_sources
from launcher.settings import load as settings_load
from launcher.settings.table import TABLE
from testing.strategies import values

ALICE = "ssh-ed25519 AAAA alice"
BOB = "ecdsa-sha2-nistp256 AAAA bob"
TOKEN = "sk-ssh-ed25519@openssh.com AAAA token"
PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaA\nQQ==\n-----END OPENSSH PRIVATE KEY-----"
PUTTY = (
    "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nPrivate-Lines: 1\nAAAA\nPrivate-MAC: 00"
)
SSH2 = '---- BEGIN SSH2 PUBLIC KEY ----\nComment: "me"\nAAAA\n---- END SSH2 PUBLIC KEY ----'
PEM = "-----BEGIN RSA PUBLIC KEY-----\nAAAA\n-----END RSA PUBLIC KEY-----"

NAMES = next((row.name, *row.aliases) for row in TABLE if row.field == "public_key")


def texts(value: str) -> list[tuple[int, str]]:
    return [(line.number, line.text) for line in key_sources.split("PUBLIC_KEY", value)]


def load(**environ: str) -> settings_load.Settings:
    return settings_load.load_settings({"LAUNCHER_KEYS_DIR": "/nonexistent", **environ})


# --- lines -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        pytest.param(f"{ALICE}\n{BOB}", [(1, ALICE), (2, BOB)], id="two-lines"),
        pytest.param(f"{ALICE}\r\n{BOB}\r\n", [(1, ALICE), (2, BOB)], id="from-windows"),
        pytest.param(f"\ufeff{ALICE}", [(1, ALICE)], id="with-a-byte-order-mark"),
        pytest.param(f"{ALICE}\\n{BOB}\\n{TOKEN}", [(1, ALICE), (2, BOB), (3, TOKEN)], id="as-\\n"),
        pytest.param(f"{ALICE}\\n", [(1, ALICE)], id="ends-in-\\n"),
        pytest.param(f"{ALICE}\\n\\n# bob\\n{BOB}", [(1, ALICE), (4, BOB)], id="\\n-and-comment"),
        pytest.param("ssh-rsa AA corp\\nick", [(1, "ssh-rsa AA corp\\nick")], id="a-windows-name"),
        pytest.param(
            f"command=\"printf '\\n# x'\" {ALICE}",
            [(1, f"command=\"printf '\\n# x'\" {ALICE}")],
            id="\\n-in-an-option",
        ),
        pytest.param(f'"{ALICE}"', [(1, ALICE)], id="quoted-by---env-file"),
        pytest.param(f"'{ALICE}\n{BOB}'", [(1, ALICE), (2, BOB)], id="quoted-lines"),
        pytest.param(f"\n# team\n\n  {ALICE}\t\n", [(4, ALICE)], id="comments-and-blanks"),
        pytest.param("null", [], id="null"),
        pytest.param(f"null\n{ALICE}", [(2, ALICE)], id="null-and-a-key"),
        pytest.param(f"{ALICE} \u2028x", [(1, f"{ALICE} \u2028x")], id="no-line-end-of-sshds"),
        pytest.param(
            f'restrict,from="a b" {ALICE}', [(1, f'restrict,from="a b" {ALICE}')], id="opt"
        ),
    ],
)
def test_lines(value: str, lines: list[tuple[int, str]]) -> None:
    assert texts(value) == lines


@pytest.mark.parametrize(
    ("block", "what"),
    [
        pytest.param(PRIVATE, PRIVATE_KEY, id="private"),
        pytest.param(PRIVATE.replace("OPENSSH", "RSA"), PRIVATE_KEY, id="private-pem"),
        pytest.param(PRIVATE.replace("\n", "\\n"), PRIVATE_KEY, id="private-with-\\n"),
        pytest.param(PRIVATE.replace("\n", " "), PRIVATE_KEY, id="private-in-one-line"),
        pytest.param(f'"{PRIVATE}"', PRIVATE_KEY, id="private-quoted"),
        pytest.param(PUTTY, PRIVATE_KEY, id="putty"),
        pytest.param(SSH2, OTHER_FORMAT, id="ssh2-public"),
        pytest.param(PEM, OTHER_FORMAT, id="pem-public"),
    ],
)
def test_a_block_is_one_line_without_its_content(block: str, what: str) -> None:
    assert list(key_sources.split("SSH_KEY", block)) == [KeyLine("SSH_KEY", 1, "", what)]


def test_after_a_block_keys_count_again() -> None:
    block, alice = key_sources.split("SSH_KEY", f"{PRIVATE}\n{ALICE}")
    assert block.fault == PRIVATE_KEY
    assert alice == KeyLine("SSH_KEY", 5, ALICE)


def test_a_block_that_never_ends_swallows_the_rest() -> None:
    (only,) = key_sources.split("SSH_KEY", "-----BEGIN RSA PRIVATE KEY-----\nAAAA\nBBBB")
    assert (only.text, only.fault) == ("", PRIVATE_KEY)


@given(st.one_of(values, st.text(st.sampled_from('"\\n# -a\r\n\ufeff'))))
def test_any_text_gives_lines_without_line_ends(text: str) -> None:
    for line in key_sources.split("PUBLIC_KEY", text):
        assert line.text or line.fault
        assert not set(line.text) & {"\n", "\r"}


@pytest.mark.parametrize(
    "text",
    ['\\"' * 500_000, '"\\n' * 300_000, "\\n " * 300_000, "\n" * 10**6],
    ids=["quotes", "quotes and written line ends", "written line ends", "line ends"],
)
def test_a_megabyte_of_anything_takes_no_time(text: str) -> None:
    begin = time.process_time()  # ours alone: the machine may be busy
    assert list(key_sources.split("PUBLIC_KEY", text)) is not None
    assert time.process_time() - begin < 3


# --- sources ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_a_source(name: str) -> None:
    settings = load(**{name: ALICE})
    assert settings.key_lines == (KeyLine(name, 1, ALICE),)
    assert settings.key_source_set


def test_all_sources_add_up(tmp_path: Path) -> None:
    for folder in ("mounted", "more"):
        (tmp_path / folder / "..data").mkdir(parents=True)  # Kubernetes' own
        (tmp_path / folder / ".hidden").write_text(BOB)
        (tmp_path / folder / "team").write_text(f"# {folder}\n{ALICE}\n")
    (tmp_path / "one.pub").write_text(TOKEN)
    files = {
        "LAUNCHER_KEYS_DIR": str(tmp_path / "mounted"),
        "PUBLIC_KEY_DIR": str(tmp_path / "more"),
        "PUBLIC_KEY_FILE": str(tmp_path / "one.pub"),
    }
    settings = load(**files, **dict.fromkeys(NAMES, f"{ALICE}\n{BOB}"))
    sources = {(line.source, line.number) for line in settings.key_lines}
    assert sources == {
        *((name, number) for name in NAMES for number in (1, 2)),
        (str(tmp_path / "mounted" / "team"), 2),
        (str(tmp_path / "more" / "team"), 2),
        (str(tmp_path / "one.pub"), 1),
    }


@pytest.mark.parametrize(("text", "is_set"), [("null", True), ("", False), (" \n", False)])
def test_null_is_a_source_without_a_key(text: str, is_set: bool) -> None:
    settings = load(SSH_PUBKEY=text)
    assert settings.key_lines == ()
    assert settings.key_source_set is is_set


@pytest.mark.parametrize("name", ["PUBLIC_KEY_FILE", "PUBLIC_KEY_DIR"])
def test_a_path_that_was_named_and_is_not_there_ends_the_start(name: str) -> None:
    with pytest.raises(BadSetting) as bad:
        load(**{name: "/nonexistent/keys"})
    assert bad.value.exit_code == 78
    assert f"{name}='/nonexistent/keys': cannot read it" in str(bad.value)


def test_a_file_in_a_folder_that_cannot_be_read_still_means_keys_only(tmp_path: Path) -> None:
    (tmp_path / "alice").symlink_to(tmp_path / "nowhere")
    settings = load(LAUNCHER_KEYS_DIR=str(tmp_path))
    assert settings.key_source_set
    assert "alice" in settings.warnings[0]


def test_a_file_larger_than_a_mebibyte_is_said(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"{ALICE}\n" * 60_000)
    settings = load(PUBLIC_KEY_FILE=str(tmp_path / "keys"))
    assert "only its first MiB" in settings.warnings[0]
    assert len(settings.key_lines) > 40_000


def test_lines_that_are_more_than_any_file_of_keys_has_are_passed_over() -> None:
    *keys, rest = key_sources.split("PUBLIC_KEY", "x\n" * (key_sources.MOST_KEYS + 5))
    assert len(keys) == key_sources.MOST_KEYS
    assert (rest.number, rest.text) == (key_sources.MOST_KEYS + 1, "")
    assert rest.fault == "only the first 50000 keys are read"


def a_pipe(folder: Path) -> str:
    """Make a pipe that nobody writes to: to read it would be to wait for ever."""
    path = folder / "pipe"
    os.mkfifo(path)
    return str(path)


@pytest.mark.parametrize("name", ["PUBLIC_KEY_FILE", "JUPYTER_TOKEN_FILE"])
@pytest.mark.parametrize("odd", ["pipe", "/dev/zero", "/dev/random", "/dev/full"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, name: str, odd: str) -> None:
    path = a_pipe(tmp_path) if odd == "pipe" else odd
    with pytest.raises(BadSetting, match=f"{name}='{path}': cannot read it: it is no file"):
        load(**{name: path})


def test_a_pipe_among_key_files_is_named_and_not_waited_for(tmp_path: Path) -> None:
    path = a_pipe(tmp_path)
    settings = load(PUBLIC_KEY_DIR=str(tmp_path))
    assert settings.key_lines == ()
    assert f"{path}: cannot read it: it is no file; its keys may not log in" in settings.warnings


def test_the_null_device_is_a_source_without_keys() -> None:
    settings = load(PUBLIC_KEY_FILE="/dev/null")
    assert settings.key_lines == ()
    assert settings.key_source_set


def test_a_private_key_is_not_among_the_settings_that_are_printed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSH_KEY", PRIVATE)
    assert "b3Blbn" not in "\n".join(settings_load.as_text(settings_load.describe()))
    assert "PUBLIC_KEY = *** (from SSH_KEY)" in list(
        settings_load.as_text(settings_load.describe())
    )
