"""The banner as text: what it says, whatever its lines."""

from __future__ import annotations

import re


def unwrapped(banner: str) -> str:
    """Undo the line breaks within its notes; a fix stays on a line of its own."""
    return re.sub(r"\n {3,}(?=\S)(?!fix:)", " ", banner)
