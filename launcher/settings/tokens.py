"""Tokens that are none, since they are the place in a template where one was to stand."""

from __future__ import annotations

import re

from launcher.model.errors import reason
from launcher.model.plan import Secret
from launcher.paths.folder import read_text
from launcher.settings import accepts

# The whole of a value, where it was to be filled in and was not.  Whoever knows the template knows
# it, and as a token it would let them in.
_TO_FILL_IN = (
    r"\{\{.*\}\}",  # Helm, Jinja, and RunPod where the secret of that name is not there
    r"\$\{.*\}",  # Compose's env_file, envsubst, a shell's between single quotes
    r"\$\(.*\)",  # Kubernetes, where that variable is not there; a command that no shell ran
    r"\$[A-Z_][A-Z0-9_]*",
    r"%[A-Za-z_][A-Za-z0-9_]*%",  # cmd.exe, where the variable is not set
    r"<[^<>]*>",  # what pages of instructions write
)
_PLACEHOLDER = "a template's placeholder that was not filled in"


def is_unfilled(text: str) -> bool:
    """Return whether a value is a placeholder and nothing else."""
    return re.fullmatch("|".join(_TO_FILL_IN), text) is not None


def unfilled(name: str) -> str:
    """Return the warning.  The value is not in it: somebody may have meant it as a token."""
    return (
        f"{name} is {_PLACEHOLDER}, which others know too: it counts as not set; fill it in, or "
        "leave it out"
    )


def from_file(name: str, path: str, problems: list[str]) -> Secret | None:
    """Read the token in a file; what is wrong with it goes to `problems`."""
    try:
        text = read_text(path).strip()
        if not text:
            raise ValueError("a token in the file, which is empty")
        if is_unfilled(text):
            raise ValueError(f"a token in the file, which holds {_PLACEHOLDER}")
        return accepts.token(text)
    except OSError as err:
        problems.append(f"{name}={path!r}: cannot read it: {reason(err)}")
    except ValueError as accepted:
        problems.append(f"{name}={path!r}: expected {accepted}")
    return None
