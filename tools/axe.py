"""Provide axe-core, which finds what keeps people out of a page, for the test in a browser."""

from __future__ import annotations

from pathlib import Path

from tools import npm

PIN = "axe-core@4.14.1"


def provide() -> Path:
    """Return its script.  Raises RuntimeError where it cannot be installed."""
    return npm.provide("axe", PIN) / "axe-core" / "axe.min.js"
