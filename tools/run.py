"""Start it: `make run`, in a container where a Docker Engine answers, else on this machine."""

from __future__ import annotations

import sys

from tools import run_image, run_local
from tools.engine import NoEngineError, find_docker


def main(arguments: list[str]) -> None:
    """Become the box; returns only by raising SystemExit."""
    match arguments:
        case ["local"]:
            run_local.start()
        case [] | ["image"]:
            try:
                docker = find_docker()
            except NoEngineError as err:
                if arguments:
                    sys.exit(f"cannot start a container: {err}")
                print(f"Starting on this machine, without a container: {err}.", flush=True)
                run_local.start()
            else:
                run_image.start(docker)
        case _:
            sys.exit("usage: python3 -m tools.run [image | local]")


if __name__ == "__main__":
    main(sys.argv[1:])
