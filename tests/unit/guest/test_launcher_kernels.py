"""Kernels of a real Jupyter Server that die: what the one who uses them is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.container import kernel
from testing.local_box import free_ports, wait_until

GUEST = Path(__file__).parents[3] / "launcher" / "guest"
MORE = "docker run --memory=… with a higher limit"
SAID = (
    "The system killed this kernel: the box is out of memory: its limit is 0.75 GiB. Its variables "
    f"are gone.\n  fix: use less at a time, or {MORE}\n"
)

WAIT = "import threading; threading.Event().wait()"
PROCESS = "import os; print(os.getpid())"

# A server with the kernels that our start program gives it, whose cgroup is a folder of the test's.
_PROGRAM = f"""\
import runpy, sys
kernel_classes = runpy.run_path({str(GUEST / "jupyter.py")!r})["kernel_classes"]
config = kernel_classes({MORE!r})
import launcher_kernels
launcher_kernels._groups = lambda: iter([GROUP])
from jupyter_server.serverapp import ServerApp
from traitlets.config import Config
config["Restarter"]["time_to_dead"] = 0.2
ServerApp.launch_instance(config=Config(config))
"""


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that is like a memory cgroup in which nothing was killed."""
    folder = tmp_path_factory.mktemp("cgroup")
    (folder / "memory.max").write_text(f"{768 << 20}\n")
    (folder / "memory.events").write_text("low 0\noom 0\noom_kill 0\n")
    return folder


@pytest.fixture(scope="module")
def server(group: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[kernel.Server]:
    folder = tmp_path_factory.mktemp("jupyter")
    (port,) = free_ports(1)
    program = f"GROUP = {str(group)!r}\n{_PROGRAM}"
    started = subprocess.Popen(
        [
            sys.executable, "-c", program, "--allow-root", "--no-browser", f"--port={port}",
            "--IdentityProvider.token=t", f"--ServerApp.root_dir={folder}", "--port-retries=0",
        ],
        env={
            **os.environ, "PYTHONPATH": str(GUEST), "HOME": str(folder),
            "JUPYTER_NO_CONFIG": "1", "JUPYTER_CONFIG_DIR": f"{folder}/config",
            "JUPYTER_RUNTIME_DIR": f"{folder}/runtime", "JUPYTER_DATA_DIR": f"{folder}/data",
        },
        stdout=subprocess.DEVNULL, stderr=(folder / "log").open("w"),
    )  # fmt: skip
    try:
        found = kernel.Server(f"http://127.0.0.1:{port}/lab?token=t")
        wait_until(found.answers, (folder / "log").read_text, timeout=60)
        yield found
    finally:
        started.kill()
        started.wait()


@pytest.fixture
def id(server: kernel.Server) -> Iterator[str]:
    """Start a kernel; return its id."""
    made = str(server.request("/api/kernels", method="POST", body={}).json()["id"])
    yield made
    assert server.request(f"/api/kernels/{made}", method="DELETE").status == 204


def die(process: int, group: Path | None = None) -> None:
    """Kill a kernel, as the system does, which counts in `group`, or as somebody does."""
    if group:
        events = group / "memory.events"
        before = int(events.read_text().split()[-1])
        events.write_text(f"low 0\noom 0\noom_kill {before + 1}\n")
    os.kill(process, signal.SIGKILL)


def die_idle(server: kernel.Server, id: str, group: Path | None = None) -> None:
    """Do so where no cell runs, and wait until Jupyter knows: only then the process is gone."""
    with kernel.Kernel(server, id) as running:
        process = int(running.run(PROCESS))
    die(process, group)
    wait_until(lambda: not Path(f"/proc/{process}").exists(), "Jupyter has not noticed")


def test_the_cell_that_ran_is_told(server: kernel.Server, id: str, group: Path) -> None:
    with kernel.Kernel(server, id) as running:
        process = int(running.run(PROCESS))
        heard = running.printed(f"print('runs', flush=True); {WAIT}")
        assert next(heard) == "runs\n"
        die(process, group)
        assert next(heard) == SAID
    with kernel.Kernel(server, id) as anew:  # as JupyterLab does after a restart
        assert anew.run("print(1)") == "1\n"


def test_where_none_ran_the_next_one_is_told_once(
    server: kernel.Server, id: str, group: Path
) -> None:
    die_idle(server, id, group)
    with kernel.Kernel(server, id) as anew:
        assert anew.run("print(1)") == f"{SAID}1\n"
        assert anew.run("print(2)") == "2\n"


def test_of_another_death_nothing_is_said(server: kernel.Server, id: str) -> None:
    die_idle(server, id)
    with kernel.Kernel(server, id) as anew:
        assert anew.run("print(3)") == "3\n"


def test_a_kernel_that_is_only_being_made_does_not_fail_the_list() -> None:
    program = """
from jupyter_server.services.kernels.kernelmanager import ServerKernelManager, utcnow
from launcher_kernels import Kernels
kernels = Kernels()
kernels._kernels = {"made": ServerKernelManager(), "being made": ServerKernelManager()}
kernels._kernels["made"].last_activity = utcnow()
kernels.pinned_superclass.list_kernel_ids = lambda self: list(self._kernels)
print([model["id"] for model in kernels.list_kernels()])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(GUEST)}, text=True,
        capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout == "['made']\n"
