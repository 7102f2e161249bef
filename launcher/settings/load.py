"""Read the settings from the environment.

The first of a setting's names that is set, and not empty, wins.  Every problem is reported at
once, each with what the setting accepts.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from launcher.model.errors import BadSetting
from launcher.model.named_tuple import NamedTuple
from launcher.model.plan import GpuRequest, KeyLine
from launcher.settings import (
    accepts,
    address,
    chown,
    folders,
    jupyter_options,
    key_sources,
    other_images,
)
from launcher.settings.environ import behind_command, own, set_aside, unquoted, wants_color
from launcher.settings.table import TABLE, Setting, Settings

_SSH_PORT_WITHOUT_ROOT = 2222
_IMAGE_PYTHON = "/opt/venv/bin/python"


def load_settings(
    environ: Mapping[str, str] | None = None,
    behind: Mapping[str, tuple[str, ...]] | None = None,
) -> Settings:
    """Read every setting.

    Args:
        behind: options of Jupyter's, by the word of the container's command that they follow.

    Raises BadSetting, with one line for each problem.
    """
    env = own() if environ is None else dict(environ)
    values: dict[str, Any] = {}
    given: dict[str, str] = {}
    problems: list[str] = []
    warnings = [*_unknown(env)]
    options = _jupyter_options(env, behind_command() if behind is None else behind)
    for row in TABLE:
        values[row.field] = row.default
        said = _said(row, env, warnings)
        unfilled = partial(_is_unfilled, row, warnings)
        problems.extend(jupyter_options.add(row.field, row.parse, said, options, unfilled))
        warnings.extend(_secret_notes(row, said, env))
        for name, text in list(said.items())[:1]:
            try:
                values[row.field] = row.parse(text)
                given[row.field] = name
            except ValueError as accepted:
                shown = _shown(row, text, policy=row.parse is accepts.password_policy)
                problems.append(f"{name}={shown}: expected {accepted}")
            else:
                warnings.extend(_conflicts(row, said, values[row.field]))
    values["jupyter_arguments"] = tuple(word for one in options for word in one.taken.rest)
    no_token = any(one.taken.no_token for one in options)
    if no_token and "jupyter_auth" not in given and other_images.is_behind_a_proxy(env):
        values["jupyter_auth"] = "proxy"
    else:
        warnings.extend(_empty_token(env, options))
    warnings.extend(address.doubts(env))
    warnings.extend(_time_zone_doubts(env))
    ours = {name for row in TABLE for name in (row.name, *row.aliases)}
    warnings.extend(other_images.strangers(env, ours))
    warnings.extend(other_images.old_hub(env))
    for token in ("jupyter_token", "metrics_token"):
        if values[token] is None and values[f"{token}_file"]:
            from launcher.settings import tokens  # off the way of most starts

            given[token] = given[f"{token}_file"]
            values[token] = tokens.from_file(given[token], values[f"{token}_file"], problems)
    key_lines, key_source_set = _public_keys(env, values, problems, warnings)
    if "run_dir" not in given:
        values["run_dir"] = folders.run_dir()
    if "state_dir" not in given:
        values["state_dir"] = folders.state_dir(values["run_dir"])
    if "ssh_port" not in given and os.geteuid() != 0:
        values["ssh_port"] = _SSH_PORT_WITHOUT_ROOT
    if not values["python"]:
        values["python"] = _default_python()
    problems.extend(chown.problems(values))
    if problems:
        raise BadSetting("\n".join(problems))
    return Settings(
        **values,
        color=wants_color(env, os.isatty(1)),
        set_aside=set_aside(),
        given=given,
        key_lines=key_lines,
        key_source_set=key_source_set,
        jupyter_options=tuple((one.name, one.taken.rest) for one in options),
        environ=env,
        home="",
        warnings=tuple(warnings),
    )


class Described(NamedTuple):
    """A setting, as it is here."""

    name: str
    value: str | None  # as it was set; a secret is ***; None = not set
    given_by: str | None  # the variable it came from
    default: str
    help: str
    aliases: tuple[str, ...]


def describe(reveal: bool = False) -> list[Described]:
    """Return every setting, with its value here and its default; secrets where `reveal`."""
    env = own()
    found = []
    for row in TABLE:
        name = next(iter(_said(row, env, [])), None)
        value = _shown(row, unquoted(env[name]), reveal) if name else None
        found.append(Described(row.name, value, name, _default(row), row.help, row.aliases))
    return found


def as_text(settings: Iterable[Described]) -> Iterator[str]:
    """Yield two lines for every setting: name and value, and its help."""
    for row in settings:
        given = f"= {row.value} (from {row.given_by})" if row.given_by else f"[{row.default}]"
        also = f" Also: {', '.join(row.aliases)}." if row.aliases else ""
        yield f"{row.name} {given}"
        yield f"    {row.help}{also}"


def user_python(environ: Mapping[str, str] | None = None) -> str:
    """Return the interpreter of the user environment, as the settings have it."""
    env = own() if environ is None else environ
    return unquoted(env.get("LAUNCHER_PYTHON", "")) or _default_python()


def _default_python() -> str:
    return _IMAGE_PYTHON if os.path.exists(_IMAGE_PYTHON) else sys.executable


def _said(row: Setting, env: Mapping[str, str], warnings: list[str]) -> dict[str, str]:
    """Return the names of a setting that say something, the one that counts first."""
    said: dict[str, str] = {}
    for name in (row.name, *row.aliases):
        text = unquoted(env.get(name, ""))
        if row.parse is accepts.port and re.match("(tcp|udp|sctp)://", text):
            warnings.append(
                f"{name}={text[:60]} comes from a Kubernetes service of that name and is ignored; "
                "set enableServiceLinks: false in the pod to be rid of it"
            )
        elif warning := _unfilled(row, name, text):
            warnings.append(warning)
        elif text and text not in other_images.PLACEHOLDERS.get(name, ()):
            said[name] = text
    return said


def _secret_notes(row: Setting, said: Mapping[str, str], env: Mapping[str, str]) -> Iterator[str]:
    """Yield a warning where what lets people in is not what they will type."""
    if row.parse is not accepts.token:
        return
    for name, text in list(said.items())[:1]:
        if name in env and text != env[name].strip():
            yield (
                f"{name} has quotes around it, as --env-file keeps them: "
                "they are not part of the value"
            )
        if text.startswith(("sha", "argon2", "$")):
            from launcher.settings import ways_in

            yield from ways_in.hash_note(name, text)


def _conflicts(row: Setting, said: Mapping[str, str], value: object) -> list[str]:
    """Return a warning for each other name of a setting that says something else."""
    if row.adds_up:
        return []
    first, *others = said
    return [
        f"{name} is another name of {first}, which counts: its different value has no effect"
        for name in others
        if not _agrees(row, said[name], value)
    ]


def _agrees(row: Setting, text: str, value: object) -> bool:
    try:
        return bool(row.parse(text) == value)
    except ValueError:
        return False


def _default(row: Setting) -> str:
    """Return a default as one would write it."""
    words = {None: "none", "": "none", (): "none", False: "off", True: "on"}
    if isinstance(row.default, GpuRequest):
        return "all"
    if type(row.default) is tuple and row.default:
        return ",".join(row.default)
    return words.get(row.default, str(row.default)) if row.default != 0 else "0"


def _shown(row: Setting, text: str, reveal: bool = False, *, policy: bool = False) -> str:
    """Return a value as it may be printed; where a policy is to be, people write a password."""
    from launcher.model import masking  # off PID 1's way: where something is wrong, or asked for

    if reveal:
        return repr(text)
    if row.secret or policy or "PRIVATE KEY" in text:  # pasted in the place of a public one
        return masking.MASK
    return repr(masking.mask_text(text[:60] + "…" if len(text) > 60 else text))


def _time_zone_doubts(env: Mapping[str, str]) -> Iterator[str]:
    if env.get("TZ"):
        from launcher.settings import time_zone  # where somebody chose one

        yield from time_zone.doubts(env)


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


def _unfilled(row: Setting, name: str, text: str) -> str | None:
    """Return a warning where a token is a template's placeholder, which lets nobody in."""
    if row.parse is not accepts.token or not text:
        return None
    from launcher.settings import tokens  # only where somebody chose one

    return tokens.unfilled(name) if tokens.is_unfilled(text) else None


