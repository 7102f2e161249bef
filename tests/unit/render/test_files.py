"""The files that are written: who may read them, and that nothing is lost on the way."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.model import codec
from launcher.model.plan import EnvVar, KeyLine, Plan, RenderedFile, Service
from launcher.render.files import machine_file, render
from launcher.render.shell import SETENV_BYTES, SETENV_VARIABLES, environment_sh, setenv_variables
from testing.machines import CASES, DEV, LOGIN_KEY, PASSWORD, STATE, TOKEN, Case
from testing.strategies import names, values
from testing.values import replace

H100 = CASES["h100-8x"]


def rendered(plan: Plan) -> dict[str, RenderedFile]:
    """Return the files by their path below the run directory."""
    return {file.path.removeprefix(plan.paths.run).lstrip("/"): file for file in render(plan)}


# --- the tree --------------------------------------------------------------------------------


def test_the_tree_of_one_machine(golden: Callable[[str, str], None]) -> None:
    plan = H100.plan()
    lines = []
    for file in render(plan):
        lines.append(f"==== {file.path} {file.mode:04o} {file.uid}:{file.gid}")
        if file.content is not None and not file.path.endswith("plan.json"):
            lines.append(file.content.rstrip("\n"))
    golden("render-h100-8x.txt", "\n".join(lines) + "\n")


@pytest.mark.parametrize("name", CASES)
def test_parents_come_first(name: str) -> None:
    plan = CASES[name].plan()
    made: set[str] = set()
    for file in render(plan):
        parent = file.path.rpartition("/")[0]
        assert file.path == plan.paths.run or parent in made
        if file.content is None:
            made.add(file.path)


def test_no_file_is_written_twice() -> None:
    paths = [file.path for file in render(H100.plan())]
    assert len(paths) == len(set(paths))


@pytest.mark.parametrize("name", CASES)
def test_no_secret_where_others_can_read_it(name: str) -> None:
    case = CASES[name]
    plan = case.plan()
    secrets = [TOKEN, PASSWORD, case.environ.get("JUPYTER_TOKEN", TOKEN)]
    for file in (*render(plan), machine_file(plan, case.machine)):
        if file.mode & 0o077 and file.content:
            assert not [secret for secret in secrets if secret in file.content]


def test_secrets_are_where_they_must_be() -> None:
    files = rendered(H100.plan())
    holders = {name for name, file in files.items() if file.content and TOKEN in file.content}
    assert holders == {"plan.json", "jupyter.json"}
    holders = {name for name, file in files.items() if file.content and PASSWORD in file.content}
    assert holders == {"plan.json"}


def test_the_token_for_metrics_is_jupyter_s_to_read_alone() -> None:
    plan = Case(H100.machine, {"LAUNCHER_METRICS_TOKEN": "for-prometheus"}).plan()
    files = rendered(plan)
    modes = {name: file.mode for name, file in files.items() if "for-prom" in (file.content or "")}
    assert modes == {"plan.json": 0o600, "jupyter.json": 0o600}
    assert json.loads(files["jupyter.json"].content or "")["metrics_token"] == "for-prometheus"


@pytest.mark.parametrize("name", CASES)
def test_only_the_user_and_root_own_files(name: str) -> None:
    plan = CASES[name].plan()
    user = plan.identity.account
    for file in render(plan):
        assert (file.uid, file.gid) in {(-1, -1), (user.uid, user.gid)}


def test_root_reads_no_file_that_the_user_owns() -> None:
    files = rendered(H100.plan())
    users = {name for name, file in files.items() if file.uid == DEV.uid}
    # His shells read the last two; root's have copies of their own.
    assert users == {"jupyter", "jupyter.json", "user/environment.sh", "user/login.sh"}


def test_files_with_a_value_are_for_their_owner_alone() -> None:
    files = rendered(Case(H100.machine, {"HF_TOKEN": "a value", "LINES_": "a value\n"}).plan())
    modes = {name: file.mode for name, file in files.items() if "a value" in (file.content or "")}
    scripts = {"environment.sh", "login.sh", "user/environment.sh", "user/login.sh"}
    assert modes.keys() >= scripts | {"plan.json", "ssh/sshd_config", "services/jupyter.json"}
    assert set(modes.values()) == {0o600}


def test_the_plan_can_be_read_again() -> None:
    plan = H100.plan()
    assert codec.from_json(Plan, rendered(plan)["plan.json"].content) == plan


# --- services --------------------------------------------------------------------------------


def service(plan: Plan, name: str) -> Service:
    return codec.from_json(Service, rendered(plan)[f"services/{name}.json"].content)


def test_jupyter_runs_as_the_user_with_the_planned_environment() -> None:
    plan = H100.plan()
    jupyter = service(plan, "jupyter")
    assert (jupyter.uid, jupyter.gid, jupyter.groups) == (DEV.uid, DEV.gid, DEV.groups)
    assert dict(jupyter.env).items() >= plan.user_environment().items()
    assert jupyter.cwd == "/workspace"


def test_no_secret_is_on_a_command_line() -> None:
    plan = H100.plan()
    for name in ("jupyter", "sshd"):
        assert not [word for word in service(plan, name).argv if TOKEN in word or PASSWORD in word]


def test_sshd_stays_who_the_launcher_is_and_sees_nothing_of_the_users() -> None:
    sshd = service(Case(H100.machine, {"LD_PRELOAD": "/workspace/evil.so"}).plan(), "sshd")
    assert (sshd.uid, sshd.gid) == (-1, -1)
    assert dict(sshd.env).keys() == {"PATH"}
    assert "/workspace" not in dict(sshd.env)["PATH"]


def test_jupyters_port_cannot_be_overridden_by_a_users_file() -> None:
    plan = Case(H100.machine, {"JUPYTER_PORT": "9999", "LAUNCHER_LISTEN": "127.0.0.1"}).plan()
    config = json.loads(rendered(plan)["jupyter.json"].content)
    server = config["final"]["ServerApp"]
    assert (server["port"], server["port_retries"], server["ip"]) == (9999, 0, "127.0.0.1")
    assert config["final"]["IdentityProvider"]["token"] == TOKEN
    assert not config["final"]["ServerApp"].keys() & config["default"]["ServerApp"].keys()


@pytest.mark.parametrize(("account", "allowed"), [(DEV, False), (None, True)])
def test_jupyter_may_be_root_only_where_it_is(account, allowed: bool) -> None:
    machine = replace(H100.machine, host=replace(H100.machine.host, account=account))
    config = json.loads(rendered(Case(machine).plan())["jupyter.json"].content)
    assert config["final"]["ServerApp"]["allow_root"] is allowed


def test_only_good_keys_are_written() -> None:
    keys = (KeyLine("PUBLIC_KEY", 1, LOGIN_KEY), KeyLine("PUBLIC_KEY", 2, "x", "not a key"))
    plan = H100.plan()
    plan = replace(plan, ssh=replace(plan.ssh, keys=keys))
    assert rendered(plan)["ssh/authorized_keys"].content == f"{LOGIN_KEY}\n"


def test_a_box_without_services_writes_none() -> None:
    plan = replace(H100, state=None).plan()
    assert not [name for name in rendered(plan) if "jupyter" in name or "ssh" in name]


# --- the environment's two ways --------------------------------------------------------------


def plan_with(variables: dict[str, str]) -> Plan:
    return Case(H100.machine, variables, STATE).plan()


@given(variables=st.dictionaries(names, values, max_size=20))
def test_every_variable_goes_one_way(variables: dict[str, str]) -> None:
    plan = plan_with({name: value for name, value in variables.items() if name.islower()})
    carried, left_out = setenv_variables(plan)
    script = environment_sh(plan)
    assert carried.keys().isdisjoint(left_out)
    account = {"HOME", "USER", "LOGNAME", "SHELL"}  # a login has its own
    assert carried.keys() | set(left_out) == plan.user_environment().keys() - account
    assert all(f"export {name}=" in script for name in left_out)
    assert not set("".join(carried.values())) & set("\n\r")


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param({f"V{n:04}": "x" for n in range(2000)}, id="2000-variables"),
        pytest.param({f"V{n:02}": "x" * 50_000 for n in range(20)}, id="1-megabyte"),
        pytest.param(
            {f"V{n:02}": "\\" * 50_000 for n in range(20)}, id="1-megabyte-of-backslashes"
        ),
        pytest.param({f"V{n}": "a\nb" for n in range(10)}, id="line-breaks"),
        pytest.param({"V": "x" * 1_000_000}, id="one-huge-variable"),
    ],
)
def test_what_sshd_cannot_carry_goes_through_the_shell(variables: dict[str, str]) -> None:
    plan = plan_with(variables)
    carried, left_out = setenv_variables(plan)
    assert len(carried) <= SETENV_VARIABLES
    assert left_out
    script = environment_sh(plan)
    assert all(f"export {name}=" in script for name in left_out)
    size = sum(len(os.fsencode(f"{name}={value}")) for name, value in carried.items())
    assert size <= SETENV_BYTES
    # What the launcher planned is the last to be left out.
    assert {"CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"} <= carried.keys()


def test_planned_variables_are_in_both_ways() -> None:
    # A `docker exec … bash` has no sshd to set them.
    script = environment_sh(H100.plan())
    assert "export CUDA_VISIBLE_DEVICES=0,1,2,3,4,5,6,7" in script


def test_the_account_of_a_login_is_not_overridden() -> None:
    plan = H100.plan()
    plan = replace(plan, environment=(*plan.environment, EnvVar("HOME", "/home/dev", "why")))
    assert "HOME=" not in environment_sh(plan)
    assert "HOME" not in setenv_variables(plan)[0]
