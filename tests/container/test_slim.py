"""The slim image, as its last layer: what is taken out is not missed by a box.

The whole of it is 5.4 GB that would be written once more, so the script that takes out runs on top
of the image of this run; `make test-variant VARIANT=slim` builds the real one.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from testing.container.box import boxes
from testing.container.engine import Docker
from testing.container.smoke import smoke

ROOT = Path(__file__).parents[2]
COMPILE = "import torch; print(torch.compile(lambda x: x + 1)(torch.ones(2)))"


@pytest.fixture
def slim(docker: Docker, image: str, tmp_path: Path) -> str:
    """Build what the Dockerfile's stages make of it, by the same script."""
    script = re.search(r"/mnt/(drop-compiling)\n", (ROOT / "Dockerfile").read_text())
    assert script
    (tmp_path / "Dockerfile").write_text(
        f"FROM {image}\n"
        f"RUN --mount=type=bind,target=/mnt /mnt/{script[1]} && rm /usr/bin/*gcc* /usr/bin/*g++*\n"
    )
    (tmp_path / script[1]).write_bytes((ROOT / "image" / "build" / script[1]).read_bytes())
    (tmp_path / script[1]).chmod(0o755)
    docker("build", "--tag", f"{image}-as-slim", str(tmp_path), timeout=300)
    return f"{image}-as-slim"


def test_a_box_does_without_what_slim_leaves_out(docker: Docker, slim: str) -> None:
    with boxes(docker, slim) as started:
        assert smoke(started) == "2.6.0+cu124"
        (box,) = started.running
        assert box.exec("sh", "-c", "command -v gcc c++ tensorboard", check=False).stdout == ""
        tried = box.exec("python", "-c", COMPILE, user="dev", check=False)
        assert tried.returncode == 1
        assert re.search("compiler", tried.stderr, re.IGNORECASE), tried.stderr
