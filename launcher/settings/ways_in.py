"""Variables by which people think they get in, or keep others out, and that are no settings here.

Whoever sets PASSWORD in another image has a password there.  Here nothing would say that it opens
and closes nothing, until somebody cannot come in, or can.  Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_OF_JUPYTER = r"JUPYTER(?:_?(?:LAB|NOTEBOOK|SERVER))?|NOTEBOOK|LAB|NB"
_OF_A_PAGE = r"WEB|WEBUI|WORKSPACE_AUTH|CODE_SERVER|VSCODE|ACCESS|CONTAINER|CUSTOM"
_OF_A_LOGIN = r"SSHD?(?:_USER|_ROOT)?|ROOT|USER|NB_USER|LOGIN|UBUNTU|DEV"
_SECRET = r"(?P<hashed>(?:HASHED|ENCRYPTED)_)?(?:{})(?P<hash>_?HASH(?:ED)?)?(?P<file>_FILE)?"
# By what a name is told: those of a program of the user's (PGPASSWORD, DB_PASSWORD) are none.
_PASSWORD = (
    rf"(?:(?P<jupyter>{_OF_JUPYTER})|(?P<page>{_OF_A_PAGE})|(?P<login>{_OF_A_LOGIN})"
    rf"|(?P<sudo>SUDO)|(?P<vnc>VNC))_{_SECRET.format('PASSWORD|PASSWD|PASSPHRASE|PASS|PW')}"
)
_BARE = _SECRET.format("PASSWORD|PASSWD")
_TOKEN = rf"(?P<jupyter>{_OF_JUPYTER})_(?:ACCESS_|AUTH_)?TOKEN(?P<file>_FILE)?"
_KEY = r"(?:ssh-(?:rsa|dss|ed25519)|ecdsa-sha2-nistp\d+|sk-[a-z0-9-]+@openssh\.com)\s+AAAA"
_NAME = r"[A-Za-z_][A-Za-z0-9_]{0,60}"
# Of Jupyter (jupyter_server.auth.security), crypt(5) and Argon2.
_HASHED = r"(?:sha1|sha256|sha512|argon2):\S*|\$(?:argon2\w*|2[aby]|[156y])\$\S*"
_WITH_A_HASH = "NOTEBOOK_ARGS=--PasswordIdentityProvider.hashed_password=HASH"


def instead(environ: Mapping[str, str]) -> dict[str, str]:
    """Return each variable of the kind with what to use instead of it."""
    found = {name: _instead(name, text) for name, text in sorted(environ.items())}
    return {name: words for name, words in found.items() if words}


def notes(found: Mapping[str, str]) -> Iterator[str]:
    """Yield a warning for those that one thing stands for."""
    for words in dict.fromkeys(found.values()):
        names = [name for name in found if found[name] == words]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        are = "are no settings" if len(names) > 1 else "is no setting"
        yield f"{', '.join(names[:5])}{more} {are} here, so nobody gets in by it: {words}"


def hash_note(name: str, text: str) -> Iterator[str]:
    """Yield a warning where what was given as Jupyter's token is made from a password."""
    if re.fullmatch(_HASHED, text):
        yield (
            f"{name} looks like the hash of a password, and Jupyter asks for a token: for that "
            f"very text; set the token itself, or {_WITH_A_HASH}"
        )


def _instead(name: str, text: str) -> str:
    if re.match(_KEY, text.strip().strip("'\"")) and re.fullmatch(_NAME, name):
        return "a public key in PUBLIC_KEY may log in"
    token, bare = re.fullmatch(_TOKEN, name), re.fullmatch(_BARE, name)
    found = token or bare or re.fullmatch(_PASSWORD, name)
    if not found:
        return ""
    groups = found.groupdict()
    file = "_FILE" if groups["file"] else ""
    hashed = groups.get("hashed") or groups.get("hash")
    jupyter = f"JUPYTER_TOKEN{file} is for Jupyter"
    jupyter += f" (of a hash, {_WITH_A_HASH})" if hashed else ""
    login = f"PUBLIC_KEY{file} is for SSH"
    if groups.get("sudo"):
        return "sudo asks for none; GRANT_SUDO=no: no sudo"
    if groups.get("vnc"):
        return "there is no desktop; JUPYTER_TOKEN is for Jupyter"
    if groups.get("login"):
        return f"{login}; without any key a random password is made and printed"
    return jupyter if groups.get("jupyter") else f"{jupyter}, {login}"
