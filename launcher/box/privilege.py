"""What is said to one who asks for what is root's, or another uid's: how he becomes that.

Imports little until there is something to say.
"""

from __future__ import annotations

import os

from launcher.model.errors import BadSetting
from launcher.settings import folders

_PATIENCE = 5.0  # seconds for sudo, which may ask a name server


def only_root(words: str) -> BadSetting:
    """Return what to say to somebody who is not root.

    Args:
        words: of the `launcher` command that root may use.
    """
    if _may_use_sudo():
        return BadSetting(f"only root may; try: sudo launcher {words}")
    if other := of_another():
        return BadSetting(f"only who runs this box may{other}")
    return BadSetting(
        f"only root may, and uid {os.geteuid()} has no sudo here: come in as root "
        "(docker exec -u root …)"
    )


def of_another() -> str:
    """Return what to add where the box is another uid's than root's, and than who asks."""
    if not os.path.exists(folders.IN_OUR_IMAGE):
        return ""
    uid = os.stat("/proc/1").st_uid or folders.uid_of_another_box()
    if not uid or uid == os.geteuid():
        return ""
    return f"; the box here is of uid {uid}: come in as it (docker exec -u {uid} …)"


def _may_use_sudo() -> bool:
    """Return whether sudo lets this user: it is asked, since accounts and engines decide that.

    On a machine that is not our image it may ask for a password, which a person has.
    """
    if not os.path.exists(folders.IN_OUR_IMAGE):
        return True
    import subprocess  # where something is wrong

    try:
        done = subprocess.run(["sudo", "-n", "true"], capture_output=True, timeout=_PATIENCE)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
