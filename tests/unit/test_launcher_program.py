"""image/ours/launcher.c: root's Python starts with nothing that a user could have put there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "image" / "ours" / "launcher.c"
USER = 1234
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="as root, since it is root's programs' way in"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed"),
]
Run = Callable[..., dict[str, str]]
PRINT = """
import json, os, signal, sys
blocked = sorted(number.name for number in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
print(json.dumps([sys.argv, blocked, sys.flags.isolated, dict(os.environ)]))
"""


@pytest.fixture(scope="module")
def home(private_dir: Path) -> Iterator[Path]:
    """Compile it for a folder that only root can change, with all folders above it."""
    made = private_dir / "opt"
    (made / "bin").mkdir(parents=True)
    (made / "bin" / "python").symlink_to(sys.executable)
    for name in ("command.py", "entrypoint.py"):
        (made / name).write_text(PRINT)
    compile_it = ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-static", f'-DHOME="{made}"']
    subprocess.run([*compile_it, "-o", made / "launcher", SOURCE], check=True)
    (made / "entrypoint").symlink_to("launcher")
    private_dir.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def users(home: Path) -> Iterator[Path]:
    """Return a folder that the user owns."""
    made = home / "users"
    made.mkdir()
    os.chown(made, USER, USER)
    yield made
    shutil.rmtree(made)


def started(
    home: Path, environ: Mapping[str, str], *words: str, name: str = "launcher"
) -> tuple[list[str], list[str], bool, dict[str, str]]:
    done = subprocess.run(
        [home / name, *words], env=dict(environ), capture_output=True, text=True, check=True
    )
    argv, blocked, isolated, found = json.loads(done.stdout)
    return argv, blocked, bool(isolated), found


def environment(home: Path, **environ: str) -> dict[str, str]:
    found = started(home, environ)[3]
    return {name: value for name, value in found.items() if name != "LC_CTYPE"}


def aside(**environ: str) -> dict[str, str]:
    return {f"LAUNCHER_SET_ASIDE_{name}": value for name, value in environ.items()}


# --- what it starts --------------------------------------------------------------------------


def test_it_is_the_command_or_the_entrypoint(home: Path) -> None:
    argv, blocked, isolated, _ = started(home, {}, "exec", "--", "a b", "")
    assert argv == [f"{home}/command.py", "exec", "--", "a b", ""]
    assert (blocked, isolated) == ([], True)
    argv, blocked, isolated, _ = started(home, {}, "CMD", name="entrypoint")
    assert argv == [f"{home}/entrypoint.py", "CMD"]
    assert (blocked, isolated) == (["SIGINT", "SIGQUIT", "SIGTERM"], True)


def test_what_is_no_danger_is_handed_on(home: Path) -> None:
    given = {
        "PATH": "/workspace:/bin", "JUPYTER_TOKEN": "x", "LDAP": "/workspace", "EMPTY": "",
        "LD_BIND_NOW": "1", "LD_LIBRARY_PATH": "", "a.dotted-name": "b=c\nd", "ENVIRONMENT": "/x",
        "PYTHONUNBUFFERED": "1",
    }  # fmt: skip
    assert environment(home, **given) == given


@pytest.mark.parametrize(
    "name",
    [
        "LD_LIBRARY_PATH", "LD_PRELOAD", "LD_AUDIT", "LD_DEBUG_OUTPUT", "LD_ANYTHING_NEW",
        "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "GCONV_PATH", "LOCPATH", "NLSPATH",
        "OPENSSL_CONF", "OPENSSL_MODULES", "OPENSSL_ENGINES", "SSLKEYLOGFILE", "MALLOC_TRACE",
        "BASH_ENV", "ENV",
    ],
)  # fmt: skip
def test_what_names_a_place_of_the_user_s_is_set_aside(home: Path, users: Path, name: str) -> None:
    for value in (f"{users}/x", f"{users}", f"/usr/lib/../..{users}", "../x", "/nonexistent/x"):
        found = environment(home, **{name: value})
        assert found == aside(**{name: value})


def test_what_is_root_s_alone_stays(home: Path) -> None:
    """As clusters mount the driver: LD_LIBRARY_PATH=/usr/local/nvidia/lib64."""
    (home / "lib64").mkdir(exist_ok=True)
    given = {"LD_LIBRARY_PATH": f"{home}/lib64", "OPENSSL_CONF": "/etc/passwd"}
    assert environment(home, **given) == given


def test_of_a_list_the_safe_part_stays(home: Path, users: Path) -> None:
    (home / "lib64").mkdir(exist_ok=True)
    (users / "link").symlink_to(home / "lib64")
    value = f"{home}/lib64:{users}:{users}/link::relative"
    assert environment(home, LD_LIBRARY_PATH=value) == {
        "LD_LIBRARY_PATH": f"{home}/lib64:{home}/lib64",  # where the link leads now
        **aside(LD_LIBRARY_PATH=value),
    }
    preload = f"libnothing.so {users}/x.so"
    assert environment(home, LD_PRELOAD=preload) == {
        "LD_PRELOAD": "libnothing.so",
        **aside(LD_PRELOAD=preload),
    }


@pytest.mark.parametrize("mode", [0o775, 0o777, 0o1777])
def test_a_folder_that_a_group_or_everybody_writes_is_not_root_s(home: Path, mode: int) -> None:
    shared = home / "shared"
    shared.mkdir(exist_ok=True)
    (shared / "lib").mkdir(exist_ok=True)
    shared.chmod(mode)
    for value in (f"{shared}", f"{shared}/lib"):
        assert environment(home, LD_LIBRARY_PATH=value) == aside(LD_LIBRARY_PATH=value)


@pytest.mark.parametrize(
    "value", [":" * 5000, "/" * 20_000, "x" * 60_000, "a/" * 20_000, "%s%n$ORIGIN"]
)
def test_hostile_values_are_data(home: Path, value: str) -> None:
    found = environment(home, LD_LIBRARY_PATH=value)
    assert found["LAUNCHER_SET_ASIDE_LD_LIBRARY_PATH"] == value


# --- no code of the user's -------------------------------------------------------------------

CONSTRUCTOR = """
#include <fcntl.h>
#include <unistd.h>
__attribute__((constructor)) static void here(void) { close(open(getenv_("MARK"), O_CREAT, 0644)); }
"""


def test_root_s_python_loads_no_library_of_the_user_s(home: Path, users: Path) -> None:
    mark = users / "loaded"
    source = CONSTRUCTOR.replace('getenv_("MARK")', f'"{mark}"')
    library = users / "libc.so.6"  # what every program asks for, by this name
    build = ["gcc", "-shared", "-fPIC", "-xc", "-o", users / "trap.so", "-"]
    subprocess.run(build, input=source, text=True, check=True)
    for environ in ({"LD_PRELOAD": f"{users}/trap.so"}, {"LD_AUDIT": f"{users}/trap.so"}):
        subprocess.run(["/usr/bin/env", "true"], env=environ, capture_output=True)
        assert mark.exists(), "the trap does not work"
        mark.unlink()
        started(home, environ)
        assert not mark.exists()
    shutil.copy(users / "trap.so", library)
    path = {"LD_LIBRARY_PATH": str(users)}
    assert subprocess.run(["/usr/bin/env", "true"], env=path, capture_output=True).returncode
    started(home, path)
