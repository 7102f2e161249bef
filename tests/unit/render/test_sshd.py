"""sshd's configuration: which host keys it serves, who may log in how, and that sshd reads it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from launcher.box import ssh_keys
from launcher.box import state as box_state
from launcher.model.machine import GpuReport
from launcher.model.plan import Plan, State
from launcher.plan.plan import make_plan
from launcher.render.sshd import sshd_config
from launcher.text import banner
from testing.machines import DEV, LOGIN_KEY, PROBES, STARTED, STATE, machine, outset, settings
from testing.values import replace

RSA = replace(STATE, rsa_host_key=LOGIN_KEY)  # any key's text will do


def plan(state: State = STATE, environ: dict[str, str] | None = None, **host: object) -> Plan:
    found = machine(GpuReport(), **host)
    return make_plan(outset(found, settings(environ or {})), state)


def lines(made: Plan) -> list[str]:
    assert made.ssh
    return sshd_config(made, made.ssh).splitlines()


def test_the_rsa_host_key_is_read_whenever_sshd_is_told_to() -> None:
    ed25519 = 'HostKey "/var/lib/launcher/ssh_host_ed25519_key"'
    rsa = 'HostKey "/var/lib/launcher/ssh_host_rsa_key"'
    assert [line for line in lines(plan()) if "HostKey " in line] == [ed25519, rsa]
    assert [line for line in lines(plan(RSA)) if "HostKey " in line] == [ed25519, rsa]


@pytest.mark.parametrize(("state", "count"), [(STATE, 0), (RSA, 1)])
def test_the_banner_shows_the_fingerprint_of_each_host_key(state: State, count: int) -> None:
    made = plan(state)
    text = banner.render_banner(machine(GpuReport()), made, PROBES, STARTED + 1, {})
    assert text.count("   RSA host key SHA256:") == count
    assert text.count("   host key SHA256:") == 1


def test_root_is_strict_about_who_could_write_the_keys() -> None:
    assert "StrictModes yes" in lines(plan())


def test_in_non_root_mode_a_tmpfs_on_run_is_no_reason_to_refuse_a_key() -> None:
    """It is 1777 there, and nobody but this one user can log in."""
    made = plan(environ={"SSH_PORT": "2222"}, me=DEV, account=None)
    assert "StrictModes no" in lines(made)
    assert "Port 2222" in lines(made)


@pytest.mark.parametrize("rsa", [False, True])
def test_sshd_accepts_it(tmp_path: Path, rsa: bool) -> None:
    sshd = shutil.which("sshd") or "/usr/sbin/sshd"
    if not Path(sshd).exists():
        pytest.skip("OpenSSH's server is not installed")
    box_state.prepare_sshd(0)
    state = box_state.open_state(str(tmp_path / "a b"), [], login_key=False)
    if rsa:
        ssh_keys.make_rsa_host_key(str(tmp_path / "a b"))
        state = box_state.open_state(str(tmp_path / "a b"), [], login_key=False)
    made = plan(state, {"LAUNCHER_STATE_DIR": str(tmp_path / "a b"), "HF_TOKEN": 'a "b" # c'})
    path = tmp_path / "sshd_config"
    path.write_text("\n".join(lines(made)) + "\n")
    done = subprocess.run([sshd, "-T", "-f", path], capture_output=True, text=True)
    missing = "" if rsa else f"Unable to load host key: {tmp_path}/a b/ssh_host_rsa_key"
    assert (done.returncode, done.stderr.strip()) == (0, missing)
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    assert said["x11forwarding"] == said["usepam"] == said["kbdinteractiveauthentication"] == "no"
    assert "nistp" not in said["kexalgorithms"]
    assert "sha1" not in said["kexalgorithms"] + said["macs"]
    assert "sntrup761x25519" in said["kexalgorithms"], "post-quantum where sshd has it"
    assert done.stdout.count("\nhostkey ") == 2
