"""A box's manners: what its log says, what its programs start with, what it costs."""

from __future__ import annotations

import re
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from testing import pages
from testing.container import doors, kernel
from testing.container.box import BANNER, PYTORCH_CHECKED, Box, Boxes
from testing.container.engine import poll
from testing.container.login import login
from testing.container.processes import Process, processes
from testing.scripts import signal_masks

# What CPython itself ignores (Python/pylifecycle.c, init_signals): SIGPIPE and SIGXFSZ.  It undoes
# that in what it starts; exec alone would not.
IGNORED_BY_PYTHON = 1 << 13 - 1 | 1 << 25 - 1


@dataclass(frozen=True)
class Started:
    """A box without GPUs, as `docker run IMAGE` starts it, and all it had said by then."""

    box: Box
    log: str


@pytest.fixture(scope="module")
def started(shared_box: Boxes, wheels: Path) -> Started:
    box = shared_box(*PYTORCH_CHECKED, "-v", f"{wheels}:/wheels:ro", "--ulimit", "core=1000000")
    box.wait_for_log(r"launcher: PyTorch .*\n", timeout=120)
    return Started(box, box.logs())


@pytest.fixture(scope="module")
def box_of_all(started: Started) -> Box:
    return started.box


# --- the log ----------------------------------------------------------------------------------


def test_a_good_start_says_nothing_alarming(started: Started) -> None:
    alarming = re.compile(
        r"WARN|ERROR|CRIT|Traceback|Exception|\[[WEC] |fail|denied", re.IGNORECASE
    )
    assert [line for line in started.log.splitlines() if alarming.search(line)] == []


def test_there_is_one_url_and_one_token(started: Started) -> None:
    """The banner's; Jupyter's own start-up lines would bury it."""
    banner = BANNER.search(started.log)
    assert banner
    outside = started.log.replace(banner[0], "")
    for mark in ("://", "token", kernel.connect(started.box).token, "password"):
        assert banner[0].count(mark) == 1, mark
        assert mark not in outside


# --- signals ----------------------------------------------------------------------------------


CLEAN = [0, 0]  # nothing blocked, nothing ignored


@pytest.mark.parametrize("door", doors.DOORS)
def test_programs_start_with_clean_signals(box_of_all: Box, door: str) -> None:
    """Both sets survive exec, so what PID 1 blocks or Python ignores could reach everything.

    Of the door's shell a program is looked at, which the shell forks: an interactive bash itself
    ignores TERM and the terminal's stop signals, and its programs do not (bash(1), SIGNALS).
    """
    status = doors.DOORS[door](box_of_all, "cat /proc/self/status; true")
    assert signal_masks(status) == CLEAN


def test_a_command_starts_with_clean_signals(box: Boxes) -> None:
    assert signal_masks(box.run("cat", "/proc/self/status").stdout.decode()) == CLEAN


def test_a_kernel_has_python_s_own_signals(box_of_all: Box) -> None:
    cell = "print(open('/proc/self/status').read())"
    found = signal_masks(kernel.connect(box_of_all).run_cell(cell))
    assert found == [0, IGNORED_BY_PYTHON]


# --- what a notebook user does on the first day -----------------------------------------------


def make_wheel(folder: Path, name: str, version: str, requires: str = "") -> None:
    """Write a wheel of one module that knows its version (PyPA, "Binary distribution format")."""
    about = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": f'__version__ = "{version}"\n',
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in (*files, f"{about}/RECORD"))
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in {**files, f"{about}/RECORD": record}.items():
            wheel.writestr(path, text)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder of wheels: pip's work is the same as with an index, which may be out of reach.

    `nvitop` is in the image; nothing needs it.
    """
    folder = tmp_path_factory.mktemp("wheels")
    for name, version in (("sample_package", "1.0"), ("sample_package", "2.0"), ("nvitop", "99.0")):
        make_wheel(folder, name, version)
    make_wheel(folder, "torch", "99.0")
    make_wheel(folder, "needs_torch", "1.0", "Requires-Dist: torch>=99\n")
    folder.chmod(0o755)
    return folder


PIP_INSTALL = "pip install --no-index --find-links /wheels --upgrade"
LEFT_OUT = "launcher: --user is left out: /opt/venv is yours to install into"


def test_pip_install_from_a_cell(box_of_all: Box) -> None:
    """A new package, its upgrade, and the upgrade of one that root installed with the image.

    --user is what people add by habit; the environment is theirs already.
    """
    with kernel.connect(box_of_all).kernel() as notebook:
        notebook.run(f"%{PIP_INSTALL} sample_package==1.0")
        assert notebook.run("import sample_package as it; print(it.__version__)") == "1.0\n"
        assert LEFT_OUT in notebook.run(f"%{PIP_INSTALL} --user sample_package nvitop")
        module = "import importlib; importlib.reload(it); print(it.__version__, it.__file__)"
        version, path = notebook.run(module).split()
        assert (version, path.partition("/lib/")[0]) == ("2.0", "/opt/venv")
        installed = "from importlib.metadata import version; print(version('nvitop'))"
        assert notebook.run(installed) == "99.0\n"


def test_pip_install_over_ssh(box_of_all: Box) -> None:
    install = f"{PIP_INSTALL} --user sample_package==1.0"
    said = login(box_of_all).ssh(f"{install} && pip check; pip list --user; id -un")
    assert said.stdout.splitlines()[-2:] == ["No broken requirements found.", "dev"], said
    assert said.stderr.count(LEFT_OUT) == 1, said


@pytest.mark.parametrize(
    ("refused", "on_purpose"),
    [
        ("pip install --dry-run", "PIP_CONFIG_FILE=/dev/null pip install --dry-run"),
        ("sudo pip install --dry-run", "sudo PIP_CONFIG_FILE=/dev/null pip install --dry-run"),
        ("uv pip install --dry-run", "uv --no-config pip install --dry-run"),
    ],
    ids=["pip", "sudo pip", "uv"],
)
def test_pytorch_is_not_replaced_by_accident(
    box_of_all: Box, refused: str, on_purpose: str
) -> None:
    """By what needs another one; who means it can."""
    box = login(box_of_all)
    options = "--no-index --find-links /wheels needs_torch 2>&1"
    said = box.ssh(f"{refused} {options} || echo refused").stdout
    assert said.endswith("refused\n"), said
    assert "torch" in said
    assert re.search("torch[-=]*99", box.ssh(f"{on_purpose} {options}").stdout.replace(" ", ""))


def test_what_sudo_pip_installs_is_the_user_s_to_change(box_of_all: Box) -> None:
    said = login(box_of_all).ssh(
        f"sudo {PIP_INSTALL} sample_package==1.0 && pip uninstall --yes sample_package"
        f" && sudo uv {PIP_INSTALL} sample_package==2.0 && pip uninstall --yes sample_package"
    )
    assert said.stdout.count("Successfully uninstalled sample_package") == 2, said


COMPILE = """
import getpass, pathlib, torch, torch._inductor.config as inductor

