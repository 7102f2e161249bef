"""What the start script of Jupyter adds to it.  tests/box meets a whole server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "launcher" / "guest" / "jupyter.py"


def run(code: str) -> str:
    """Run `code` beside the script's names: importing it changes the interpreter."""
    text = f"import runpy\nglobals().update(runpy.run_path({str(SCRIPT)!r}))\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=True, env=os.environ
    )
    return done.stdout


def test_a_token_in_a_url_is_not_logged() -> None:
    """tornado logs the whole request where a handler fails."""
    said = run("""
import logging
log = logging.getLogger("tornado.application")
log.addHandler(logging.StreamHandler(__import__("sys").stdout))
logging.setLogRecordFactory(record_without_token)
log.warning("404 GET /login?next=%%2Flab%%3Ftoken%%3Ds3cr3t%%26b=%s", 2)
log.error("Uncaught exception %s\\n%r", "GET /lab?a=1&token=s3cr3t&b=2", {"uri": "/?token=s3cr3t"})
log.warning("403 GET /lab?token=s3%%2Bcr%%26et&b=%s", 2)
log.error("100 % of nothing")
""")
    assert said == (
        "404 GET /login?next=%2Flab%3Ftoken%3D[secret]%26b=2\n"
        "Uncaught exception GET /lab?a=1&token=[secret]&b=2\n{'uri': '/?token=[secret]'}\n"
        "403 GET /lab?token=[secret]&b=2\n"
        "100 % of nothing\n"
    )


def test_a_request_cannot_fill_the_memory_of_a_small_box(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    for memory, most in (("max", None), (str(1 << 30), 64 << 20), (str(2 << 30), 128 << 20),
                         (str(1 << 40), 512 << 20)):  # fmt: skip
        limit.write_text(memory)
        said = run(f"""
limit_bodies.__globals__["_MEMORY_LIMITS"] = ({str(limit)!r},)
server = {{}}
limit_bodies(server)
print(server.get("max_body_size"), server.get("max_buffer_size"))
""")
        assert said == f"{most} {most}\n"


@pytest.mark.parametrize(
    ("hidden", "said"),
    [
        ("zmq", "Jupyter is not installed for"),
        ("jupyter_server", "Jupyter is not installed for"),
        ("jupyterlab", "Jupyter is not installed for"),  # ipykernel brings the rest along
    ],
)
def test_what_is_not_installed_is_named_with_what_mends_it(hidden: str, said: str) -> None:
    hide = f"import sys; sys.modules[{hidden!r}] = None"
    code = f"{hide}\nimport runpy; runpy.run_path({str(SCRIPT)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ
    )
    assert (done.returncode, done.stderr) == (78, "")
    first, fix, *_ = done.stdout.splitlines()
    assert first.startswith(f"{said} {sys.executable}, so there are no notebooks: ")
    assert hidden in first
    assert fix.startswith("  fix: name the Python that has it (LAUNCHER_PYTHON=")


def test_a_hub_s_box_without_jupyterhub_says_so() -> None:
    code = "import sys; sys.modules['jupyterhub'] = None; starter(True)"
    text = f"import runpy\nglobals().update(runpy.run_path({str(SCRIPT)!r}))\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 78
    assert done.stdout.startswith("A JupyterHub started this box, and ")
    assert "pip install jupyterhub==VERSION" in done.stdout