def _is_unfilled(row: Setting, warnings: list[str], name: str, text: str) -> bool:
    """Return whether an option's token is such a placeholder, and warn of it."""
    warning = _unfilled(row, name, text)
    warnings += [warning] if warning else []
    return warning is not None


def _empty_token(env: Mapping[str, str], options: Iterable[jupyter_options.Given]) -> list[str]:
    """Return a warning where somebody asks for no token at all."""
    names = [] if unquoted(env.get("JUPYTER_TOKEN", "unset")) else ["JUPYTER_TOKEN"]
    names += [f"{one.name}: the token" for one in options if one.taken.no_token]
    return [
        f"{name} is empty, which would open Jupyter to everyone; a token is used instead"
        for name in names
    ]


def _jupyter_options(
    env: Mapping[str, str], behind: Mapping[str, tuple[str, ...]]
) -> list[jupyter_options.Given]:
    """Return what was given, a variable's first: behind the command the later one counts."""
    row = next(row for row in TABLE if row.field == "jupyter_arguments")
    given: dict[str, tuple[str, ...]] = {}
    for name, text in list(_said(row, env, []).items())[:1]:
        with contextlib.suppress(ValueError):  # named where the row itself is read
            given[name] = accepts.jupyter_arguments(text)
    both = (*given.items(), *behind.items())
    return [jupyter_options.Given(name, jupyter_options.take(words)) for name, words in both]


def _public_keys(
    env: Mapping[str, str], values: Mapping[str, Any], problems: list[str], warnings: list[str]
) -> tuple[tuple[KeyLine, ...], bool]:
    row = next(row for row in TABLE if row.field == "public_key")
    file, directory = values["public_key_file"], values["public_key_dir"]
    for name, path in (("PUBLIC_KEY_FILE", file), ("PUBLIC_KEY_DIR", directory)):
        if path and (fault := key_sources.fault(path, directory=path == directory)):
            problems.append(f"{name}={path!r}: cannot read it: {fault}")
    return key_sources.read_keys(
        {name: env.get(name, "") for name in (row.name, *row.aliases)},
        [file] if file else [],
        [directory, values["keys_dir"]] if directory else [values["keys_dir"]],
        warnings,
    )
