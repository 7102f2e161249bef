"""Push, pull and run, as one who has nothing but the README's first line: `make test-pull`.

`make test` leaves it out: an image of six gigabytes is compressed for seven minutes when it is
pushed.  Nothing here is known to the engine that pulls: it is another one, and empty.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testing.container import kernel
from testing.container.banner import unwrapped
from testing.container.box import BANNER
from testing.container.engine import DOCKER, Docker, poll
from testing.container.registry import empty_engine, running_registry
from tools.image import TAG

README = Path(__file__).parents[2] / "README.md"
PUSH_TIMEOUT = 3600.0  # seconds; of the compressing
CELL = "import os, torch; print(os.environ['CUDA_VISIBLE_DEVICES'], torch.__version__)"


def first_line() -> str:
    """Return the `docker run` that the README begins with, over all of its lines."""
    found = re.search(r"^    (docker run (?:.*\\\n)*.*)$", README.read_text(), re.MULTILINE)
    assert found
    return found[1]


@contextmanager
def typed(docker: Docker, line: str, folder: Path) -> Iterator[Path]:
    """Type a line into a shell in `folder`; yield the file that has what is shown."""
    shown = folder / "shown"
    home = folder / "home"
    home.mkdir()
    with shown.open("wb") as output:
        shell = subprocess.Popen(
            ["sh", "-c", f"exec {line}"],
            cwd=home,
            env={**docker.environment, "PATH": f"{Path(DOCKER).parent}:{os.defpath}"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield shown
    finally:
        docker("rm", "--force", "--volumes", "box", check=False)
        shell.wait(60)


def test_the_first_line_of_the_readme(docker: Docker, image: str, tmp_path: Path) -> None:
    assert TAG in first_line()
    with running_registry(tmp_path) as registry, empty_engine() as other:
        name = f"{registry}/{TAG}"
        docker("tag", image, name)
        try:
            docker("push", name, timeout=PUSH_TIMEOUT)
        finally:
            docker("rmi", name)
        assert other("images", "--quiet").stdout == "", "it has to pull everything"

        with typed(other, first_line().replace(TAG, name), tmp_path) as shown:
            assert poll(lambda: BANNER.search(shown.read_text()), timeout=1200), shown.read_text()
            text = shown.read_text()
            assert f"Unable to find image '{name}' locally" in text
            banner = unwrapped(text)
            assert "NVIDIA H100 80GB HBM3" in banner
            server = kernel.Server(kernel.printed_url(banner))
            assert server.url == "http://127.0.0.1:8888"
            assert server.run_cell(CELL).split()[0] == "0,1,2,3,4,5,6,7"
            server.run_cell("open('kept', 'w')")
        assert (tmp_path / "home" / "kept").exists(), "its folder is the workspace"
