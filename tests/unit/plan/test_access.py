"""How people get in: ports, token, keys or password, and the address that is printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.model.errors import BadSetting
from launcher.model.host import Account
from launcher.model.machine import DriverFailure, GpuReport
from launcher.model.plan import KeyLine, Plan, Secret, State
from launcher.plan.plan import make_plan
from launcher.plan.watch import jupyter_door
from launcher.text import banner
from testing.machines import (
    DEV,
    HOST_KEY,
    LOGIN_KEY,
    PASSWORD,
    PROBES,
    ROOT,
    STARTED,
    STATE,
    TOKEN,
    Case,
    machine,
    outset,
    settings,
)

KEY = {"PUBLIC_KEY": f"{LOGIN_KEY} me@laptop"}


def plan(environ: dict[str, str] | None = None, state: State = STATE, **host: object) -> Plan:
    found = machine(GpuReport(), **host)
    return make_plan(outset(found, settings(environ or {})), state)


# --- ports -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "busy", "names"),
    [
        pytest.param({"SSH_PORT": "8888"}, (), ("JUPYTER_PORT", "SSH_PORT", "8888"), id="equal"),
        pytest.param({}, (8888,), ("JUPYTER_PORT=8888", "in use"), id="jupyters-default-is-busy"),
        pytest.param({}, (22,), ("SSH_PORT=22", "in use"), id="sshs-default-is-busy"),
        pytest.param({"JUPYTER_PORT": "80"}, (80,), ("JUPYTER_PORT=80",), id="a-chosen-one"),
        pytest.param({"LISTEN_PORT": "222"}, (222,), ("LISTEN_PORT=222",), id="by-its-other-name"),
    ],
)
def test_ports_that_cannot_be_used(environ, busy, names) -> None:
    with pytest.raises(BadSetting) as bad:
        plan(environ, busy_ports=frozenset(busy))
    assert bad.value.exit_code == 78
    for name in names:
        assert name in str(bad.value)


def test_other_peoples_ports_do_not_matter() -> None:
    made = plan({"JUPYTER_PORT": "9000", "SSH_PORT": "9022"}, busy_ports=frozenset({8888, 22}))
    assert (made.jupyter.port, made.ssh.port) == (9000, 9022)


# --- Jupyter's token -------------------------------------------------------------------------


def test_the_token_is_the_users_or_the_kept_one() -> None:
    assert plan().jupyter.token == Secret(TOKEN)
    assert plan({"JUPYTER_TOKEN": "mine"}).jupyter.token == Secret("mine")


# --- password --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "left_out"), [("library", False), ("nvml", True), ("hung", True), ("crashed", True)]
)
def test_what_asks_nvml_in_jupyter_is_left_out_where_nvml_is_broken(kind, left_out) -> None:
    found = machine(GpuReport(failure=DriverFailure(kind, "why")))
    jupyter = Case(found).plan().jupyter
    assert jupyter is not None
    assert ("jupyterlab_nvdashboard" in jupyter.left_out) is left_out


def test_where_no_key_is_set_there_is_a_password() -> None:
    assert plan().ssh.password == Secret(PASSWORD)


@pytest.mark.parametrize(
    ("environ", "host"),
    [
        pytest.param({"LAUNCHER_SSH_PASSWORD": "off"}, {}, id="switched-off"),
        pytest.param(KEY, {}, id="a-key-is-set"),
        pytest.param({"SSH_PUBLIC_KEY": "garbage"}, {}, id="a-key-that-is-none-is-set"),
        pytest.param({"AUTHORIZED_KEYS": "null"}, {}, id="null-is-set"),
        pytest.param({}, {"platform": "kubernetes"}, id="kubernetes"),
        pytest.param({}, {"platform": "runpod"}, id="runpod"),
        pytest.param({}, {"platform": "vast"}, id="vast"),
        pytest.param({}, {"image": False}, id="a-machine-of-its-owners"),
        pytest.param({"SSH_PORT": "2022"}, {"me": DEV, "account": None}, id="not-root"),
        pytest.param({}, {"account": None}, id="the-user-would-be-root"),
    ],
)
def test_where_there_is_no_password_the_plan_says_why(environ, host) -> None:
    ssh = plan(environ, **host).ssh
    assert ssh.password is None
    assert ssh.password_why


# --- keys ------------------------------------------------------------------------------------


def test_keys_of_the_state_are_the_servers() -> None:
    lines = (KeyLine("PUBLIC_KEY", 1, LOGIN_KEY), KeyLine("PUBLIC_KEY", 2, "x", "not a key"))
    state = State(Secret(TOKEN), Secret(PASSWORD), HOST_KEY, None, lines)
    ssh = plan(KEY, state).ssh
    assert ssh.keys == lines
    assert ssh.login_key_file is None


GOOD = KeyLine("PUBLIC_KEY", 1, LOGIN_KEY)
BAD = KeyLine("PUBLIC_KEY", 1, "x", "not a key")


@pytest.mark.parametrize(
    ("keys", "made_for_us"), [((), True), ((BAD,), True), ((GOOD,), False), ((BAD, GOOD), False)]
)
def test_on_a_plain_machine_a_key_is_made_where_none_can_be_used(keys, made_for_us) -> None:
    state = State(Secret(TOKEN), Secret(PASSWORD), HOST_KEY, LOGIN_KEY, keys)
    ssh = plan({"LAUNCHER_STATE_DIR": "/state"}, state, image=False).ssh
    assert ssh.login_key_file == ("/state/login_key" if made_for_us else None)
    assert ssh.strict_modes is False  # a checkout below /tmp must let its owner in
    assert (LOGIN_KEY in [key.text for key in ssh.keys[len(keys) :]]) is made_for_us


# --- no SSH ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "host", "word"),
    [
        pytest.param(STATE, {"sshd": None}, "not installed", id="no-server"),
        pytest.param(State(Secret(TOKEN), Secret("x"), None), {}, "host key", id="no-keygen"),
        pytest.param(
            STATE,
            {"me": DEV, "account": None, "first_open_port": 1024},
            "port 22 needs root: set SSH_PORT",
            id="port-22-needs-root",
        ),
        pytest.param(
            STATE,
            {
                "capabilities": frozenset({"SETUID", "SETGID", "SYS_CHROOT"}),
                "first_open_port": 1024,
            },
            "port 22 needs CAP_NET_BIND_SERVICE: set SSH_PORT",
            id="port-22-needs-a-capability",
        ),
    ],
)
def test_without_ssh_the_plan_says_why(state, host, word) -> None:
    made = plan({}, state, **host)
    assert made.ssh is None
    assert word in made.ssh_off
    assert made.jupyter


@pytest.mark.parametrize(
    ("port", "first", "host", "refused"),
    [
        (80, 1024, {}, True),
        (80, 0, {}, False),
        (80, 81, {}, True),
        (1024, 1024, {}, False),
    ],
)
def test_jupyters_port_below_what_the_kernel_gives_everybody(port, first, host, refused) -> None:
    """Jupyter runs as the workspace user."""
    environ = {"JUPYTER_PORT": str(port)}
    if not refused:
        assert plan(environ, first_open_port=first, **host).jupyter.port == port
        return
    with pytest.raises(BadSetting, match="JUPYTER_PORT=80: this port needs root here: set 1024"):
        plan(environ, first_open_port=first, **host)


# --- addresses -------------------------------------------------------------------------------

RUNPOD = {"RUNPOD_PUBLIC_IP": "203.0.113.7", "RUNPOD_TCP_PORT_22": "14022"}
VAST = {"PUBLIC_IPADDR": "198.51.100.9", "VAST_TCP_PORT_22": "41022", "VAST_TCP_PORT_8888": "41088"}


@pytest.mark.parametrize(
    ("environ", "host", "jupyter", "ssh"),
    [
        pytest.param({}, {}, "127.0.0.1:8888?", "127.0.0.1:2222?", id="the-documented-command"),
        pytest.param(
            {"SSH_PORT": "2022"}, {}, "127.0.0.1:8888?", "127.0.0.1:2022?", id="another-port"
        ),
        pytest.param(
            {"JUPYTER_PORT_HOST": "80", "SSH_PORT_HOST": "2200"},
            {},
            "127.0.0.1:80",
            "127.0.0.1:2200",
            id="told-by-the-user",
        ),
        pytest.param(
            RUNPOD, {}, "203.0.113.7:8888?", "203.0.113.7:14022", id="runpod-maps-ssh-alone"
        ),
        pytest.param(VAST, {}, "198.51.100.9:41088", "198.51.100.9:41022", id="vast"),
        pytest.param(
            {**VAST, "SSH_PORT_HOST": "2200"},
            {},
            "198.51.100.9:41088",
            "198.51.100.9:41022",
            id="the-platform-knows-better",
        ),
        pytest.param(
            {"RUNPOD_TCP_PORT_22": "14022"},
            {},
            "127.0.0.1:8888?",
            "127.0.0.1:14022",
            id="no-address",
        ),
        pytest.param(
            {"RUNPOD_TCP_PORT_22": "tcp://x"},
            {},
            "127.0.0.1:8888?",
            "127.0.0.1:2222?",
            id="no-number",
        ),
        pytest.param(
            {"LAMBDA_PUBLIC_IP": "192.0.2.1"},
            {},
            "192.0.2.1:8888?",
            "192.0.2.1:2222?",
            id="any-cloud",
        ),
        pytest.param({}, {"image": False}, "127.0.0.1:8888", "127.0.0.1:22", id="plain-machine"),
        pytest.param(
            {"LAUNCHER_LISTEN": "::1"},
            {"image": False},
            "::1:8888",
            "::1:22",
            id="where-it-listens",
        ),
        pytest.param(
            {"LAUNCHER_LISTEN": "0.0.0.0"},
            {"image": False},
            "127.0.0.1:8888",
            "127.0.0.1:22",
            id="nobody-opens-every-address",
        ),
        pytest.param(
            {"JUPYTER_PORT": "18890"},
            {"machines_network": True},
            "127.0.0.1:18890",
            "127.0.0.1:22",
            id="the-machine-s-network",
        ),
    ],
)
def test_where_services_are_reached(environ, host, jupyter, ssh) -> None:
    made = plan(environ, **host)
    assert shown(made.jupyter.address) == jupyter
    assert shown(made.ssh.address) == ssh
    assert made.jupyter.address.container_port == made.jupyter.port
    assert made.ssh.address.container_port == made.ssh.port


def shown(address) -> str:
    """Return host:port, with a question mark where it is only assumed."""
    return f"{address.host}:{address.port}{'' if address.certain else '?'}"


def test_the_login_is_the_users() -> None:
    other = Account("jovyan", 1001, 1001, "/home/jovyan", "/bin/bash", (1001,))
    assert plan({"NB_USER": "jovyan"}, account=other).ssh.user == "jovyan"


# --- who may log in --------------------------------------------------------------------------

ALICE = Account("alice", 1001, 1001, "/home/alice", "/bin/bash")
OF_THE_BASE = (
    Account("www-data", 33, 33, "/var/www", "/usr/sbin/nologin"),
    Account("sync", 4, 65534, "/bin", "/bin/sync"),
    Account("postgres", 105, 105, "/var/lib/postgresql", "/bin/bash"),
    Account("nobody", 65534, 65534, "/nonexistent", "/bin/sh"),
    Account("service", 2000, 2000, "/", "/usr/sbin/nologin"),
    Account("a*", 2001, 2001, "/", "/bin/bash"),
)


@pytest.mark.parametrize(
    ("environ", "others"),
    [({}, ("root", "alice")), ({"GRANT_SUDO": "no"}, ("alice",))],
)
def test_who_may_log_in_besides(environ: dict[str, str], others: tuple[str, ...]) -> None:
    """Root where it may, and accounts of people; none of the base's."""
    made = plan(environ, accounts=(ROOT, DEV, *OF_THE_BASE, ALICE))
    assert (made.ssh.user, made.ssh.others) == ("dev", others)


