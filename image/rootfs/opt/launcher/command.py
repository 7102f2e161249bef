"""The command `launcher`, which /opt/launcher/command/launcher starts (image/ours/launcher.c)."""

import sys

from launcher.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
