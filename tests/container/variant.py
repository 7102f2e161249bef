"""A variant of the family, built and used: `make test-variant VARIANT=slim`.

`make test` leaves it out: each is gigabytes to build.  TORCH, TORCH_INDEX, WHEELS and BASE_IMAGE
are taken from the environment, as `make image` does.
"""

from __future__ import annotations

import os

from testing.container import base_image
from testing.container.box import boxes
from testing.container.engine import DOCKER, Docker
from testing.container.smoke import smoke
from tools import image
from tools.variants import VARIANTS

BUILD_TIMEOUT = 7200.0  # seconds


def test_the_variant(docker: Docker) -> None:
    name = os.environ["VARIANT"]
    tag = os.environ.get("IMAGE", image.TAG) + f"-{name}-tried"
    base_image.provide(docker)
    arguments = {**VARIANTS[name].arguments, **image.chosen_arguments()}
    build = image.build_command(DOCKER, tag=tag, arguments=arguments, environ=os.environ)
    try:
        docker(*build[1:], timeout=BUILD_TIMEOUT)
        size = int(docker("image", "inspect", "--format", "{{.Size}}", tag).stdout)
        with boxes(docker, tag) as started:
            version = smoke(started)
        print(f"{name}: PyTorch {version}, {size / 1e6:,.0f} MB")
        wanted = arguments.get("TORCH", image.default_torch()).split()
        assert not wanted or wanted[0].partition("==")[2] in version
    finally:
        docker("rmi", tag, check=False)
