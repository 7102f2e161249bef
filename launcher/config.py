"""Settings: one table, and the only reader of the environment.

A setting is an environment variable.  The first of its names that is set, and not empty,
wins.  Every problem is reported at once, each with what the setting accepts.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from launcher import accepts
from launcher.errors import BadSetting
from launcher.model import GpuRequest, KeyLine, Secret


@dataclass(frozen=True, slots=True)
class Setting:
    """One row: `parse` turns the text into the value or raises ValueError with what is accepted."""

    field: str
    name: str
    default: Any
    parse: Callable[[str], Any]
    help: str
    aliases: tuple[str, ...] = ()
    secret: bool = False


# fmt: off
TABLE: tuple[Setting, ...] = (
    Setting("jupyter_token", "JUPYTER_TOKEN", None, accepts.token,
            "Jupyter's token. Unset: 32 random bytes, kept in the state directory.",
            secret=True),
    Setting("jupyter_token_file", "JUPYTER_TOKEN_FILE", None, accepts.absolute,
            "File that holds the token (white space around it is ignored)."),
    Setting("jupyter_port", "JUPYTER_PORT", 8888, accepts.port,
            "Port that Jupyter listens on, in the container."),
    Setting("jupyter_port_host", "JUPYTER_PORT_HOST", None, accepts.port,
            "Port that you published it on, for the banner."),
    Setting("ssh_port", "SSH_PORT", 22, accepts.port,
            "Port that SSH listens on, in the container.", ("LISTEN_PORT",)),
    Setting("ssh_port_host", "SSH_PORT_HOST", None, accepts.port,
            "Port that you published it on, for the banner. Unset: 2222 stands for 22."),
    Setting("public_key", "PUBLIC_KEY", None, accepts.text,
            "Public keys that may log in, one a line. Every name and file given counts.",
            ("SSH_PUBLIC_KEY", "AUTHORIZED_KEYS")),
    Setting("keys_dir", "LAUNCHER_KEYS_DIR", "/etc/launcher/authorized_keys.d", accepts.absolute,
            "Directory of mounted authorized_keys files."),
    Setting("ssh_password", "LAUNCHER_SSH_PASSWORD", "auto", accepts.choice("auto", "off"),
            "auto: a random password when no key source is set; off: never a password."),
    Setting("gpus", "LAUNCHER_GPUS", GpuRequest(), accepts.gpu_request,
            "GPUs that CUDA sees: all, the best N, a list, idle or idle:N."),
    Setting("gpu_min_free", "LAUNCHER_GPU_MIN_FREE", 0, accepts.size,
            "Leave out GPUs with less free memory than this, such as 20GiB."),
    Setting("gpu_ids", "LAUNCHER_GPU_IDS", "auto", accepts.choice("auto", "index", "uuid"),
            "How CUDA_VISIBLE_DEVICES names them. auto: indices where they are safe."),
    Setting("require_gpu", "LAUNCHER_REQUIRE_GPU", 0, accepts.gpu_count,
            "Exit with 69 unless CUDA opens this many GPUs (1 = at least one)."),
    Setting("detect_timeout", "LAUNCHER_DETECT_TIMEOUT", 30.0, accepts.seconds,
            "Seconds to wait for the driver library before starting without GPUs."),
    Setting("ready_timeout", "LAUNCHER_READY_TIMEOUT", 60.0, accepts.seconds,
            "Seconds to wait for the services before saying what is not ready."),
    Setting("quiet", "LAUNCHER_QUIET", False, accepts.flag,
            "Command mode prints no summary line."),
    Setting("listen", "LAUNCHER_LISTEN", "", accepts.host,
            "Address that Jupyter and SSH listen on. Unset: every address."),
    Setting("user", "NB_USER", "dev", accepts.user,
            "The workspace user: who notebooks, terminals and SSH logins run as."),
    Setting("workspace", "WORKSPACE", "/workspace", accepts.absolute,
            "Where notebooks open and commands start.",
            ("JUPYTER_DIR", "NOTEBOOK_ROOT_DIR", "RP_WORKSPACE")),
    Setting("python", "LAUNCHER_PYTHON", "", accepts.absolute,
            "Python of the user environment. Unset: /opt/venv/bin/python, else the launcher's."),
    Setting("state_dir", "LAUNCHER_STATE_DIR", "/var/lib/launcher", accepts.absolute,
            "Directory kept over restarts: token, password, host keys."),
    Setting("run_dir", "LAUNCHER_RUN_DIR", "/run/launcher", accepts.socket_dir,
            "Directory of this run's own files."),
)
# fmt: on

KEY_VARIABLES = ("PUBLIC_KEY", "SSH_PUBLIC_KEY", "AUTHORIZED_KEYS")

# Values that must not reach notebooks and logins: our own secrets, and what describes a
# process rather than the container.
NOT_INHERITED = {row.name for row in TABLE if row.secret} | {
    "HOME", "USER", "LOGNAME", "SHELL", "PWD", "OLDPWD", "SHLVL", "_", "TERM", "HOSTNAME",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Settings:
    """The values in force; one field for each row of TABLE."""

    jupyter_token: Secret | None
    jupyter_token_file: str | None
    jupyter_port: int
    jupyter_port_host: int | None
    ssh_port: int
    ssh_port_host: int | None
    public_key: str | None
    keys_dir: str
    ssh_password: str
    gpus: GpuRequest
    gpu_min_free: int  # bytes
    gpu_ids: str
    require_gpu: int
    detect_timeout: float
    ready_timeout: float
    quiet: bool
    listen: str
    user: str
    workspace: str
    python: str
    state_dir: str
    run_dir: str
    color: bool  # stdout is a terminal and NO_COLOR is not set (no-color.org)
    given: Mapping[str, str]  # setting -> the variable it came from
    key_lines: tuple[KeyLine, ...]  # every line of every key source
    key_source_set: bool  # some key source was set, valid or not
    environ: Mapping[str, str] = field(repr=False)  # the container's environment, whole
    warnings: tuple[str, ...]


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
    key_lines, key_source_set = _key_lines(env, values["keys_dir"], warnings)
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


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as stream:
        return stream.read(1 << 20)


def _token_from_file(path: str, problems: list[str]) -> Secret | None:
    try:
        text = _read(path).strip()
        if not text:
            raise ValueError("a token in the file, which is empty")
        return accepts.token(text)
    except OSError as err:
        problems.append(f"JUPYTER_TOKEN_FILE={path!r}: cannot read it: {err.strerror}")
    except ValueError as accepted:
        problems.append(f"JUPYTER_TOKEN_FILE={path!r}: expected {accepted}")
    return None


def _key_lines(
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
            sources[path] = _read(path)
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
