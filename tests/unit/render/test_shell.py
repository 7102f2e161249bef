"""Which variable goes through which door, and what a shell then has."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest

from launcher.model.plan import EnvVar, Plan
from launcher.plan.environment import OF_AN_ACCOUNT
from launcher.plan.plan import make_plan
from launcher.render.shell import (
    SETENV_BYTES,
    SETENV_VARIABLES,
    environment_sh,
    exec_environment,
    login_sh,
    setenv_variables,
)
from testing.machines import CASES, STATE, outset, settings
from testing.values import replace
from tests.unit.render.test_quoting import NASTY, through_shell

CONTAINER_PATH = "/usr/local/bin:/usr/bin:/bin"
PATH = f"/opt/venv/bin:{CONTAINER_PATH}"


def plan_of(inherited: Mapping[str, str], planned: Mapping[str, str], *left_out: str) -> Plan:
    made = tuple(EnvVar(name, value, "why") for name, value in planned.items())
    container = tuple(sorted(inherited.items()))
    plan = CASES["h100-8x"].plan()
    return replace(plan, inherited=container, environment=made, left_out=left_out)


# --- sshd ------------------------------------------------------------------------------------


def test_the_largest_go_through_the_shell() -> None:
    environ = {f"V{n:02}": "x" * (10_000 - n) for n in range(30)}
    carried, others = setenv_variables(plan_of(environ, {}))
    assert others == tuple(f"V{n:02}" for n in range(30 - len(carried)))


def test_what_every_program_needs_goes_before_what_is_small() -> None:
    first = {"LD_LIBRARY_PATH": "/a/folder:" * 1000, "PATH": "/another:" * 1000}
    many = {f"V{n:04}": "x" * 200 for n in range(2000)}
    planned = {"CUDA_VISIBLE_DEVICES": "GPU-" * 5000}
    carried, _ = setenv_variables(plan_of({**first, **many}, planned))
    assert carried.keys() >= first.keys() | planned.keys()
    assert len(carried) > 700


def test_the_budget_is_used_and_kept() -> None:
    for value in ("", "x" * 300):
        carried, others = setenv_variables(plan_of({f"V{n:04}": value for n in range(2000)}, {}))
        sent = sum(len(f'"{name}={value}" ') for name, value in carried.items())
        assert others
        assert sent <= SETENV_BYTES
        assert len(carried) == SETENV_VARIABLES or sent > SETENV_BYTES - 400


# --- shells ----------------------------------------------------------------------------------


def in_shell(script: str, given: Mapping[str, str]) -> dict[str, str]:
    """Return what a shell has that was started with `given`, and a PATH, and read the script."""
    return through_shell("bash", script + "\nPATH=$PATH:/usr/bin:/bin", given)


def test_a_login_shell_gets_all_of_it_from_nothing() -> None:
    inherited = {**NASTY, "LINES_": "one\ntwo\n", "BIG": "x" * 64_000, "PATH": CONTAINER_PATH}
    planned = {"CUDA_VISIBLE_DEVICES": "0,1", "PATH": PATH, "HOME": "/home/dev", "USER": "dev"}
    seen = in_shell(login_sh(plan_of(inherited, planned)), {"HOME": "/root"})
    wanted = {**inherited, "CUDA_VISIBLE_DEVICES": "0,1", "HOME": "/root"}
    del wanted["PATH"]
    assert seen.items() >= wanted.items()
    assert "USER" not in seen
    assert seen["PATH"].startswith(f"{PATH}:")


def test_other_shells_get_what_sshd_cannot_carry_and_the_plan() -> None:
    inherited = {"TWO": "a\nb", "PLAIN": "carried by sshd", "PATH": PATH}
    seen = in_shell(environment_sh(plan_of(inherited, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"})), {})
    assert (seen["TWO"], seen["CUDA_DEVICE_ORDER"]) == ("a\nb", "PCI_BUS_ID")
    # `env -u PLAIN bash` means it.
    assert "PLAIN" not in seen


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        pytest.param({"PATH": CONTAINER_PATH}, PATH, id="the-container-s"),
        pytest.param({"PATH": f"/mine:{CONTAINER_PATH}"}, f"/mine:{CONTAINER_PATH}", id="mine"),
        pytest.param({"PATH": PATH}, PATH, id="the-plan-s"),
    ],
)
def test_what_the_container_was_given_becomes_what_is_planned(
    given: dict[str, str], seen: str
) -> None:
    """`docker exec` knows the container's own PATH only."""
    script = environment_sh(plan_of({"PATH": CONTAINER_PATH}, {"PATH": PATH}))
    assert through_shell("bash", script, given)["PATH"] == seen


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_nothing_a_shell_prints_is_in_the_way_of_scp(shell: str) -> None:
    """rsync and scp read the output of a shell that has read this; `through_shell` looks."""
    inherited = dict.fromkeys(("IFS", "PS1", "PS4", "PROMPT_COMMAND", "OPTIND", "RANDOM"), "1")
    through_shell(shell, environment_sh(plan_of({**inherited, "X": "a\nb"}, {"Y": "1"})))


