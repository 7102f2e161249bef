"""What people install stays: an environment on the workspace, above the image's."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path

import pytest

from testing.container import doors, kernel
from testing.container.box import Box, Boxes
from testing.container.engine import poll

ASKED = {"LAUNCHER_PACKAGES": "workspace"}
FOLDER = "/workspace/.packages/python3.11"
EXTENSION = """\
from jupyter_server.base.handlers import JupyterHandler
from tornado.web import authenticated
WHERE = __file__
class Hello(JupyterHandler):
    @authenticated
    def get(self):
        self.finish("hello from the workspace")
def _jupyter_server_extension_points():
    return [{"module": "boxed"}]
def _load_jupyter_server_extension(app):
    app.web_app.add_handlers(".*$", [(app.web_app.settings["base_url"] + "boxed", Hello)])
def main():
    print("boxed in", __import__("sys").prefix)
"""
ENABLED = {"ServerApp": {"jpserver_extensions": {"boxed": True}}}
LOOK = (
    "python -c 'import boxed, quick; from importlib.util import find_spec; "
    'print(boxed.WHERE, find_spec("torch").origin)\'; boxed-hello'
)
SEEN = (
    f"{FOLDER}/lib/python3.11/site-packages/boxed/__init__.py "
    "/opt/venv/lib/python3.11/site-packages/torch/__init__.py\n"
    f"boxed in {FOLDER}"
)


def wheel(folder: Path, name: str, files: dict[str, str]) -> None:
    """Make a wheel that needs what the image has: nothing may be fetched for it."""
    info = f"{name}-1.0.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        "Requires-Dist: torch\nRequires-Dist: jupyter-server\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for path, text in (*files.items(), (f"{info}/RECORD", record)):
            archive.writestr(path, text)
    (folder / f"{name}-1.0-py3-none-any.whl").write_bytes(made.getvalue())


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace on which packages of an older Python lie, and two wheels."""
    folder = tmp_path_factory.mktemp("workspace")
    old = folder / ".packages/python3.10/lib/python3.10/site-packages/flash_attn-2.7.dist-info"
    old.mkdir(parents=True)
    (folder / "wheels").mkdir()
    data = "boxed-1.0.data/data/etc/jupyter/jupyter_server_config.d/boxed.json"
    scripts = "[console_scripts]\nboxed-hello = boxed:main\n"
    files = {
        "boxed/__init__.py": EXTENSION, data: json.dumps(ENABLED),
        "boxed-1.0.dist-info/entry_points.txt": scripts,
    }  # fmt: skip
    wheel(folder / "wheels", "boxed", files)
    wheel(folder / "wheels", "quick", {"quick.py": ""})
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 1000, 1000)
    return folder


@pytest.fixture(scope="module")
def first(shared_box: Boxes, volume: Path) -> Box:
    """A box in which a notebook and a terminal have installed something."""
    box = shared_box("-v", f"{volume}:/workspace", env=ASKED)
    said = kernel.connect(box).run_cell("%pip install --no-index /workspace/wheels/boxed*.whl")
    assert "Successfully installed boxed-1.0" in said
    install = "uv pip install --offline /workspace/wheels/quick*.whl"
    done = box.exec("bash", "-ic", install, user="dev")
    assert " + quick==1.0" in done.stderr
    assert done.stderr.count(" + ") == 1, "it knows what the image has"
    return box


def test_the_start_says_where_they_go_and_what_is_not_seen(first: Box) -> None:
    assert f"Packages  pip and uv install into {FOLDER}" in first.wait_for_banner()
    first.wait_for_log(r"launcher: this image has python3\.11, and does not see the packages in ")
    wanted = first.exec("cat", f"{FOLDER}/from-python3.10.txt").stdout
    assert wanted == "flash_attn==2.7\n"


def test_pytorch_is_not_replaced_by_accident(first: Box) -> None:
    for install, said in (
        ("pip install --no-index torch==2.7.1", "No matching distribution|ResolutionImpossible"),
        ("uv pip install --offline torch==2.7.1", "you require torch==2.7.1 and torch==2.6.0"),
    ):
        done = first.exec("bash", "-ic", install, user="dev", check=False)
        assert done.returncode != 0
        assert any(one in done.stderr for one in said.split("|")), done.stderr


@pytest.fixture(scope="module")
def second(shared_box: Boxes, first: Box, volume: Path) -> Box:
    """A new container on that workspace."""
    first.stop()
    box = shared_box("-v", f"{volume}:/workspace", env=ASKED)
    box.wait_for_banner()
    return box


@pytest.mark.parametrize(
    "door", [doors.notebook, doors.jupyter_terminal, doors.ssh_command, doors.docker_exec_terminal,
             doors.launcher_exec], ids=lambda door: door.__name__
)  # fmt: skip
def test_every_door_has_them_in_a_new_container(second: Box, door: doors.Door) -> None:
    assert SEEN in door(second, LOOK).replace("\r\n", "\n")


def test_jupyter_loads_an_extension_from_there(second: Box) -> None:
    assert kernel.connect(second).request("/boxed").text == "hello from the workspace"
    said = [line for line in second.logs().splitlines() if line.startswith("jupyter |")]
    assert not [line for line in said if "boxed" in line or "Traceback" in line]


def test_a_command_has_them(box: Boxes, second: Box, volume: Path) -> None:
    done = box.run("sh", "-c", LOOK, options=("-v", f"{volume}:/workspace"), env=ASKED)
    assert SEEN in done.stdout.decode()


def test_the_doctor_names_a_pytorch_that_stands_before_the_images(second: Box) -> None:
    packages = f"{FOLDER}/lib/python3.11/site-packages"
    broken = f"{packages}/torch/__init__.py"
    fake = f"mkdir {packages}/torch && echo 'raise ImportError(\"of another CUDA\")' > {broken}"
    second.exec("sh", "-c", fake, user="dev")
    try:
        said = second.exec("launcher", "doctor", "pytorch", check=False).stdout
    finally:
        second.exec("rm", "-r", f"{packages}/torch")
    assert "pytorch.swapped (warning)" in said
    assert "takes the place of the image's 2.6.0" in " ".join(said.split())


def test_a_broken_package_stops_neither_jupyter_nor_safe_mode(second: Box) -> None:
    """Jupyter's own parts are the image's."""
    packages = f"{FOLDER}/lib/python3.11/site-packages"
    second.exec("sh", "-c", f"echo 'raise SystemExit(9)' > {packages}/tornado.py", user="dev")
    second.exec("sudo", "launcher", "restart", "jupyter", user="dev")
    server = kernel.connect(second)
    assert poll(server.answers, timeout=60)
    assert server.request("/boxed").status == 200
