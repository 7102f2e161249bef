"""Read the settings from the environment: its only reader.

The first of a setting's names that is set, and not empty, wins.  Every problem is reported at
once, each with what the setting accepts.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import Any

from launcher import accepts, key_sources
from launcher.errors import BadSetting
from launcher.model import GpuRequest, Secret
from launcher.settings import NOT_INHERITED, TABLE, Setting, Settings


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read every setting.

    Raises BadSetting, with one line for each problem.
    """
    env = dict(os.environ) if environ is None else dict(environ)
    values: dict[str, Any] = {}
    given: dict[str, str] = {}
    problems: list[str] = []
    warnings = [*_unknown(env)]
    for row in TABLE:
        values[row.field] = row.default
        for name in (row.name, *row.aliases):
            text = env.get(name, "").strip()
            if not text:
                continue
            if row.parse is accepts.port and text.startswith("tcp://"):
                warnings.append(
                    f"{name}={text} comes from a Kubernetes service of that name and is ignored; "
                    "set enableServiceLinks: false in the pod to be rid of it"
                )
                continue
            try:
                values[row.field] = row.parse(text)
                given[row.field] = name
            except ValueError as accepted:
                problems.append(f"{name}={_shown(row, text)}: expected {accepted}")
            break
    warnings.extend(_empty_token(env))
    if values["jupyter_token"] is None and values["jupyter_token_file"]:
        values["jupyter_token"] = _token_from_file(values["jupyter_token_file"], problems)
        given["jupyter_token"] = "JUPYTER_TOKEN_FILE"
    key_lines, key_source_set = key_sources.read(env, values["keys_dir"], warnings)
    if not values["python"]:
        values["python"] = (
            "/opt/venv/bin/python" if os.path.exists("/opt/venv/bin/python") else sys.executable
        )
    if problems:
        raise BadSetting("\n".join(problems))
    return Settings(
        **values,
        color=not env.get("NO_COLOR") and os.isatty(1),
        given=given,
        key_lines=key_lines,
        key_source_set=key_source_set,
        environ=env,
        warnings=tuple(warnings),
    )


def run_dir() -> str:
    """Return where this run's files are, without judging any other setting."""
    return os.environ.get("LAUNCHER_RUN_DIR", "").strip() or "/run/launcher"


def describe() -> list[str]:
    """Return one line for every setting: name, value here or default, help."""
    lines = []
    for row in TABLE:
        name = next((n for n in (row.name, *row.aliases) if os.environ.get(n)), None)
        value = f"= {_shown(row, os.environ[name])} (from {name})" if name else f"[{_default(row)}]"
        also = f" Also: {', '.join(row.aliases)}." if row.aliases else ""
        lines += [f"{row.name} {value}", f"    {row.help}{also}"]
    return lines


def _default(row: Setting) -> str:
    """Return a default as one would write it."""
    words = {None: "none", "": "none", False: "off", True: "on"}
    if isinstance(row.default, GpuRequest):
        return "all"
    return words.get(row.default, str(row.default)) if row.default != 0 else "0"


def inherited(environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return what notebooks and logins inherit: identifiers only, none of our secrets."""
    return tuple(
        (name, value)
        for name, value in sorted(environ.items())
        if name not in NOT_INHERITED and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)
    )


def without_secrets() -> dict[str, str]:
    """Return this process's environment, but for our own secrets."""
    secret = {row.name for row in TABLE if row.secret}
    return {name: value for name, value in os.environ.items() if name not in secret}


def replace_environment(environ: Mapping[str, str]) -> None:
    """Make `environ` this process's whole environment."""
    os.environ.clear()
    os.environ.update(environ)


def _shown(row: Setting, text: str) -> str:
    return "***" if row.secret else repr(text[:60] + "…" if len(text) > 60 else text)


def _unknown(env: Mapping[str, str]) -> list[str]:
    known = {n.removeprefix("LAUNCHER_"): n for row in TABLE for n in (row.name, *row.aliases)}
    mine = known.values()
    strangers = [n for n in sorted(env) if n.startswith("LAUNCHER_") and n not in mine]
    if not strangers:
        return []
    from difflib import get_close_matches  # only when there is something to say

    warnings = []
    for name in strangers:
        near = get_close_matches(name.removeprefix("LAUNCHER_"), known, n=1)
        hint = f"did you mean {known[near[0]]}?" if near else "see: launcher settings"
        warnings.append(f"{name} is not a setting and has no effect; {hint}")
    return warnings


def _empty_token(env: Mapping[str, str]) -> list[str]:
    if env.get("JUPYTER_TOKEN", "unset").strip():
        return []
    return ["JUPYTER_TOKEN is empty, which would open Jupyter to everyone; a token is used instead"]


def _token_from_file(path: str, problems: list[str]) -> Secret | None:
    try:
        text = key_sources.read_text(path).strip()
        if not text:
            raise ValueError("a token in the file, which is empty")
        return accepts.token(text)
    except OSError as err:
        problems.append(f"JUPYTER_TOKEN_FILE={path!r}: cannot read it: {err.strerror}")
    except ValueError as accepted:
        problems.append(f"JUPYTER_TOKEN_FILE={path!r}: expected {accepted}")
    return None
