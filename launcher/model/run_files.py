"""What the files of the run directory are called: /run/launcher, or LAUNCHER_RUN_DIR.

Each name stands here once; docs/security.md has their owners and modes.  It is down here, since
`settings`, `process`, `plan` and `render` need the names, and `box`, which reads the files, is
above them.
"""

from __future__ import annotations

# What was decided, and what it was decided from.
PLAN = "plan.json"
MACHINE = "machine.json"
SUPERVISION = "supervision.json"
WATCH = "watch.json"

# What the running box says of itself.
BANNER = "banner"
HEALTH = "health.json"
PROGRAMS = "programs.json"
SAID = "said.log"  # the launcher's own last lines
LOCK = "lock"  # held by the box that runs there
LOG = "log"
SUPERVISOR_SOCKET = "supervisor.sock"
SUPERVISOR_PID = "supervisord.pid"

# What the services and the shells read.
SERVICES = "services"
ENVIRONMENT = "environment.sh"
LOGIN = "login.sh"
USER = "user"  # the shells' files once more, for the workspace user
JUPYTER = "jupyter"  # Jupyter's own: its runtime directory
JUPYTER_CONFIG = "jupyter.json"
JUPYTER_CERTIFICATE = "jupyter.pem"  # the key, then the chain
SSH = "ssh"
SSHD_CONFIG = f"{SSH}/sshd_config"
AUTHORIZED_KEYS = f"{SSH}/authorized_keys"
CA_BUNDLE = "ca-bundle.pem"
SUDOERS = "sudoers"
SUDOERS_USER = f"{SUDOERS}/user"
NAMES = "names"  # passwd and group, where /etc cannot be written
STATE = "state"  # the state directory, where no other place can be written


def service(name: str) -> str:
    """Return the file that says how to become a program, by its name in supervisord.conf."""
    return f"{SERVICES}/{name}.json"


def log(program: str) -> str:
    """Return the file that has the last output of a program."""
    return f"{LOG}/{program}.log"


def of_the_user(name: str) -> str:
    """Return the workspace user's copy of a shell's file."""
    return f"{USER}/{name}"
