"""The world around a box: a company's authority, names, other boxes, what pip is told."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from testing.container import kernel
from testing.container.box import Boxes
from testing.container.engine import poll

CERTIFICATES = "/usr/local/share/ca-certificates/corp.crt"
# What a program sees: how many authorities each variable's file has, and Python's own.
COUNT = """
import os, ssl
names = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "GIT_SSL_CAINFO",
         "NODE_EXTRA_CA_CERTS")
print(*{open(os.environ[name]).read().count("BEGIN CERTIFICATE") for name in names})
print(any("Corp" in str(ca["subject"]) for ca in ssl.create_default_context().get_ca_certs()))
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ca")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/O=Corp/CN=Corp CA",
         "-keyout", folder / "key.pem", "-out", folder / "corp.crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder / "corp.crt"


@pytest.mark.parametrize(
    "options",
    [(), ("--read-only", "--tmpfs", "/run", "--tmpfs", "/tmp"), ("--user", "1000")],
    ids=["root", "read-only", "not-root"],
)
def test_a_company_s_authority_is_trusted(
    box: Boxes, authority: Path, options: tuple[str, ...]
) -> None:
    mounted = ("-v", f"{authority}:{CERTIFICATES}:ro")
    told = ("-v", f"{authority}:/corp.pem:ro", "-e", "LAUNCHER_CA_CERTS=/corp.pem")
    for way in (mounted, told) if not options else (mounted,):
        done = box.run("python", "-c", COUNT, options=(*options, *way))
        count, trusted = done.stdout.decode().split()
        assert int(count) > 100  # the system's are there, too
        assert trusted == "True"


def test_a_file_that_is_no_certificate_is_named(box: Boxes, tmp_path: Path) -> None:
    (tmp_path / "corp.crt").write_text("not one")
    started = box("-v", f"{tmp_path}:/usr/local/share/ca-certificates:ro")
    assert started.wait() == 78
    assert f"certificate authority {CERTIFICATES}: no certificate in PEM" in started.logs()


def test_an_engine_that_forbids_clone3_is_named(box: Boxes, tmp_path: Path) -> None:
    """As Docker's before 20.10.10: no thread can be started, so Jupyter cannot run."""
    profile = tmp_path / "old.json"
    refused = {"names": ["clone3"], "action": "SCMP_ACT_ERRNO"}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [refused]}))
    old = ("--security-opt", f"seccomp={profile}")
    done = box.run(options=old)
    assert done.returncode == 78
    assert b"can start a thread" in done.stdout
    assert b"update docker, to 20.10.10 at least" in done.stdout
    done = box.run("echo", "clean", options=old)
    assert (done.returncode, done.stdout) == (0, b"clean\n")
    assert b"can start a thread" in done.stderr


def test_what_every_program_is_to_load_and_is_not_there(box: Boxes, tmp_path: Path) -> None:
    (tmp_path / "preload").write_text("/usr/local/vgpu/libvgpu.so\n")
    mounted = ("-v", f"{tmp_path}/preload:/etc/ld.so.preload:ro")
    done = box.run("launcher", "doctor", "libraries", options=mounted)
    said = b" ".join(done.stdout.split())
    assert b"/etc/ld.so.preload names /usr/local/vgpu/libvgpu.so, which is not there" in said


def test_a_box_that_nobody_uses_ends_in_good_order(box: Boxes) -> None:
    started = box("-e", "LAUNCHER_IDLE_SHUTDOWN=20s")
    used = box("-e", "LAUNCHER_IDLE_SHUTDOWN=20s")
    with kernel.connect(used).kernel() as notebook:
        notebook.run_until("begun", "import time; print('begun', flush=True); time.sleep(600)")
        started.wait_for_log(r"launcher: nobody has used this box for \d+ s: it ends in \d+ s")
        assert started.wait(timeout=90) == 0
        assert "it ends now" in started.logs()
        assert used.is_running()


@pytest.mark.long
def test_a_jupyter_that_ends_for_want_of_activity_takes_the_box_along(box: Boxes) -> None:
    """Jupyter looks once a minute."""
    option = "--ServerApp.shutdown_no_activity_timeout=1"
    started = box("-e", f"LAUNCHER_JUPYTER_ARGS={option}", "--restart", "on-failure")
    assert poll(lambda: not started.is_running(), timeout=150, interval=1)
    assert started.exit_code() == 0
    assert "launcher: Jupyter ended because nobody used it, and the box with it" in started.logs()


def test_pip_installs_where_a_variable_asks_for_the_home(box: Boxes) -> None:
    done = box.run("python", "-m", "pip", "config", "debug", options=("-e", "PIP_USER=1"))
    assert b"PIP_USER='0'" in done.stdout


RESOLVE = "import socket; print(socket.gethostbyname(socket.gethostname()))"


def test_jupyter_is_found_from_every_door(box: Boxes, tmp_path: Path) -> None:
    """Where nothing but the box knows its own name, too: neither a file, nor a server."""
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n")
    nameless = ("--dns", "192.0.2.1", "-v", f"{tmp_path}/hosts:/etc/hosts:ro")
    started = box(*nameless)
    url = kernel.printed_url(started.wait_for_banner())
    assert started.exec("sudo", "-n", "true", user="dev").stderr == ""
    address = started.exec("launcher", "exec", "--", "python", "-c", RESOLVE).stdout.strip()
    assert address == started.inspect()["NetworkSettings"]["IPAddress"]
    token = url.partition("token=")[2]
    for words in (("launcher", "exec", "--", "jupyter", "server", "list"),
                  ("su", "dev", "-lc", "jupyter server list")):  # fmt: skip
        assert token in started.exec(*words).stdout
