"""Provide the command line of Dev Containers, which starts a container as VS Code does."""

from __future__ import annotations

from pathlib import Path

from tools import npm

# The last of those that run on the Node.js of Debian 12; later ones need 20.
PIN = "@devcontainers/cli@0.80.0"


def provide() -> Path:
    """Return the program.  Raises RuntimeError where it cannot be installed."""
    return npm.provide("devcontainer", PIN) / ".bin" / "devcontainer"
