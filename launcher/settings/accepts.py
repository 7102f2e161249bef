"""What settings accept: each function turns text into a value, or raises ValueError that says.

The message completes the sentence "expected …".
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from launcher.model.plan import GpuRequest, Secret
from launcher.model.services import service_of
from launcher.settings import jupyter_options


def _number(text: str) -> int:
    """Return the number, -1 where it is none: int() has words of its own for 5000 digits."""
    return int(text) if _is_digits(text) and len(text) <= 9 else -1


def _is_digits(text: str) -> bool:
    """Return whether it is 0 to 9 alone: int() takes the digits of every script."""
    return text.isascii() and text.isdecimal()


def port(text: str) -> int:
    """Read a port, also as Docker's EXPOSE writes it: "8888/tcp"."""
    number = _number(text.removesuffix("/tcp"))
    if not 1 <= number <= 65535:
        raise ValueError("a port number from 1 to 65535")
    return number


def seconds(text: str) -> float:
    try:
        value = float(text) if text.isascii() and "_" not in text else -1.0
    except ValueError:
        value = -1.0
    if not 0 < value <= 86400:
        raise ValueError("a number of seconds above 0, at most 86400")
    return value


_WORDS = {"1": True, "true": True, "yes": True, "on": True}
_WORDS |= {"0": False, "false": False, "no": False, "off": False}
# Other images' spellings, taken and not advertised.
_WORDS |= {"y": True, "enable": True, "enabled": True}
_WORDS |= {"n": False, "disable": False, "disabled": False}


def flag(text: str) -> bool:
    if text.lower() not in _WORDS:
        raise ValueError("1, true, yes, on, or 0, false, no, off")
    return _WORDS[text.lower()]


def password_policy(text: str) -> str:
    """Read auto or off; a yes is auto, since nothing opens more than that."""
    try:
        return "auto" if text == "auto" or flag(text) else "off"
    except ValueError:
        raise ValueError("auto or off: no password can be chosen, PUBLIC_KEY lets in") from None


def gpu_count(text: str) -> int:
    if 0 <= _number(text) <= 64:
        return int(text)
    try:
        return int(flag(text))
    except ValueError:
        raise ValueError("0, or how many usable GPUs are needed (1 = at least one)") from None


_COUNT = r"[1-9][0-9]?"
_GPU_NAME = (
    r"(index:)?[0-9]{1,2}|(GPU|MIG)-[0-9a-fA-F-]+"
    r"|([0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]"
)
_WORDS_FOR_GPUS = {
    "all": GpuRequest(),
    "none": GpuRequest(none=True),
    "idle": GpuRequest(idle=True),
}


def gpu_request(text: str) -> GpuRequest:
    """Read all | none | N | idle | idle:N | a list of indices, UUIDs and PCI addresses.

    A number alone is a count; "index:1" and "1," are lists of one.
    """
    if text in _WORDS_FOR_GPUS:
        return _WORDS_FOR_GPUS[text]
    if match := re.fullmatch(rf"(idle:)?({_COUNT})", text):
        return GpuRequest(idle=bool(match[1]), count=int(match[2]))
    wanted = tuple(part.strip() for part in text.removesuffix(",").split(","))
    if _is_digits(text) or not all(re.fullmatch(_GPU_NAME, part) for part in wanted):
        from launcher.settings.gpu_forms import meant  # only where there is something to say

        form = meant(text)
        raise ValueError(
            "all, none, a number of GPUs, idle, idle:2, or a list such as 0,1 or index:0 or "
            "GPU-8f2a… or 18:00.0" + (f"; did you mean {form}?" if form else "")
        )
    return GpuRequest(wanted=tuple(part.removeprefix("index:") for part in wanted))


_UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}

_MOST_GIB = 300  # that one GPU has: a larger number without a unit is of MiB


def size(text: str) -> int:
    """Return bytes: "20GiB", "20G", "20 GB" (all powers of 1024, as nvidia-smi counts)."""
    match = re.fullmatch(
        r"([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*([KMGT]?)(?:i?B)?", text, re.IGNORECASE
    )
    if not match:
        raise ValueError("a size such as 20GiB or 800MiB")
    bytes_ = int(float(match[1]) * _UNITS[match[2].upper()])
    if text.isdecimal() and 0 < bytes_ < 1 << 20:  # who writes 20 means no twenty bytes
        unit = "GiB" if bytes_ <= _MOST_GIB else "MiB"
        raise ValueError(f"a size such as 20GiB or 800MiB; did you mean {text}{unit}?")
    return bytes_


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
    """Return a directory whose sockets have names of at most 107 bytes: unix(7), sun_path.

    supervisor expands a %.
    """
    usable = text.startswith("/") and text.isprintable() and "%" not in text
    if not usable or len(text.encode(errors="replace")) > 80:
        raise ValueError("an absolute path of at most 80 bytes, for a socket in it, without a %")
    return os.path.normpath(text)


def user(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}", text):
        raise ValueError("a user name: letters, digits, '_', '-', '.', at most 32")
    return text


