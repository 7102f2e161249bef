"""What watch looks at, and what it sees there, as values.

watch stays in memory as long as the box lives, so it reads of plan.json what it needs: all of
`model` takes two megabytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from launcher.model import run_files
from launcher.model.errors import BadSetting

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


@dataclass(frozen=True)
class JupyterDoor:
    """Where Jupyter is asked how it is."""

    port: int
    listen: str
    target: str | None = field(repr=False)  # None = answers nobody but a hub
    authorization: str | None = field(default=None, repr=False)  # the header, with the token
    encrypted: bool = False


@dataclass(frozen=True)
class Watched:
    """The box, as watch looks at it."""

    run_dir: str
    started: float  # CLOCK_MONOTONIC, seconds
    jupyter: JupyterDoor | None
    ssh_port: int | None
    gpu_watch: float  # seconds between two looks at the GPUs; 0 = none


def read(run_dir: str) -> Watched:
    """Return what the running box planned.  Raises BadSetting where there is no plan to be read."""
    path = f"{run_dir}/{run_files.PLAN}"
    try:
        with open(path, encoding="utf-8") as stream:
            return of_plan(json.load(stream))
    except OSError as err:
        raise BadSetting(f"cannot read {path}: {err.strerror}; is this a running box?") from None
    except (ValueError, TypeError, KeyError) as err:
        raise BadSetting(f"cannot read {path}: not what this launcher wrote ({err!r})") from err


def of_plan(plan: Mapping[str, Any]) -> Watched:
    """Return what `model.Plan` says, from its JSON."""
    jupyter, ssh = plan["jupyter"], plan["ssh"]
    return Watched(
        run_dir=plan["paths"]["run"],
        started=plan["started"],
        jupyter=door(jupyter) if jupyter else None,
        ssh_port=ssh["port"] if ssh else None,
        gpu_watch=plan["gpu_watch"],
    )


def door(jupyter: Mapping[str, Any]) -> JupyterDoor:
    """Return how to ask: /api/status counts as no activity and is not logged when it succeeds.

    Under a hub, whose tokens we have none of, /api says that it is up.
    """
    hub, token = jupyter["hub"], jupyter["token"]
    target: str | None = f"{jupyter['base_url']}api"
    authorization = None
    if hub is None:
        target = f"{target}/status"
        if _fits_a_header(token):  # URLs are logged, where a request fails
            authorization = f"token {token}"
        else:
            target = f"{target}?token={_quoted(token)}"
    elif hub["mutual_tls"]:  # it answers nobody but the hub
        target = None
    return JupyterDoor(
        port=jupyter["port"],
        listen=jupyter["listen"],
        target=target,
        authorization=authorization,
        encrypted=jupyter["certificate"] is not None,
    )


def _fits_a_header(text: str) -> bool:
    """Say whether tornado, which reads headers as Latin-1, would read this text as it is."""
    return max(map(ord, text), default=0) < 0x100


def _quoted(text: str) -> str:
    """Quote as in a URL.  urllib's own would stay in memory."""
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in text.encode())
