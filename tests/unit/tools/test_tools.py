"""The tools behind the Makefile: what they decide, without an engine and without installing."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from tools import (
    image,
    image_size,
    ports,
    run_image,
    run_local,
    run_tests,
    system_packages,
    test_gpu,
    venv,
)

GIB = 1 << 30


def history(*layers: tuple[str, int]) -> str:
    """Return `docker history` of these layers, base first; docker prints the newest first."""
    lines = [json.dumps({"CreatedBy": command, "Size": str(size)}) for command, size in layers]
    return "\n".join(reversed(lines))


def test_sizes_by_part() -> None:
    layers = (
        ("ADD rootfs.tar /", 100),
        ("LABEL of the base", 0),
        ("COPY image/dpkg-excludes /etc/dpkg/dpkg.cfg.d/launcher # buildkit", 1),
        ("RUN /bin/sh -c /mnt/install-packages && rm /etc/ssh/ssh_host_* # buildkit", 20),
        ("RUN /bin/sh -c /mnt/make-user dev 1000 # buildkit", 2),
        ("RUN /bin/sh -c /mnt/install-torch $TORCH", 5000),
        ("RUN /bin/sh -c /mnt/install-notebook $TORCH", 40),
        ("COPY /opt/launcher /opt/launcher # buildkit", 3),
    )
    assert image_size.sizes_by_part(history(*layers)) == {
        "base image": 100,
        "distribution packages": 20,
        "PyTorch": 5000,
        "Jupyter and notebook set": 40,
        "launcher": 3,
        "everything else": 3,
    }


def test_parts_are_in_the_dockerfile() -> None:
    """A part whose line was renamed would count as "everything else"."""
    dockerfile = (image.PROJECT / "Dockerfile").read_text().replace("COPY --from=launcher", "COPY")
    wanted = [*image_size.PARTS.values(), image_size.FIRST_OF_OURS]
    assert [word for word in wanted if word not in dockerfile] == []


def test_default_torch_is_three_pins() -> None:
    pins = image.default_torch().split()
    assert [pin.partition("==")[0] for pin in pins] == ["torch", "torchvision", "torchaudio"]


def build(environ: dict[str, str]) -> list[str]:
    return image.build_command("docker", tag="t", arguments={"TORCH": "x"}, environ=environ)


def test_build_hands_on_proxy_and_ca(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.crt"
    bundle.touch()
    command = build({"HTTPS_PROXY": "http://user:secret@proxy", "PIP_CERT": str(bundle)})
    assert f"id=ca,src={bundle}" in command
    assert "HTTPS_PROXY" in command, "by name: docker reads the value itself"
    assert "secret@" not in " ".join(command)
    assert "TORCH=x" in command


def test_build_without_ca(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(image, "SYSTEM_CA", str(tmp_path / "none"))
    assert "--secret" not in build({"PIP_CERT": str(tmp_path / "gone")})


@pytest.mark.parametrize(
    ("memory", "shm"), [(64 * GIB, "8g"), (8 * GIB, "4g"), (1 * GIB, "1g"), (0, "1g")]
)
def test_run_gives_shared_memory_that_the_machine_has(memory: int, shm: str) -> None:
    command = run_image.run_command("d", "t", environ={}, gpus=False, memory=memory, tty=False)
    assert f"--shm-size={shm}" in command


def test_run_asks_for_gpus_and_a_terminal_only_where_they_are() -> None:
    without = run_image.run_command("d", "t", environ={}, gpus=False, memory=0, tty=False)
    assert not {"--gpus", "-it"} & set(without)
    with_both = run_image.run_command("d", "t", environ={}, gpus=True, memory=0, tty=True)
    assert with_both[with_both.index("--gpus") + 1] == "all"
    assert "-it" in with_both


def test_run_hands_on_settings_without_their_values() -> None:
    environ = {
        "JUPYTER_TOKEN": "s3cret",
        "LAUNCHER_GPUS": "1",
        "HOME": "/root",
        "WORKSPACE": "/data",
    }
    command = run_image.run_command("d", "t", environ=environ, gpus=False, memory=0, tty=False)
    assert {"JUPYTER_TOKEN", "LAUNCHER_GPUS"} < set(command)
    assert "HOME" not in command
    assert "s3cret" not in " ".join(command)
    assert "/data:/workspace" in command


def test_run_publishes_on_free_ports_and_says_which() -> None:
    with socket.create_server(("0.0.0.0", 0)) as busy:
        port = busy.getsockname()[1]
        free = ports.first_free(port, address="0.0.0.0")
        assert free > port
        assert ports.first_free(port, address="0.0.0.0", taken=[free]) > free


REPORT = """<testsuites><testsuite>
  <testcase classname="tests.unit.plan.test_plan" name="a"/>
  <testcase classname="tests.container.test_image" name="b">{}</testcase>
</testsuite></testsuites>"""


@pytest.mark.parametrize(
    ("outcome", "count"), [("", 1), ("<failure/>", 1), ("<skipped/>", 0)], ids=str
)
def test_skipped_container_tests_do_not_count(tmp_path: Path, outcome: str, count: int) -> None:
    report = tmp_path / "tests.xml"
    report.write_text(REPORT.format(outcome))
    assert run_tests.count_container_tests(report) == count


@pytest.mark.parametrize(("driver", "size"), [(True, "6 GB"), (False, "1 GB")])
def test_what_is_to_be_installed_is_said_with_its_size_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, driver: bool, size: str
) -> None:
    monkeypatch.setattr(venv, "VENV", tmp_path)
    monkeypatch.setattr(run_local, "has_nvidia_driver", lambda: driver)
    said = run_local.announcement()
    assert "550 MB" in said
    assert size in said
    stamp = tmp_path / "installed" / "run"
    stamp.parent.mkdir()
    stamp.write_text("other pins")
    assert run_local.announcement() == said
    stamp.write_text(venv._digest(venv.SETS["run"]))
    assert run_local.announcement() == ""


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"somewhere": "no-such-program", "coreutils": "ls"}
    monkeypatch.setitem(system_packages.SETS, "example", wanted)
    assert system_packages.missing("example") == ["somewhere"]


def test_the_suite_for_a_gpu_brings_what_the_launcher_and_a_kernel_need() -> None:
    pins = dict(pin.split("==") for pin in test_gpu.requirements())
    own = {"nvidia-ml-py", "supervisor", "paramiko", "cryptography"}
    assert set(pins) == own | {"jupyterlab", "jupyter_server", "ipykernel", "websocket-client"}
    assert all(pins.values())


def test_what_tests_compile_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert "PYTHONDONTWRITEBYTECODE" not in run_tests.environment()
    assert run_tests.environment()["PATH"] == os.environ["PATH"]
