"""Print what the image adds on top of its base and PyTorch, by part: `make image-size`.

A part is a layer of the Dockerfile, so the sum is what a registry stores and a node pulls (there
compressed); a file that a later layer replaces counts twice, as it does on disk.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tools.engine import NoEngineError, docker_environment, find_docker
from tools.image import TAG

# Each part with a word from the Dockerfile line that makes it; the first that matches.
PARTS = {
    "distribution packages": "/mnt/install-packages",
    "PyTorch": "/mnt/install-torch",
    "Jupyter and notebook set": "/mnt/install-notebook",
    "launcher": "COPY /opt/launcher",
}
BASE, REST = "base image", "everything else"
FIRST_OF_OURS = "COPY image/dpkg-excludes"
NOT_OURS = (BASE, "PyTorch")
MOST_MEGABYTES = 920


def sizes_by_part(history: str) -> dict[str, int]:
    """Return bytes by part from `docker history --human=false --no-trunc --format '{{json .}}'`."""
    layers = [json.loads(line) for line in reversed(history.splitlines())]  # base first
    sizes = dict.fromkeys((BASE, *PARTS, REST), 0)
    part_of_others = BASE
    for layer in layers:
        command = layer["CreatedBy"]
        if FIRST_OF_OURS in command:
            part_of_others = REST
        part = next((name for name, word in PARTS.items() if word in command), part_of_others)
        sizes[part] += int(layer["Size"])
    return sizes


def read_history(docker: str, image: str) -> str:
    command = [docker, "history", "--human=false", "--no-trunc", "--format", "{{json .}}", image]
    return subprocess.run(
        command, env=docker_environment(), check=True, capture_output=True, text=True
    ).stdout


def main() -> int:
    image = os.environ.get("IMAGE", TAG)
    try:
        sizes = sizes_by_part(read_history(find_docker(), image))
    except NoEngineError as err:
        sys.exit(f"cannot measure {image}: {err}")
    except subprocess.CalledProcessError as err:
        sys.exit(f"cannot measure {image}: {err.stderr.strip()} (make image builds it)")
    for part, size in sizes.items():
        mark = " (not counted)" if part in NOT_OURS else ""
        print(f"{size / 1e6:8.1f} MB  {part}{mark}")
    added = sum(size for part, size in sizes.items() if part not in NOT_OURS) / 1e6
    print(f"{added:8.1f} MB  added in all, of at most {MOST_MEGABYTES}")
    return 0 if added <= MOST_MEGABYTES else 1


if __name__ == "__main__":
    sys.exit(main())
