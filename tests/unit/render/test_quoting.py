"""Users' values through the real programs that read them: sshd and two shells, byte for byte."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from launcher.box import state as box_state
from launcher.model.plan import EnvVar, Plan
from launcher.render.shell import environment_sh, for_root, login_sh, setenv_variables
from launcher.render.sshd import sshd_config
from testing.local_box import free_ports, wait_until
from testing.machines import CASES, Case
from testing.strategies import names, values
from testing.values import replace

H100 = CASES["h100-8x"]
# Names that a shell keeps for itself: a container that sets one gets the shell's own.
SHELLS_OWN = {"_", "IFS", "OPTIND", "PPID", "PS1", "PS2", "PS4", "UID", "EUID", "PWD", "OLDPWD"}
variables = st.dictionaries(names.filter(lambda name: name not in SHELLS_OWN), values, max_size=12)

NASTY = {
    "QUOTES": "'\"'\"\\\"\\\\'",
    "BACKSLASHES": "\\n\\\\ \\",
    "SPACES": "  two  words\t ",
    "HASH": "a #b # c",
    "DOLLAR": "$HOME ${X} $(id) `id`",
    "PERCENT": "%h %u %% %",
    "SEMICOLON": "a ;b; c & d | e",
    "EMPTY": "",
    "BYTES": "\udcff\udc80 ü × \x7f\x01\x1b[31m",
    "EQUALS": "=a=b=",
    "COMMA": "a,b",
    "GLOB": "* ? [a-z] ~ !! {a,b}",
}


# --- shells ----------------------------------------------------------------------------------


def through_shell(shell: str, script: str, given: Mapping[str, str] | None = None):
    """Return the environment that a shell has after reading `script`, as bytes."""
    with tempfile.NamedTemporaryFile(suffix=".sh") as file:
        file.write(os.fsencode(script))
        file.flush()
        done = subprocess.run(
            [shell, "-c", '. "$0"; exec env -0', file.name],
            env={"PATH": "/usr/bin:/bin", **(given or {})},
            capture_output=True,
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (0, b"")
    return environment_of(done.stdout)


def environment_of(output: bytes) -> dict[str, str]:
    """Parse `env -0`."""
    pairs = (entry.partition("=") for entry in os.fsdecode(output).split("\0") if entry)
    return {name: value for name, _, value in pairs}


def plan_of(planned: Mapping[str, str]) -> Plan:
    """Return a plan whose variables all go through both ways."""
    plan = H100.plan()
    made = tuple(EnvVar(name, value, "why") for name, value in planned.items())
    return replace(plan, environment=made, inherited=())


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
@pytest.mark.parametrize("shell", ["bash", "sh"])
@example(planned=NASTY)
@example(planned={"LINES_": "one\ntwo\n\nfour\n", "CR": "a\r\nb\r"})
@given(planned=variables)
def test_a_shell_reads_exactly_what_was_planned(
    shell: str, locale: str, planned: dict[str, str]
) -> None:
    """In the image's locale, too, where bytes that are no UTF-8 are no characters."""
    account = {"HOME", "USER", "LOGNAME", "SHELL", "PATH", "LC_ALL"}
    wanted = {name: value for name, value in planned.items() if name not in account}
    seen = through_shell(shell, environment_sh(plan_of(planned)), {"LC_ALL": locale})
    assert {name: seen.get(name) for name in wanted} == wanted


def test_what_a_shell_has_already_is_kept() -> None:
    script = environment_sh(plan_of({"CUDA_VISIBLE_DEVICES": "0,1", "EMPTY": "full"}))
    seen = through_shell("bash", script, {"CUDA_VISIBLE_DEVICES": "1", "EMPTY": ""})
    assert seen["CUDA_VISIBLE_DEVICES"] == "1"
    assert seen["EMPTY"] == ""  # empty is a value, too


def test_the_shells_own_variables_do_no_harm() -> None:
    script = environment_sh(plan_of(dict.fromkeys(("UID", "PPID", "SHELLOPTS", "GROUPS"), "x")))
    assert through_shell("bash", script)


def test_a_megabyte_is_read() -> None:
    planned = {f"V{number:04}": "x" * 500 for number in range(2000)}
    seen = through_shell("bash", environment_sh(plan_of(planned)))
    assert seen.items() >= planned.items()


@given(path=values)
def test_the_path_survives_a_shell(path: str) -> None:
    if path:
        seen = through_shell(
            "bash", login_sh(plan_of({"PATH": path})) + "\nPATH=$PATH:/usr/bin:/bin"
        )
        assert seen["PATH"] == f"{path}:/usr/bin:/bin"


@pytest.mark.parametrize("write", [environment_sh, login_sh])
def test_root_finds_its_own_programs_before_the_users(write) -> None:
    mine, path = (
        "/opt/venv/bin:/usr/bin:/bin:/opt/cuda/bin",
        "/usr/bin:/bin:/opt/venv/bin:/opt/cuda/bin",
    )
    sudoer = plan_of({"PATH": mine})
    plan = replace(sudoer, identity=replace(sudoer.identity, sudo=False))
    seen = through_shell("bash", for_root(write(plan), plan), {"PATH": mine})
    assert seen["PATH"] == path
    # Where the user may be root anyway, root has the same programs; as has who set another PATH.
    assert sudoer.identity.sudo
    assert for_root(write(sudoer), sudoer) == write(sudoer)
    if write is environment_sh:
        other = {"PATH": "/other:/usr/bin:/bin"}
        assert through_shell("bash", for_root(write(plan), plan), other)["PATH"] == other["PATH"]