# --- launcher exec ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "seen"),
    [
        pytest.param({}, {"A": "1", "GPUS": "0", "HOME": "/home/dev", "PATH": PATH}, id="none"),
        pytest.param({"A": "1", "PATH": CONTAINER_PATH}, {"A": "1", "PATH": PATH}, id="as-given"),
        pytest.param({"A": "2", "GPUS": "1", "NEW": "n"}, {"A": "2", "GPUS": "1", "NEW": "n"},
                     id="docker-exec-e"),
        pytest.param({"HOME": "/root", "USER": "root"}, {"HOME": "/home/dev"}, id="the-account"),
        pytest.param({"PATH": "/usr/sbin:/sbin"}, {"PATH": PATH}, id="sudo-s-path"),
        pytest.param({"TERM": "xterm"}, {"TERM": "xterm"}, id="the-terminal"),
        pytest.param({"MINE": "s3cret"}, {"MINE": None}, id="left-out"),
        pytest.param({"JUPYTER_TOKEN": "s3cret"}, {"JUPYTER_TOKEN": None}, id="a-way-in"),
    ],
)  # fmt: skip
def test_launcher_exec(own: dict[str, str], seen: dict[str, str | None]) -> None:
    planned = {"GPUS": "0", "HOME": "/home/dev", "PATH": PATH}
    plan = plan_of({"A": "1", "PATH": CONTAINER_PATH}, planned, "MINE")
    env = exec_environment(plan, own)
    assert {name: env.get(name) for name in seen} == seen


# --- all together ----------------------------------------------------------------------------


def test_every_variable_reaches_a_login_whatever_it_is() -> None:
    inherited = {**NASTY, "LINES_": "one\ntwo", **{f"V{n:04}": "x" * 500 for n in range(2000)}}
    plan = plan_of(inherited, {"PLANNED": "'\n'"})
    carried, _ = setenv_variables(plan)
    seen = through_shell("bash", environment_sh(plan), carried)
    assert seen.items() >= plan.user_environment().items()
    assert os.fsencode(seen["BYTES"]) == os.fsencode(NASTY["BYTES"])
    assert OF_AN_ACCOUNT.isdisjoint(carried)


# --- hooks -----------------------------------------------------------------------------------


def after_hooks(container: Mapping[str, str], environ: Mapping[str, str]) -> Plan:
    """Return the plan of a box whose hooks made `environ` of what the container was given."""
    chosen = settings(environ)
    beside = {name: chosen.environ[name] for name in chosen.environ.keys() - environ.keys()}
    found = outset(CASES["h100-8x"].machine, chosen)
    return make_plan(found._replace(container={**beside, **container}), STATE)


CONTAINER = {"CHANGED": "old", "GONE": "1", "SAME": "1", "JUPYTER_TOKEN": "a", "TERM": "xterm"}
ENVIRON = {"CHANGED": "it's new", "SAME": "1", "JUPYTER_TOKEN": "b", "TERM": "dumb", "ADDED": "1"}


def test_docker_exec_has_what_hooks_made_of_the_container_s_environment() -> None:
    plan = after_hooks(CONTAINER, ENVIRON)
    seen = exec_environment(plan, CONTAINER)
    assert {name: seen.get(name) for name in (*CONTAINER, "ADDED")} == {
        "CHANGED": "it's new", "GONE": None, "SAME": "1", "JUPYTER_TOKEN": None, "TERM": "xterm",
        "ADDED": "1",
    }  # fmt: skip
    given = exec_environment(plan, {**CONTAINER, "CHANGED": "by -e", "ADDED": "by -e"})
    assert (given["CHANGED"], given["ADDED"]) == ("by -e", "by -e")
    in_a_shell = in_shell(environment_sh(plan), {**CONTAINER, "SAME": "by -e"})
    told = {name: in_a_shell[name] for name in ("CHANGED", "ADDED", "SAME")}
    assert told == {"CHANGED": "it's new", "ADDED": "1", "SAME": "by -e"}
    assert in_shell(environment_sh(plan), {"CHANGED": "by -e"})["CHANGED"] == "by -e"


def test_no_way_in_is_noted_as_changed() -> None:
    """The user's own files are made of the plan, and `launcher plan` prints it."""
    plan = after_hooks(CONTAINER, ENVIRON)
    assert plan.before_hooks == (("ADDED", None), ("CHANGED", "old"))
    assert set(plan.left_out) == {"JUPYTER_TOKEN", "GONE"}


def test_hooks_that_change_nothing_leave_the_plan_as_it_is() -> None:
    plan = after_hooks(CONTAINER, {**CONTAINER, "TERM": "dumb"})
    assert plan == after_hooks({**CONTAINER, "TERM": "dumb"}, {**CONTAINER, "TERM": "dumb"})
