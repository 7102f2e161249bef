"""Where the box is reached from outside, as far as the platform or the user tells.  Pure.

What is told is printed in a URL and in an SSH line, so it must be an address: anything else is
left out, and a warning names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from launcher.model.plan import Address
from launcher.settings import accepts

# Whose ports are told, and beside them the host.
_PLATFORMS = (("RUNPOD", "RUNPOD_PUBLIC_IP"), ("VAST", "PUBLIC_IPADDR"))
# Nomad's, of each port that a task asks for by a label ("Runtime environment settings").
_NOMAD = "NOMAD_HOST_PORT_"
# What ai-dock's images write where DIRECT_ADDRESS names no address.
_NO_ADDRESS = ("false", "auto#vast-ai", "auto#runpod-io")


def published(env: Mapping[str, str], port: int) -> Address | None:
    """Return where a platform says that it publishes `port` of the container."""
    for label in [n.removeprefix(_NOMAD) for n in env if n.startswith(_NOMAD)]:
        outside = _port(env[f"{_NOMAD}{label}"])
        if outside and _port(env.get(f"NOMAD_PORT_{label}", "")) == port:
            return Address(_host(env, f"NOMAD_IP_{label}") or public_host(env), outside, port,
                           certain=True)  # fmt: skip
    for prefix, host_name in _PLATFORMS:
        outside = _port(env.get(f"{prefix}_TCP_PORT_{port}", ""))
        if outside:
            return Address(_host(env, host_name) or public_host(env), outside, port, certain=True)
    return None


def proxied(env: Mapping[str, str], port: int) -> Address | None:
    """Return where a platform's own proxy leads to HTTP on `port`, whatever is published.

    RunPod's documentation, "Expose ports": https://POD-PORT.proxy.runpod.net.
    """
    pod = env.get("RUNPOD_POD_ID", "").strip()
    if not re.fullmatch(r"[a-z0-9]{1,40}", pod):
        return None
    return Address(f"{pod}-{port}.proxy.runpod.net", 443, port, certain=True, proxied=True)


def public_host(env: Mapping[str, str]) -> str:
    """Return the address or the name of this machine, as some variable tells it."""
    return next(filter(None, (_host(env, name) for name in _host_names(env))), "127.0.0.1")


def doubts(env: Mapping[str, str]) -> Iterator[str]:
    """Yield a warning for each variable that should tell an address and does not."""
    for name in _host_names(env):
        text = env[name].strip()
        if text and text not in _NO_ADDRESS and not _host(env, name):
            shown = repr(text[:60] + "…" if len(text) > 60 else text)
            yield (
                f"{name}={shown} is neither an IP address nor a host name: "
                "the banner does not print it"
            )


def _host_names(env: Mapping[str, str]) -> list[str]:
    ours = ("DIRECT_ADDRESS", "PUBLIC_IPADDR")
    return sorted(name for name in env if name in ours or re.fullmatch(r"\w+_PUBLIC_IP", name))


def _host(env: Mapping[str, str], name: str) -> str | None:
    text = env.get(name, "").strip()
    try:
        return accepts.public_host(text) if text not in _NO_ADDRESS else None
    except ValueError:
        return None


def _port(text: str) -> int | None:
    try:
        return accepts.port(text.strip())
    except ValueError:
        return None
