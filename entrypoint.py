"""PID 1 of the box: services without arguments, else that command (docs/architecture.md)."""

import sys

from launcher.cli import entrypoint

if __name__ == "__main__":
    sys.exit(entrypoint(sys.argv[1:]))
