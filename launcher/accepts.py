"""What settings accept: each function turns text into a value, or raises ValueError that says.

The message completes the sentence "expected …".
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from launcher.model import GpuRequest, Secret


def _number(text: str) -> int:
    """Return the number, -1 where it is none: int() has words of its own for 5000 digits."""
    return int(text) if text.isdecimal() and len(text) <= 9 else -1


def port(text: str) -> int:
    if not 1 <= _number(text) <= 65535:
        raise ValueError("a port number from 1 to 65535")
    return int(text)


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 86400:
        raise ValueError("a number of seconds above 0, at most 86400")
    return value


_WORDS = {"1": True, "true": True, "yes": True, "on": True}
_WORDS |= {"0": False, "false": False, "no": False, "off": False}


def flag(text: str) -> bool:
    if text.lower() not in _WORDS:
        raise ValueError("1, true, yes, on, or 0, false, no, off")
    return _WORDS[text.lower()]


def gpu_count(text: str) -> int:
    if 0 <= _number(text) <= 64:
        return int(text)
    try:
        return int(flag(text))
    except ValueError:
        raise ValueError("0, or how many usable GPUs are needed (1 = at least one)") from None


_COUNT = r"[1-9]\d?"
_GPU_NAME = re.compile(
    r"\d{1,2}|(GPU|MIG)-[0-9a-fA-F-]+"
    r"|([0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]"
)


def gpu_request(text: str) -> GpuRequest:
    """Read all | N | idle | idle:N | a list of indices, UUIDs and PCI addresses."""
    if text == "all":
        return GpuRequest()
    if match := re.fullmatch(rf"(idle:)?({_COUNT})", text):
        return GpuRequest(idle=bool(match[1]), count=int(match[2]))
    if text == "idle":
        return GpuRequest(idle=True)
    wanted = tuple(part.strip() for part in text.split(","))
    if text.isdecimal() or not all(_GPU_NAME.fullmatch(part) for part in wanted):
        raise ValueError(
            "all, a number of GPUs, idle, idle:2, or a list such as 0,1 or GPU-8f2a… or 18:00.0"
        )
    return GpuRequest(wanted=wanted)


_UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def size(text: str) -> int:
    """Return bytes: "20GiB", "20G", "20 GB" (all powers of 1024, as nvidia-smi counts)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text, re.IGNORECASE)
    if not match:
        raise ValueError("a size such as 20GiB or 800MiB")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def choice(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(" or ".join(choices))
        return text

    return parse


def absolute(text: str) -> str:
    if not text.startswith("/") or "\n" in text:
        raise ValueError("an absolute path")
    return os.path.normpath(text)


def socket_dir(text: str) -> str:
    """Return a directory whose sockets have names of at most 107 bytes: unix(7), sun_path."""
    if not text.startswith("/") or "\n" in text or len(text.encode(errors="replace")) > 80:
        raise ValueError("an absolute path of at most 80 bytes, for a socket in it")
    return os.path.normpath(text)


def user(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}", text):
        raise ValueError("a user name: letters, digits, '_', '-', '.', at most 32")
    return text


def host(text: str) -> str:
    import ipaddress  # 10 ms that most starts need not spend

    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        wanted = "an IPv4 or IPv6 address to listen on, such as 0.0.0.0 or 127.0.0.1"
        raise ValueError(wanted) from None


def token(text: str) -> Secret:
    if not text.isprintable() or len(text) > 4096:
        raise ValueError("up to 4096 printable characters, without line breaks")
    return Secret(text)


def text(text: str) -> str:
    return text
