"""Provide JupyterHub's proxy, configurable-http-proxy, for the test that runs a real hub."""

from __future__ import annotations

from pathlib import Path

from tools import npm

# The last of its line: 5 needs a newer Node.js than the distributions have.
PIN = "configurable-http-proxy@4.6.3"


def provide() -> Path:
    """Return the program.  Raises RuntimeError where it cannot be installed."""
    return npm.provide("hub-proxy", PIN) / ".bin" / "configurable-http-proxy"