# One program is compiled, by the same compiler and headers, and none to see what this CPU has.
inductor.cpp.vec_isa_ok, inductor.compile_threads = False, 1

@torch.compile
def wave(x):
    return torch.sin(x) * 2 + 1

x = torch.linspace(0, 1, 1000)
assert torch.allclose(wave(x), torch.sin(x) * 2 + 1)
user = getpass.getuser()
print(user, len(list(pathlib.Path(f"/tmp/torchinductor_{user}").rglob("*.so"))))
"""


def test_torch_compile_from_a_cell(box_of_all: Box) -> None:
    """It needs a compiler, headers, and a folder to write to: a library of the function is made."""
    with kernel.connect(box_of_all).kernel() as notebook:
        user, libraries = notebook.run(COMPILE, timeout=400).split()  # g++ on a busy machine
    assert user == "dev"
    assert int(libraries) >= 1


# --- what listens -----------------------------------------------------------------------------

LISTENING = "0A"  # TCP_LISTEN (include/net/tcp_states.h)
LOOPBACK = ("0100007F", "00000000000000000000000001000000")  # 127.0.0.1, ::1
DOCUMENTED = {
    (protocol, int(port), pages.literals(process)[0])
    for opened, process, *_ in pages.table("security.md", "What listens")
    for port, protocol in [pages.literals(opened)[0].split("/")]
}


@dataclass(frozen=True)
class Listener:
    """A port that a process of the box has open."""

    table: str  # the kernel's: tcp, tcp6, udp or udp6
    address: str  # as that writes it
    port: int
    process: str


def listeners(box: Box) -> set[Listener]:
    running = processes(box)
    found = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in (running[0].folder / "net" / table).read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if table.startswith("udp") or state == LISTENING:
                address, port = local.split(":")
                found |= {
                    Listener(table, address, int(port, 16), p.name)
                    for p in running
                    if inode in p.sockets()
                }
    return found


def test_what_listens_is_what_the_page_says(box_of_all: Box) -> None:
    """On TCP and UDP, IPv4 and IPv6.  Each kernel has ports of its own, so none may be running."""

    def opened() -> set[tuple[str, int, str]]:
        return {(it.table.removesuffix("6"), it.port, it.process) for it in listeners(box_of_all)}

    assert poll(lambda: opened() == DOCUMENTED, timeout=10), opened()


def test_a_kernel_listens_to_its_own_machine_alone(box_of_all: Box) -> None:
    before = {it.port for it in listeners(box_of_all)}
    with kernel.connect(box_of_all).kernel() as notebook:
        notebook.run("print()")
        opened = [it for it in listeners(box_of_all) if it.port not in before]
        assert opened, "it has ports"
        assert [it for it in opened if it.address not in LOOPBACK] == []


# --- what it costs while nothing happens ------------------------------------------------------


def is_ours(process: Process) -> bool:
    """Say whether it is PID 1, supervise or watch; a health check ends by itself."""
    return process.cmdline[-1] == b"watch" or b"/opt/launcher/entrypoint.py" in process.cmdline


def test_nothing_of_ours_spins(box_of_all: Box) -> None:
    """Over ten seconds, which are two looks at the services."""
    ours = [process for process in processes(box_of_all) if is_ours(process)]
    assert len(ours) == 3
    before = sum(process.cpu_seconds() for process in ours)
    time.sleep(10)
    used = sum(process.cpu_seconds() for process in ours) - before
    print(f"{used:.3f} s of CPU time")
    assert used < 0.1


# --- limits -----------------------------------------------------------------------------------


@pytest.mark.parametrize("door", ["notebook", "ssh_command"])
def test_limits_behind_a_door(box_of_all: Box, door: str) -> None:
    """A crash leaves no core dump unless its user asks; files may be open as Docker allows."""
    limits = "ulimit -Sc; ulimit -Hc; ulimit -Hn"
    soft_core, *hard = box_of_all.exec("bash", "-c", limits).stdout.split()
    assert soft_core != "0"
    assert doors.DOORS[door](box_of_all, f"bash -c '{limits}'").split() == ["0", *hard]
