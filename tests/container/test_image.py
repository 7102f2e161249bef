"""What is in the image, and what must not be."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from launcher import __version__
from testing.container.engine import DOCKER, Docker
from tools import image_size, lock, sbom

TORCH = "2.6.0"  # of the default image
# MB per part on top of base and PyTorch, a tenth above what was measured; all of them at most 920.
BUDGET = {
    "distribution packages": 410,
    "Jupyter and notebook set": 495,
    "launcher": 35,
    "everything else": 1,
}

# The locks serve every platform, and Python 3.10.
OF_OTHER_PLATFORMS = {"appnope", "colorama", "pycparser", "pywinpty", "tzdata", "windows-curses"}


@pytest.fixture(scope="module")
def config(docker: Docker, image: str) -> dict[str, Any]:
    """Return the image's configuration."""
    found = docker("image", "inspect", "--format", "{{json .Config}}", image).stdout
    return dict(json.loads(found))


@pytest.mark.long
def test_the_sbom_has_what_apt_and_pip_installed(
    docker: Docker, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of both environments, by name and version, in both formats."""
    for name, value in docker.environment.items():
        monkeypatch.setenv(name, value)
    sbom.write(DOCKER, image, tmp_path)
    cyclonedx = json.loads((tmp_path / sbom.FORMATS["cyclonedx-json"]).read_text())
    spdx = json.loads((tmp_path / sbom.FORMATS["spdx-json"]).read_text())
    libraries = [one for one in cyclonedx["components"] if one["type"] == "library"]
    found = {one["name"]: one["version"] for one in libraries}
    assert found.items() <= {(one["name"], one.get("versionInfo")) for one in spdx["packages"]}
    locked = {"pytorch-cuda-launcher"}.union(
        *(
            lock.versions(path.read_text())
            for path in lock.FOLDER.glob("*/*.txt")
            if path.parent.name != "torch" or path.stem == TORCH
        )
    )
    listed = {re.sub(r"[-_.]+", "-", name).lower() for name in found}
    assert locked - listed <= OF_OTHER_PLATFORMS | {"setuptools"}, "which only builds"
    assert found["torch"] == TORCH
    assert found["supervisor"] == "4.3.0"
    assert found["openssh-server"].startswith("1:")


class Shell:
    """Looks into the image, without its entrypoint."""

    def __init__(self, docker: Docker, image: str, user: str) -> None:
        self._docker = docker
        self._start = ("run", "--rm", "--user", user, "--entrypoint", "bash", image, "-c")

    def __call__(self, script: str) -> str:
        return self._docker(*self._start, script).stdout.strip()


@pytest.fixture(scope="module")
def as_root(docker: Docker, image: str) -> Shell:
    return Shell(docker, image, "root")


@pytest.fixture(scope="module")
def as_dev(docker: Docker, image: str) -> Shell:
    return Shell(docker, image, "dev")


def test_configuration(config: dict[str, Any]) -> None:
    """The contract with docker run, Compose and Kubernetes."""
    assert config["Entrypoint"] == ["/opt/launcher/entrypoint"]
    assert config["Cmd"] == ["services"], "a list, which spawners append to"
    assert set(config["ExposedPorts"]) == {"8888/tcp", "22/tcp"}
    assert set(config["Volumes"]) == {"/var/lib/launcher", "/run/launcher"}
    assert config["WorkingDir"] == "/workspace"
    assert config["StopSignal"] == "SIGTERM"
    assert config["User"] in ("", "root", "0"), "the launcher drops root itself"


def test_environment(config: dict[str, Any]) -> None:
    """NVIDIA's runtime is asked for everything PyTorch needs; python and pip are the user's."""
    env = dict(item.split("=", 1) for item in config["Env"])
    assert env["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert env["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility"
    assert env["PATH"].split(":")[:2] == ["/opt/launcher/command", "/opt/venv/bin"]
    assert set(env) == {"NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "PATH", "LANG"}


def test_healthcheck(config: dict[str, Any]) -> None:
    seconds = 1_000_000_000
    health = config["Healthcheck"]
    assert health["Test"] == ["CMD", "/usr/local/bin/launcher", "healthcheck"]
    assert (health["Interval"], health["Timeout"]) == (10 * seconds, 3 * seconds)
    assert health["Retries"] == 2


def test_labels(config: dict[str, Any]) -> None:
    labels = config["Labels"]
    prefix = "org.opencontainers.image."
    for name in ("title", "description", "licenses", "version", "revision", "created"):
        assert labels[prefix + name] not in ("", "unknown"), name
    assert labels[prefix + "base.name"] == "debian:bookworm-slim"
    assert labels[prefix + "version"] == __version__


def test_the_version_of_the_launcher(as_root: Shell) -> None:
    ask = "from importlib.metadata import version; print(version('pytorch-cuda-launcher'))"
    assert as_root(f'/opt/launcher/bin/python -I -c "{ask}"') == __version__


def test_no_layer_has_secrets_or_leftovers(docker: Docker, image: str) -> None:
    """What a later layer deletes is still in the image: so look into each layer."""
    template = "{{.GraphDriver.Data.UpperDir}}:{{.GraphDriver.Data.LowerDir}}"
    layers = docker("image", "inspect", "--format", template, image).stdout.strip().split(":")
    assert any(Path(layer, "opt/venv").exists() for layer in layers), "these are not the layers"
    unwanted = (
        "etc/ssh/ssh_host_*",  # they would be everybody's
        "root/.ssh",
        "run/secrets/*",
        "var/lib/apt/lists/*Packages*",
        "var/cache/apt/archives/*.deb",
        "root/.cache/*",
        "tmp/*",
    )
    found = [path for layer in layers for name in unwanted for path in Path(layer).glob(name)]
    assert found == []


def test_nothing_new_in_the_root_folder(as_root: Shell) -> None:
    """A folder made for a build's mount would stay."""
    standard = (
        "bin boot dev etc home lib lib64 media mnt opt proc root run sbin srv sys tmp usr var"
    )
    added = {"workspace", ".dockerenv", "init", "start.sh"}  # commands of other images
    assert set(as_root("ls -A /").split()) - set(standard.split()) == added
    assert as_root("ls -A /mnt /media /srv").split() == ["/media:", "/mnt:", "/srv:"]


def test_dev_can_log_in(as_root: Shell) -> None:
    assert as_root("getent passwd 1000") == "dev:x:1000:1000::/home/dev:/bin/bash"
    assert as_root("getent group 1000") == "dev:x:1000:"
    # '*' is "no password"; '!' would be "locked", which sshd without PAM refuses even with a key.
    assert as_root("getent shadow dev").split(":")[1] == "*"
    assert as_root("stat -c %U /home/dev /home/dev/.bashrc /workspace").split() == ["dev"] * 3
    assert as_root("find /home/dev -perm /022") == "", "sshd's StrictModes would refuse the keys"


def test_root_s_folders(as_root: Shell) -> None:
    """Nothing that root runs or reads can be written by anybody else, group 0 included."""
    assert as_root("stat -c '%U %a' /var/lib/launcher") == "root 700"
    empty = "/etc/launcher/authorized_keys.d /etc/launcher/supervisor.d /var/lib/launcher"
    assert as_root(f"ls -d {empty}").split() == empty.split()
    assert as_root(f"find {empty} -mindepth 1") == ""
    writable = "find /opt/launcher /etc/launcher /usr/local/bin /etc/profile.d ! -type l -perm /022"
    assert as_root(writable) == ""
    assert as_root("find /opt/launcher /etc/launcher ! -user root") == ""


def test_venv_is_writable_for_the_workspace_group(as_root: Shell) -> None:
    """Every file and folder, bytecode included: pip uninstalls file by file."""
    assert as_root("find /opt/venv ! -group dev | head") == ""
    assert as_root("find /opt/venv ! -type l ! -perm -g=w | head") == ""
    assert as_root("find /opt/venv -type d ! -perm -g=s | head") == ""


def test_every_module_is_compiled(as_root: Shell) -> None:
    """Without bytecode Jupyter starts two seconds later, each time where / is read-only."""
    script = """
import importlib.util, pathlib, sys
for root in sys.argv[1:]:
    for source in pathlib.Path(root, "lib").rglob("*.py"):
        if not pathlib.Path(importlib.util.cache_from_source(source)).exists():
            print(source)
"""
    assert as_root(f"python3 - /opt/venv /opt/launcher <<'END'{script}END") == ""


def test_tools(as_root: Shell) -> None:
    """What people reach for in a terminal, and what torch.compile calls."""
    tools = "bash curl g++ gcc git htop less nvitop nvtop ps rsync sftp ssh sshd sudo tmux vi vim"
    assert (
        as_root(f"for tool in {tools}; do command -v $tool > /dev/null || echo $tool; done") == ""
    )


# Each says something of its own when it works: that it is there says little.
WORKING = {
    "uv": ("uv pip list 2>&1 | grep -E '^torch '", "torch"),
    "wget": ("wget --version", "GNU Wget"),
    "nano": ("nano --version", "GNU nano"),
    "zip": ("cd /tmp && echo a > a && zip -q a.zip a && unzip -p a.zip", "a"),
    "unzip": ("unzip -v", "UnZip"),
    "jq": ("echo '{\"a\": 1}' | jq .a", "1"),
    "make": ("printf 'a:\\n\\t@echo made\\n' | make -f -", "made"),
    "git-lfs": ("git lfs version; git config --system filter.lfs.process", "git-lfs filter"),
    "lsof": ("lsof -p $$ | head -3", "bash"),
    "ip": ("ip -brief address show lo", "127.0.0.1"),
    "ss": ("ss -ltn", "Local Address"),
    "ping": ("ping -c 1 127.0.0.1", "1 received"),
    "ibv_devinfo": ("ibv_devinfo 2>&1 || true", "IB devices"),
    "ib_write_bw": ("ib_write_bw --version", "Version"),
    "librdmacm": ("python -c \"import ctypes; print(ctypes.CDLL('librdmacm.so.1'))\"", "CDLL"),
    "numactl": ("numactl --show || true", "nodebind"),
    "infocmp": ("infocmp xterm-kitty", "xterm-kitty"),
    "date": ("TZ=Europe/Zurich date -d @0 +%z", "+0100"),
}


def test_everyday_tools_work_for_the_user(as_dev: Shell) -> None:
    script = "".join(
        f"echo '== {tool}'\n({command}) 2>&1\n" for tool, (command, _) in WORKING.items()
    )
    answers = dict(
        part.strip().split("\n", 1) if "\n" in part.strip() else (part.strip(), "")
        for part in as_dev(script).split("== ")[1:]
    )
    failed = {
        tool: answers[tool] for tool, (_, said) in WORKING.items() if said not in answers[tool]
    }
    assert failed == {}


def test_pip_and_uv_for_a_path_without_them(as_root: Shell) -> None:
    """sudo's PATH, and cron's: they are the workspace's all the same."""
    sudo = "env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    says = f"{sudo} pip --version; {sudo} pip3 --version; {sudo} uv pip list 2>&1"
    pip, pip3, *uv = as_root(says).splitlines()
    assert pip == pip3
    assert "/opt/venv/" in pip
    assert any(line.split()[:2] == ["torch", "2.6.0"] for line in uv), uv


def test_python_is_the_user_s(as_dev: Shell) -> None:
    assert as_dev("command -v python pip jupyter").split() == [
        "/opt/venv/bin/python",
        "/opt/venv/bin/pip",
        "/opt/venv/bin/jupyter",
    ]
    assert as_dev("python -c 'import torch; print(torch.__version__)'") == "2.6.0+cu124"


def test_launcher_has_few_dependencies(as_root: Shell) -> None:
    """Ours, the four, and what those need; no pip to change it with."""
    script = """
from importlib.metadata import distributions, requires
from re import match
installed = {d.metadata["Name"].lower() for d in distributions()}
wanted = {"pytorch-cuda-launcher"}
needed = set()
while wanted:
    name = wanted.pop()
    needed.add(name)
    names = {match(r"[\\w.-]+", r)[0].lower() for r in requires(name) or () if "extra" not in r}
    wanted |= names & installed - needed
print(len([r for r in requires("pytorch-cuda-launcher") if "extra" not in r]))
print(*sorted(installed - needed))
"""
    output = as_root(f"/opt/launcher/bin/python -I - <<'END'{script}END")
    assert output == "4", "four dependencies, and nothing that they do not need"


def test_launcher_command_is_everybody_s(as_dev: Shell) -> None:
    assert as_dev("command -v launcher") == "/opt/launcher/command/launcher"
    assert as_dev("ls /opt/launcher/command") == "launcher", "nothing else is put before the user's"
    assert "usage: launcher" in as_dev("/usr/local/bin/launcher --help")
    assert "usage: launcher" in as_dev("launcher --help")


def test_size(docker: Docker, image: str) -> None:
    """What we add on top of base and PyTorch stays within its budget, part by part."""
    history = docker(
        "history", "--human=false", "--no-trunc", "--format", "{{json .}}", image
    ).stdout
    sizes = image_size.sizes_by_part(history)
    measured = {part: size / 1e6 for part, size in sizes.items() if part in BUDGET}
    assert set(measured) == set(BUDGET)
    assert {part: mb for part, mb in measured.items() if mb > BUDGET[part]} == {}
    assert sum(measured.values()) <= image_size.MOST_MEGABYTES
    assert all(sizes[part] > 0 for part in image_size.PARTS), "a part was not recognised"


def test_what_the_engine_starts_has_no_loader(as_root: Shell) -> None:
    """Else the loader would follow LD_LIBRARY_PATH before any program of ours runs."""
    for program in ("/opt/launcher/entrypoint", "/usr/local/bin/launcher"):
        interpreter = f"readelf --program-headers $(readlink -f {program}) | grep -c INTERP || true"
        assert as_root(interpreter) == "0"
    assert as_root("readelf --program-headers /usr/bin/env | grep -c INTERP") == "1"