# --- sshd ------------------------------------------------------------------------------------

needs_sshd = pytest.mark.skipif(
    not Path("/usr/sbin/sshd").exists(), reason="OpenSSH's server is not installed"
)


@pytest.fixture(scope="module")
def state(private_dir: Path) -> str:
    """Return a state directory with a host key, where sshd trusts it; its name is no easy one."""
    box_state.prepare_sshd(0)
    directory = private_dir / "my 'state' \"100%u\" #1 \\"
    (directory / "ssh").mkdir(parents=True)
    box_state.open_state(str(directory), [], login_key=True)
    shutil.copyfile(directory / "login_key.pub", directory / "ssh" / "authorized_keys")
    return str(directory)


def configuration(plan: Plan, state: str, port: int = 22) -> str:
    assert plan.ssh is not None
    paths = replace(plan.paths, state=state, run=state)
    me = getpass.getuser()  # who the tests log in as
    ssh = replace(plan.ssh, port=port, listen="127.0.0.1", password=None, user=me)
    return sshd_config(replace(plan, paths=paths), ssh)


def as_sshd_reads_it(config: str) -> dict[str, str]:
    """Return the variables that `sshd -T` understood: the real parser's word."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(os.fsencode(config))
        file.flush()
        done = subprocess.run(["/usr/sbin/sshd", "-T", "-f", file.name], capture_output=True)
    assert done.returncode == 0, done.stderr
    # The value may hold what Python takes for a line's end (\f, \v, U+0085); sshd ends it with \n.
    lines = os.fsdecode(done.stdout).split("\n")
    pairs = (line[7:].partition("=") for line in lines if line.startswith("setenv "))
    return {name: value for name, _, value in pairs}


@needs_sshd
@settings(max_examples=60)
@example(planned=NASTY)
@example(planned={})
@given(planned=variables)
def test_sshd_reads_exactly_what_was_planned(planned: dict[str, str], state: str) -> None:
    plan = plan_of(planned)
    carried, _ = setenv_variables(plan)
    assert as_sshd_reads_it(configuration(plan, state)) == carried


@needs_sshd
@pytest.mark.parametrize("name", CASES)
def test_sshd_accepts_the_configuration_of_every_machine(name: str, state: str) -> None:
    plan = CASES[name].plan()
    assert as_sshd_reads_it(configuration(plan, state)) == setenv_variables(plan)[0]


@pytest.fixture
def login(state: str, tmp_path: Path) -> Iterator:
    """Start a real sshd on a configuration and run a command through it."""
    started: list[subprocess.Popen] = []
    key = shutil.copy(f"{state}/login_key", tmp_path)  # ssh expands % in the name of a key

    def run(plan: Plan, command: str) -> bytes:
        (port,) = free_ports(1)
        config = configuration(plan, state, port)
        (tmp_path / "sshd_config").write_bytes(os.fsencode(config))
        log = (tmp_path / "log").open("wb")
        server = subprocess.Popen(
            ["/usr/sbin/sshd", "-D", "-e", "-f", tmp_path / "sshd_config"], stderr=log
        )
        started.append(server)
        wait_until(
            lambda: b"listening" in (tmp_path / "log").read_bytes() or server.poll() is not None,
            "sshd listens or ends",
        )
        options = ["-F/dev/null", "-oBatchMode=yes", "-oStrictHostKeyChecking=no"]
        options += [f"-oUserKnownHostsFile={tmp_path}/known_hosts", "-oLogLevel=ERROR"]
        done = subprocess.run(
            ["ssh", *options, "-i", key, "-p", str(port), "127.0.0.1", command],
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr + (tmp_path / "log").read_bytes()
        return done.stdout

    yield run
    for server in started:
        server.terminate()
        server.wait(10)


@needs_sshd
@pytest.mark.parametrize(
    "planned",
    [
        pytest.param(NASTY, id="nasty"),
        pytest.param({f"V{number:04}": "x" for number in range(2000)}, id="2000-variables"),
        pytest.param({f"V{number:02}": "x" * 60_000 for number in range(20)}, id="1-megabyte"),
        pytest.param({f"V{number:04}": "x" * 214 for number in range(2000)}, id="both-limits"),
        pytest.param({f"V{number:02}": '\\"' * 30_000 for number in range(20)}, id="all-escaped"),
    ],
)
def test_a_real_login_sees_the_exact_bytes(planned: dict[str, str], login) -> None:
    plan = plan_of(planned)
    carried, _ = setenv_variables(plan)
    assert carried
    seen = environment_of(login(plan, "env -0"))
    assert {name: seen.get(name) for name in carried} == carried


@needs_sshd
def test_a_container_with_no_variable_at_all_can_be_logged_in_to(login) -> None:
    assert b"USER=" in login(plan_of({}), "env")


def test_the_order_of_the_file_is_the_plans() -> None:
    # sshd takes the first of two equal names, so none may come twice.
    carried, _ = setenv_variables(Case(H100.machine, {"CUDA_VISIBLE_DEVICES": "3"}).plan())
    assert carried["CUDA_VISIBLE_DEVICES"] == "3"
