"""Where public keys come from: variables and mounted files.  Reads only."""

from __future__ import annotations

import os
from collections.abc import Mapping

from launcher.model import KeyLine

KEY_VARIABLES = ("PUBLIC_KEY", "SSH_PUBLIC_KEY", "AUTHORIZED_KEYS")


def read(
    env: Mapping[str, str], keys_dir: str, warnings: list[str]
) -> tuple[tuple[KeyLine, ...], bool]:
    """Return the lines of every key source, and whether any source was set at all."""
    sources = {name: env[name] for name in KEY_VARIABLES if env.get(name, "").strip()}
    try:
        files = sorted(os.listdir(keys_dir))
    except OSError:
        files = []
    for file in files:
        path = os.path.join(keys_dir, file)
        if file.startswith(".") or os.path.isdir(path):
            continue  # Kubernetes mounts its bookkeeping as ..data
        try:
            sources[path] = read_text(path)
        except OSError as err:
            sources[path] = ""
            warnings.append(f"{path}: cannot read it: {err.strerror}; its keys may not log in")
    lines = [
        KeyLine(source=source, number=number, text=line.strip())
        for source, text in sources.items()
        if text.strip() != "null"  # what one platform sends for an account without a key
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    return tuple(lines), bool(sources)


def read_text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as stream:
        return stream.read(1 << 20)
