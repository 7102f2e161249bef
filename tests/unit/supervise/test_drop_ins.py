"""The files of supervisor.d: what is taken, and what is refused before anything starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.model.errors import BadSetting
from launcher.model.plan import Supervision
from launcher.supervise import drop_ins

Check = Callable[..., bytes]
DEFAULTS = Supervision()


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Check a folder with these files: NAME="text of NAME.conf"."""

    def of(supervision: Supervision = DEFAULTS, **files: str) -> bytes:
        for name, text in files.items():
            (tmp_path / f"{name}.conf").write_bytes(text.encode("latin-1"))
        return drop_ins.check_drop_ins(supervision, str(tmp_path))

    return of


ACCEPTED = """
[program:tensorboard]
command=tensorboard --logdir 'runs ;  %(nothing)s'
[program:mail]
[group:both]
programs=tensorboard, mail
  [inet_http_server]
"""


def test_programs_of_every_kind_are_taken(check: Check, tmp_path: Path) -> None:
    check(a="# nothing\n", b="[program:one]\ncommand=cat\n[program: two ]\n")
    (tmp_path / "c.conf").write_text(ACCEPTED)
    (tmp_path / "not-read.txt").write_text("[inet_http_server]\n")
    check()
    assert [each.name for each in drop_ins.read_drop_ins(str(tmp_path))] == [
        "one", "two", "tensorboard", "mail", "both",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "section",
    [
        "inet_http_server", "unix_http_server", "supervisord", "supervisorctl", "include",
        "program", "program:", "rpcinterface:supervisor", "DEFAULT", "Program:x", "ctlplugin:x",
        " program:x", "eventlistener:x", "fcgi-program:x",
    ],
)  # fmt: skip
def test_other_sections_are_refused_by_name(check: Check, tmp_path: Path, section: str) -> None:
    with pytest.raises(BadSetting) as refused:
        check(fine="[program:fine]\ncommand=cat\n", bad=f"[{section}]\nport=*:9001\n")
    said = str(refused.value)
    assert said.startswith(f"{tmp_path}/bad.conf: [{section}] is not accepted")
    assert "[program:NAME]" in said


@pytest.mark.parametrize(
    ("kind", "instead"),
    [("eventlistener", "launcher status --json"), ("fcgi-program", "opens its socket itself")],
)
def test_what_else_supervisor_runs_is_refused_with_what_does_the_same(
    check: Check, kind: str, instead: str
) -> None:
    with pytest.raises(BadSetting, match=instead) as refused:
        check(bad=f"[{kind}:mine]\ncommand=cat\n")
    assert "Use a [program:NAME] " in str(refused.value)


def test_an_indented_section_is_one_too(check: Check) -> None:
    """configparser takes it for a section where no option is above it, and so will supervisor."""
    with pytest.raises(BadSetting, match="inet_http_server"):
        check(bad="  [inet_http_server]\nport=*:9001\n")


@pytest.mark.parametrize("name", ["jupyter", "sshd", "ssh", "watch", "post_start", "box"])
@pytest.mark.parametrize("kind", ["program", "group"])
def test_our_names_are_taken(check: Check, name: str, kind: str) -> None:
    with pytest.raises(BadSetting, match=rf"\[{kind}:{name}\] uses the name {name}, "):
        check(bad=f"[{kind}:{name}]\ncommand=cat\n")


def test_a_group_takes_no_program_of_ours(check: Check) -> None:
    with pytest.raises(BadSetting, match=r"\[group:mine\] uses the name sshd"):
        check(bad="[group:mine]\nprograms=mine,sshd\n[program:mine]\ncommand=cat\n")


@pytest.mark.parametrize("text", ["nonsense\n", "[program:x\n", "[program:x]\ncommand=\xff\n"])
def test_a_file_that_cannot_be_read_is_named(check: Check, tmp_path: Path, text: str) -> None:
    with pytest.raises(BadSetting, match=rf"^cannot read {tmp_path}/bad\.conf: ") as refused:
        check(bad=text)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("supervision", "setting", "unknown"),
    [
        (Supervision(programs=("jupyter", "mine", "yours")), "LAUNCHER_SERVICES", "yours"),
        (Supervision(required=("sshd", "yours")), "LAUNCHER_REQUIRED_SERVICES", "yours"),
        (Supervision(required=("watch",)), "LAUNCHER_REQUIRED_SERVICES", "watch"),
    ],
)
def test_an_unknown_service_is_answered_with_what_there_is(
    check: Check, supervision: Supervision, setting: str, unknown: str
) -> None:
    words = f"{setting} names {unknown}, which is no service here: there are jupyter, ssh, mine"
    with pytest.raises(BadSetting, match=words):
        check(supervision, mine="[program:mine]\ncommand=cat\n")


def test_services_that_are_there_may_be_named(check: Check) -> None:
    known = Supervision(programs=("ssh", "mine"), required=("jupyter", "sshd", "mine"))
    check(known, mine="[program:mine]\ncommand=cat\n")


def test_safe_mode_reads_nothing(check: Check, tmp_path: Path) -> None:
    safe = Supervision(programs=("yours",), safe_mode=True)
    check(safe, bad="[inet_http_server]\n")
    assert drop_ins.pattern(safe, str(tmp_path)) == ""


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["launcher", "exec", "--", "echo", "a b"], ["echo", "a b"]),
        (["/opt/launcher/bin/launcher", "exec", "--", "--help"], ["--help"]),
        (["launcher", "exec", "--"], None),
        (["launcher", "exec", "jupyter"], None),
        (["echo", "exec", "--", "x"], None),
        ([], None),
    ],
)
def test_a_command_that_asks_for_the_user_is_not_wrapped_twice(argv, command) -> None:
    assert drop_ins.command_for_the_user(argv) == command
