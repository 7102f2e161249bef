"""What settings accept: each function turns text into a value, or raises ValueError that says.

The message completes the sentence "expected …".
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from launcher.model import Secret


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


def gpu_request(text: str) -> tuple[str, ...]:
    """Return () for every GPU, else the wanted indices and UUIDs."""
    if text == "all":
        return ()
    wanted = tuple(part.strip() for part in text.split(","))
    one_index = len(wanted) == 1 and wanted[0].isdecimal()
    if one_index or not all(re.fullmatch(r"\d{1,9}|GPU-[0-9a-fA-F-]+", part) for part in wanted):
        raise ValueError("all, or a list of two or more indices or UUIDs such as 0,1 or GPU-8f2a…")
    return wanted


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
