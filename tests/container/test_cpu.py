"""The image for machines without a GPU, as its last layers: PyTorch's build for the CPU.

What the default has of PyTorch and CUDA is taken out, and the build that other tests compare with
is put in its place.  `make test-variant VARIANT=cpu` builds the real one, where PyTorch's own index
is reached.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from testing.container.box import boxes
from testing.container.engine import Docker
from testing.container.smoke import smoke
from tools.torch_build import FOLDER

PACKAGES = "/opt/venv/lib/python3.11/site-packages"
DOCKERFILE = """
FROM {image}
RUN cd {packages} && rm -rf torch torch-* functorch torchgen nvidia nvidia_* triton triton-* \
    torchvision* torchaudio*
COPY --chown=0:1000 . {packages}
"""


@pytest.fixture
def cpu(docker: Docker, image: str, tmp_path: Path) -> str:
    if not list(FOLDER.glob("torch/_C.cpython-311-*")):
        pytest.skip("there is no build of PyTorch for the CPU and the image's Python here")
    file = tmp_path / "Dockerfile"
    file.write_text(DOCKERFILE.format(image=image, packages=PACKAGES))
    tag = f"{image}-as-cpu"
    docker("build", "--tag", tag, "--file", str(file), str(FOLDER), timeout=300)
    return tag


def test_a_box_computes_with_a_build_for_the_cpu(docker: Docker, cpu: str) -> None:
    with boxes(docker, cpu) as started:
        assert smoke(started).endswith("+cpu")
        (box,) = started.running
        assert box.exec("sh", "-c", f"ls {PACKAGES} | grep -c nvidia_", check=False).stdout == "0\n"
