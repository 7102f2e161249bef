"""Which of the container's variables the user's programs get."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.model.errors import BadSetting
from launcher.model.plan import EnvVar
from launcher.plan.environment import (
    OF_A_PROCESS,
    WAYS_IN,
    Inherited,
    inherit,
    service_links,
    too_large_notes,
)
from launcher.settings import load
from testing.machines import CASES, Case, settings
from testing.strategies import names, values

STACK = 8 << 20  # bytes: what Docker gives by default
BUDGET = STACK // 4 * 3 // 4


def inherited(environ: Mapping[str, str], stack: int | None = STACK) -> Inherited:
    return inherit(settings(environ), (), stack)


def names_of(found: Inherited) -> set[str]:
    """Return the names that are inherited, but for those that every test's settings have."""
    return {name for name, _ in found.variables} - {
        "PATH", "LAUNCHER_PYTHON", "LAUNCHER_KEYS_DIR", "NO_COLOR",
    }  # fmt: skip


# --- what is never inherited -----------------------------------------------------------------


def test_neither_ways_in_nor_what_describes_a_process() -> None:
    environ = {"HOME": "/root", "PWD": "/", "HF_TOKEN": "theirs", "BASH_FUNC_f%%": "() { :; }",
               "a b": "1"}  # fmt: skip
    assert names_of(inherited({**environ, **dict.fromkeys(WAYS_IN, "s3cret")})) == {"HF_TOKEN"}


def test_every_name_of_a_secret_setting_is_a_way_in() -> None:
    secret = {name for row in load.TABLE if row.secret for name in (row.name, *row.aliases)}
    assert "JUPYTER_TOKEN" in secret
    assert secret <= WAYS_IN


@given(environ=st.dictionaries(names, values, max_size=20))
def test_everything_else_is_byte_for_byte(environ: dict[str, str]) -> None:
    found = inherited(environ)
    kept = {n: v for n, v in environ.items() if n not in OF_A_PROCESS and n not in found.left_out}
    assert dict(found.variables).items() >= kept.items()


# --- what the user names ---------------------------------------------------------------------

THEIRS = {"AWS_KEY": "k", "AWS_SECRET": "s", "HF_TOKEN": "t", "MODEL": "m"}


@pytest.mark.parametrize(
    ("named", "left"),
    [
        pytest.param({"LAUNCHER_ENV_EXCLUDE": "HF_TOKEN"}, {"HF_TOKEN"}, id="a-name"),
        pytest.param({"LAUNCHER_ENV_EXCLUDE": "AWS_*"}, {"AWS_KEY", "AWS_SECRET"}, id="a-pattern"),
        pytest.param({"LAUNCHER_ENV_EXCLUDE": "AWS_?EY, MOD[AE]L"}, {"AWS_KEY", "MODEL"}, id="two"),
        pytest.param(
            {"JUPYTER_ENV_VARS_TO_UNSET": "AWS_KEY,MODEL HF_TOKEN,"},
            {"AWS_KEY", "MODEL", "HF_TOKEN"},
            id="docker-stacks",
        ),
        pytest.param(
            {"JUPYTER_ENV_VARS_TO_UNSET": "MODEL", "LAUNCHER_ENV_EXCLUDE": "AWS_*"},
            {"AWS_KEY", "AWS_SECRET", "MODEL"},
            id="both-count",
        ),
        pytest.param({"LAUNCHER_ENV_EXCLUDE": "aws_*,NOT_HERE"}, set(), id="none-of-these"),
    ],
)
def test_what_the_user_names_is_left_out(named: dict[str, str], left: set[str]) -> None:
    found = inherited({**THEIRS, **named})
    assert set(found.left_out) == left
    assert names_of(found) == (THEIRS.keys() | named.keys()) - left


def test_a_path_is_always_there() -> None:
    found = inherited({"LAUNCHER_ENV_EXCLUDE": "*"})
    assert [name for name, _ in found.variables] == ["PATH"]


@pytest.mark.parametrize("name", ["LAUNCHER_ENV_EXCLUDE", "JUPYTER_ENV_VARS_TO_UNSET"])
@pytest.mark.parametrize("text", ["HF_TOKEN=secret", "A;B", "$HOME", "ü", "A\0B", ","])
def test_what_is_no_list_of_names_ends_the_start(name: str, text: str) -> None:
    with pytest.raises(BadSetting, match=f"{name}=.*names of variables") as raised:
        settings({name: text})
    assert raised.value.exit_code == 78


# --- Kubernetes service links ----------------------------------------------------------------


def service(name: str, host: str, *ports: int, kind: str = "tcp") -> dict[str, str]:
    """Return what the kubelet makes of a service (kubernetes, pkg/kubelet/envvars)."""
    place = f"[{host}]" if ":" in host else host
    links = {
        f"{name}_SERVICE_HOST": host,
        f"{name}_SERVICE_PORT": str(ports[0]),
        f"{name}_SERVICE_PORT_WEB": str(ports[0]),
        f"{name}_PORT": f"{kind}://{place}:{ports[0]}",
    }
    for port in ports:
        link = f"{name}_PORT_{port}_{kind.upper()}"
        links |= {
            link: f"{kind}://{place}:{port}",
            f"{link}_PROTO": kind,
            f"{link}_PORT": str(port),
            f"{link}_ADDR": host,
        }
    return links


