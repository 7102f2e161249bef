"""The files that give a uid its name: what is in them afterwards, read as the C library does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.model.host import Account
from launcher.model.plan import Identity
from launcher.render.passwd import group_text, passwd_text, shadow_text
from testing.values import replace

DEV = Account("dev", 1000, 1000, "/home/dev", "/bin/bash", (1000,))
MOVED = Account("dev", 1234, 1234, "/home/dev", "/bin/bash", (1234, 44, 1000))
ALICE = Account("alice", 1000, 1000, "/home/alice", "/bin/bash", (1000,))
OVER_WWW = Account("alice", 33, 33, "/home/alice", "/bin/bash", (33, 1000))

PASSWD = """\
root:x:0:0:root:/root:/bin/bash
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
dev:x:1000:1000::/home/dev:/bin/bash
"""
GROUP = """\
root:x:0:
www-data:x:33:
video:x:44:dev,bob
dev:x:1000:
"""
SHADOW = """\
root:*:19000:0:99999:7:::
dev:$6$salt$hash:19000:0:99999:7:::
"""


def names(text: str) -> list[str]:
    return [line.partition(":")[0] for line in text.splitlines()]


def test_a_new_uid_takes_the_place_of_the_old_one() -> None:
    found = Identity(MOVED, "", group="dev1234", former=DEV)
    text = passwd_text(PASSWD, found)
    assert "dev:x:1234:1234::/home/dev:/bin/bash" in text.splitlines()
    assert sorted(names(text)) == ["dev", "root", "www-data"]
    groups = group_text(GROUP, found).splitlines()
    assert {"dev1234:x:1234:", "dev:x:1000:dev"} <= set(groups)
    assert shadow_text(SHADOW, found).splitlines()[-1] == SHADOW.splitlines()[-1]


def test_a_new_name_takes_the_old_ones_password_and_groups() -> None:
    found = Identity(ALICE, "", group="dev", former=DEV)
    assert names(passwd_text(PASSWD, found)) == ["root", "www-data", "alice"]
    assert shadow_text(SHADOW, found).splitlines()[-1].startswith("alice:$6$salt$hash:")
    assert "dev" not in group_text(GROUP, found).replace("dev:x", "")


def test_of_two_names_of_a_uid_ours_is_the_first() -> None:
    found = Identity(OVER_WWW, "", group="lab", former=DEV)
    assert names(passwd_text(PASSWD, found)) == ["root", "alice", "www-data"]
    assert names(group_text(GROUP, found))[:3] == ["root", "lab", "www-data"]


def test_a_group_without_a_name_gets_one() -> None:
    """As --group-add 2000 and a pod's fsGroup: a login must be in it too."""
    found = Identity(replace(DEV, groups=(1000, 2000)), "", group="dev", former=DEV)
    text = group_text(GROUP, found)
    assert "group2000:x:2000:dev" in text.splitlines()
    assert group_text(text, found) == text


def test_nobody_is_locked() -> None:
    """sshd without PAM refuses an account whose password begins with "!"."""
    line = shadow_text(SHADOW, Identity(OVER_WWW, "", former=None)).splitlines()[-1]
    assert line.split(":")[:2] == ["alice", "*"]
    assert len(line.split(":")) == 9


def test_root_s_home_is_another_and_the_comment_stays() -> None:
    """NB_USER=root."""
    root = Account("root", 0, 0, "/root", "/bin/bash", (0,))
    found = Identity(root._replace(home="/home/root"), "", group="root", former=root)
    text = passwd_text(PASSWD, found)
    assert text == PASSWD.replace(":/root:", ":/home/root:")
    assert shadow_text(SHADOW, found).splitlines()[0] == SHADOW.splitlines()[0]
    assert group_text(GROUP, found) == GROUP


def test_roots_line_is_never_taken() -> None:
    root = Account("root", 0, 0, "/root", "/bin/bash", (0,))
    assert names(passwd_text(PASSWD, Identity(ALICE, "", group="x", former=root)))[0] == "root"


@pytest.mark.parametrize("change", [passwd_text, group_text, shadow_text])
@given(text=st.text(st.sampled_from("ab:1,\n\udcff"), max_size=80))
def test_writing_twice_is_writing_once_whatever_was_there(change, text) -> None:
    found = Identity(MOVED, "", group="dev1234", former=DEV)
    once = change(text, found)
    assert change(once, found) == once
    assert once.endswith("\n")


def test_the_c_library_reads_the_answer(tmp_path: Path) -> None:
    """getent reads /etc; the wrapper, where it is installed, reads ours."""
    libraries = sorted(Path("/usr/lib").glob("*/libnss_wrapper.so"))
    if not libraries:
        pytest.skip("libnss-wrapper is not installed")
    found = Identity(MOVED, "", group="dev1234", former=DEV)
    (tmp_path / "passwd").write_text(passwd_text(PASSWD, found))
    (tmp_path / "group").write_text(group_text(GROUP, found))
    code = (
        "import grp, os, pwd; p = pwd.getpwuid(1234); print(p.pw_name, p.pw_gid, p.pw_dir,"
        "grp.getgrgid(1234).gr_name, sorted(os.getgrouplist('dev', 1234)))"
    )
    env = {
        "LD_PRELOAD": str(libraries[0]),
        "NSS_WRAPPER_PASSWD": str(tmp_path / "passwd"),
        "NSS_WRAPPER_GROUP": str(tmp_path / "group"),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout == "dev 1234 /home/dev dev1234 [44, 1000, 1234]\n"