def test_without_root_or_on_another_machine_nobody_else_may() -> None:
    assert plan(me=DEV, accounts=(ROOT, DEV), first_open_port=1024).ssh_off
    assert plan({"SSH_PORT": "2222"}, me=DEV, accounts=(ROOT, DEV)).ssh.others == ()
    assert plan(image=False, accounts=(ROOT, DEV, ALICE)).ssh.others == ("root",)


# --- behind a proxy that asks who somebody is ----------------------------------------------------

ON_KUBERNETES = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
# As Open Data Hub's notebook controller passes it.
OPEN_DATA_HUB = {
    **ON_KUBERNETES,
    "NB_PREFIX": "/notebook/ns/me",
    "NOTEBOOK_ARGS": "--ServerApp.port=8888 --ServerApp.token='' --ServerApp.password='' "
    "--ServerApp.base_url=/notebook/ns/me --ServerApp.quit_button=False",
}


@pytest.mark.parametrize(
    "environ", [{**ON_KUBERNETES, "LAUNCHER_JUPYTER_AUTH": "proxy"}, OPEN_DATA_HUB]
)
def test_behind_a_proxy_of_kubernetes_there_is_no_token(environ: dict[str, str]) -> None:
    made = make_plan(outset(machine(GpuReport(), platform="kubernetes"), settings(environ)), STATE)
    assert made.jupyter
    assert made.jupyter.token.reveal() == ""
    assert "token=" not in banner.jupyter_url(made.jupyter)
    door = jupyter_door(made.jupyter)
    assert door.authorization is None
    assert door.target
    assert "token" not in door.target.reveal()
    text = banner.render_banner(machine(GpuReport()), made, PROBES, STARTED + 1, {})
    assert "no token (LAUNCHER_JUPYTER_AUTH=proxy)" in text