@pytest.mark.parametrize(
    "links",
    [
        pytest.param(service("REDIS", "10.0.0.11", 6379), id="tcp"),
        pytest.param(service("DNS", "10.0.0.10", 53, 9153, kind="udp"), id="udp-two-ports"),
        pytest.param(service("V6", "fd00::1", 443), id="ipv6"),
        pytest.param(service("MY_PORT_80_TCP", "10.0.0.1", 80), id="a-name-like-a-link"),
        pytest.param(service("A_SERVICE_PORT_B", "10.0.0.1", 80), id="a-name-like-a-port"),
        pytest.param(
            service("A", "10.0.0.1", 80) | service("A_B", "10.0.0.2", 81), id="one-begins-another"
        ),
    ],
)
def test_a_service_is_left_out_whole(links: dict[str, str]) -> None:
    mine = {"FOO_PORT": "tcp://10.0.0.11:6379", "REDIS_URL": "redis://10.0.0.11", "A": "b"}
    assert service_links({**links, **mine}) == links.keys()


@pytest.mark.parametrize(
    "mine",
    [
        pytest.param({"FOO_PORT": "8080"}, id="a-port"),
        pytest.param({"FOO_PORT": "tcp://10.0.0.1:80"}, id="a-port-with-a-url"),
        pytest.param({"FOO_SERVICE_HOST": "db", "FOO_SERVICE_PORT": "80"}, id="host-and-port"),
        pytest.param(
            {"FOO_SERVICE_HOST": "db", "FOO_SERVICE_PORT": "80", "FOO_PORT": "tcp://db:81"},
            id="three-that-do-not-agree",
        ),
        pytest.param(service("KUBERNETES", "10.0.0.1", 443), id="the-cluster-itself"),
    ],
)
def test_what_is_no_service_link_is_kept(mine: dict[str, str]) -> None:
    assert service_links(mine) == set()
    assert names_of(inherited(mine)) == mine.keys()


# --- the budget ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "too_large"),
    [
        pytest.param({f"V{n:04}": "x" for n in range(2000)}, (), id="2000-variables"),
        pytest.param({f"V{n:02}": "x" * 60_000 for n in range(20)}, (), id="1-megabyte"),
        pytest.param(
            {**{f"V{n:02}": "x" * 99_000 for n in range(15)}, "BIG": "x" * 110_000, "SMALL": "s"},
            ("BIG",),
            id="the-largest-goes",
        ),
        pytest.param(
            {f"V{n}": "x" * (120_000 + n) for n in range(15)},
            ("V14", "V13"),
            id="largest-first",
        ),
        pytest.param(
            {**{f"V{n:02}": "x" * 99_000 for n in range(15)}, "PATH": "/x:" * 40_000},
            ("V00",),
            id="a-path-comes-last",
        ),
    ],
)
def test_what_programs_cannot_be_started_with(
    environ: dict[str, str], too_large: tuple[str, ...]
) -> None:
    found = inherited(environ)
    assert found.too_large == too_large
    assert names_of(found) == environ.keys() - {*too_large, "PATH"}


def test_service_links_go_before_anything_of_the_user_s() -> None:
    links = service("A", "10.0.0.1", *range(1, 6000))
    mine = {f"V{n:02}": "x" * 99_000 for n in range(12)}
    assert sum(map(len, [*links, *links.values()])) + 12 * 99_000 > BUDGET
    found = inherited({**links, **mine})
    assert (found.too_large, names_of(found)) == ((), mine.keys())


def test_what_is_planned_takes_its_room_and_stays() -> None:
    environ = {f"V{n:02}": "x" * 99_000 for n in range(15)}
    planned = EnvVar("PLANNED", "x" * 100_000, "why")
    found = inherit(settings(environ), (planned,), STACK)
    assert len(found.too_large) == 1
    # Planned with the user's own value: there is one of it, not two.
    kept = EnvVar("V00", environ["V00"], "yours, kept")
    assert inherit(settings(environ), (kept,), STACK).too_large == ()


@pytest.mark.parametrize(
    ("stack", "fits"), [(256 << 10, 90_000), (8 << 20, 1_500_000), (None, 4_700_000)]
)
def test_the_stack_limit_decides(stack: int | None, fits: int) -> None:
    value = "x" * (fits // 50)
    environ = {f"V{n:02}": value for n in range(50)}
    assert inherited(environ, stack).too_large == ()
    assert inherited({**environ, **{f"W{n}": value for n in range(10)}}, stack).too_large


def test_the_kernel_starts_a_program_with_all_of_the_budget() -> None:
    """Beside 200 kB of arguments.  With twice as much again, it does not."""
    stack = _stack_limit()
    environ = {f"V{n:05}": "x" for n in range(20_000)}
    environ |= {f"W{n:02}": "x" * 100_000 for n in range(60)}
    kept = dict(inherited(environ, stack).variables)
    assert inherited(environ, stack).too_large
    done = subprocess.run(["/bin/true", "x" * 100_000, "x" * 100_000], env=kept)
    assert done.returncode == 0
    doubled = {f"{again}{name}": value for name, value in kept.items() for again in "XY"}
    with pytest.raises(OSError, match="Argument list too long"):
        subprocess.run(["/bin/true"], env=doubled)


def _stack_limit() -> int | None:
    soft, _ = resource.getrlimit(resource.RLIMIT_STACK)
    return None if soft == resource.RLIM_INFINITY else soft


def test_the_note_has_names_and_no_values() -> None:
    environ = {f"V{n:02}": "value" * 20_000 for n in range(25)}
    plan = Case(CASES["h100-8x"].machine, environ).plan()
    (note,) = (note for note in plan.notes if note.id == "environment.too_large")
    assert "V24" in note.what or "V00" in note.what
    assert "and 5 more" in note.what
    assert "value" not in note.what + note.means.replace("values", "")
    assert set(plan.left_out).isdisjoint(plan.user_environment())
    assert list(too_large_notes((), STACK, CASES["h100-8x"].machine.host)) == []
