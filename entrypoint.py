"""PID 1 of the box: services without arguments, else that command (docs/architecture.md)."""

import gc
import time

gc.disable()  # what is imported stays; collected again once the box runs

STARTED = time.monotonic()  # before the imports: they are part of the start

import sys  # noqa: E402

from launcher.cli import entrypoint  # noqa: E402

if __name__ == "__main__":
    sys.exit(entrypoint(sys.argv[1:], STARTED))
