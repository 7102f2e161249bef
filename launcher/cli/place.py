"""What is said, in the words of the place where it is said."""

from __future__ import annotations


def for_this_place(message: str) -> str:
    """Return a message that is written in the words of a container of Docker's in those of here."""
    if "docker" not in message and "on the host" not in message:
        return message
    from launcher.detect import detect
    from launcher.settings import environ
    from launcher.text import text

    return text.for_place(message, detect.whereabouts(environ.own()))