def account_id(text: str) -> int:
    """Return a uid or gid; the largest number means "leave it" to chown(2), and is nobody's."""
    if not _is_digits(text) or len(text) > 10 or int(text) >= (1 << 32) - 1:
        raise ValueError("a number from 0 to 4294967294")
    return int(text)


def umask(text: str) -> int:
    if not re.fullmatch(r"[0-7]{1,3}|0[0-7]{3}", text):
        raise ValueError("an octal number such as 002, 022 or 0077")
    if int(text, 8) & 0o700:
        raise ValueError("an octal number that leaves the owner's permissions, such as 002 or 077")
    return int(text, 8)


def host(text: str) -> str:
    import ipaddress  # 10 ms that most starts need not spend

    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        wanted = "an IPv4 or IPv6 address to listen on, such as 0.0.0.0 or 127.0.0.1"
        raise ValueError(wanted) from None


_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
# RFC 1123, 2.1, and an underscore, which names of containers have.
_HOST_NAME = rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*"


def public_host(text: str) -> str:
    """Read an address or a name that can be printed in a URL and in an SSH line."""
    parts = text.split(".")
    if all(_is_digits(part) for part in parts):
        is_ipv4 = len(parts) == 4 and all(part == str(_number(part)) for part in parts)
        if is_ipv4 and all(int(part) <= 255 for part in parts):
            return text
    elif re.fullmatch(_HOST_NAME, text):
        return text
    elif ":" in text and "%" not in text:  # a zone means nothing elsewhere
        import ipaddress  # 10 ms that most starts need not spend

        try:
            return str(ipaddress.IPv6Address(text))
        except ValueError:
            pass
    raise ValueError("an IPv4 or IPv6 address or a host name")


def token(text: str) -> Secret:
    if not text.isprintable() or len(text) > 4096:
        raise ValueError("up to 4096 printable characters, without line breaks")
    return Secret(text)


def text(text: str) -> str:
    return text


def base_url(text: str) -> str:
    """Return the path below which Jupyter serves, as Jupyter takes it: "/lab-7/".

    Jupyter puts it into regular expressions as it is (jupyter_server.serverapp), and browsers
    take "." and ".." out of it.
    """
    path = f"/{text.strip('/')}/".replace("//", "/")
    allowed = re.fullmatch(r"/[A-Za-z0-9._~!&',=:@%/-]{0,1000}", path)
    if not allowed or "//" in path or {".", ".."} & set(path.split("/")):
        raise ValueError("the path of a URL, such as /notebooks/mine, without + * $ ( ) ; and ..")
    return path


_NEVER = ("0", "off", "false", "no")
_TIME_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def idle_time(text: str) -> int:
    """Return seconds, 0 for never; ml-workspace's SHUTDOWN_INACTIVE_KERNELS=true is two days."""
    if text.lower() in _NEVER:
        return 0
    if text.lower() in ("true", "yes", "on"):
        return 2 * 86400
    match = re.fullmatch(r"([0-9]{1,7})([smhd]?)", text.lower())
    if not match:
        raise ValueError("a time such as 90m, 12h or 3600 (seconds), or off")
    return int(match[1]) * _TIME_UNITS[match[2]]


def jupyter_arguments(text: str) -> tuple[str, ...]:
    """Return the words of a command line."""
    words = jupyter_options.split(text) if len(text) <= 16384 else ()
    if not words:
        raise ValueError("options of Jupyter, as in a shell, such as --debug")
    return words


_ORIGIN = (
    r"https?://[A-Za-z0-9._-]{1,253}(?::[0-9]{1,5})?|https?://\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?"
)


def origins(text: str) -> tuple[str, ...]:
    """Return origins as a browser sends them (RFC 6454, 6.2), or "*" for any."""
    found = tuple(part.rstrip("/") for part in text.replace(",", " ").split())
    if not found or not all(part == "*" or re.fullmatch(_ORIGIN, part) for part in found):
        raise ValueError("origins such as https://lab.example.org, apart by commas, or *")
    return found


_SERVICE = r"[A-Za-z0-9_.-]{1,64}"


def services(text: str) -> tuple[str, ...]:
    """Return names of services, or of their programs."""
    names = tuple(text.replace(",", " ").split())
    if not names or not all(re.fullmatch(_SERVICE, name) for name in names):
        raise ValueError("names of services, such as jupyter,ssh")
    return tuple(dict.fromkeys(service_of(name) for name in names))


def services_or_none(text: str) -> tuple[str, ...]:
    try:
        return () if text == "none" else services(text)
    except ValueError as accepted:
        raise ValueError(f"none, or {accepted}") from None


def gpu_watch(text: str) -> float:
    """Return seconds between two looks; 0 = none."""
    if text != "0" and not 5 <= (number := seconds(text)) <= 3600:
        raise ValueError("0, or seconds from 5 to 3600")
    return 0.0 if text == "0" else number


def variable_names(text: str) -> tuple[str, ...]:
    """Return the names and patterns of a list of variables, apart by commas or white space."""
    entries = tuple(text.replace(",", " ").split())
    if not entries or re.search(r"[^A-Za-z0-9_*?\[\]! -]", " ".join(entries)):
        raise ValueError("names of variables, such as HF_TOKEN, or patterns such as *_TOKEN,AWS_*")
    return entries