@pytest.mark.parametrize(
    ("environ", "platform", "said"),
    [
        ({}, "docker", "it is for Kubernetes"),
        ({"JUPYTER_TOKEN": "x"}, "kubernetes", "means no token, and JUPYTER_TOKEN is one"),
    ],
)
def test_elsewhere_nobody_is_let_in_so(environ: dict[str, str], platform: str, said: str) -> None:
    asked = settings({"LAUNCHER_JUPYTER_AUTH": "proxy", **environ})
    with pytest.raises(BadSetting, match=said):
        make_plan(outset(machine(GpuReport(), platform=platform), asked), STATE)


def test_a_token_for_metrics_that_opens_everything_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret")
    given = {"JUPYTER_TOKEN": "s3cret", "LAUNCHER_METRICS_TOKEN_FILE": f"{tmp_path}/token"}
    with pytest.raises(BadSetting, match="LAUNCHER_METRICS_TOKEN_FILE and JUPYTER_TOKEN are the"):
        plan(given)
    assert plan({**given, "JUPYTER_TOKEN": "another"}).jupyter.metrics_token == Secret("s3cret")


def test_an_empty_token_alone_opens_nothing() -> None:
    for environ in ({"NB_PREFIX": "/x"}, ON_KUBERNETES, {}):
        given = {**environ, "NOTEBOOK_ARGS": "--ServerApp.token=''"}
        found = machine(GpuReport(), platform="kubernetes")
        made = make_plan(outset(found, settings(given)), STATE)
        assert made.jupyter
        assert made.jupyter.token == STATE.token
