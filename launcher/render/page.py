"""What the page about the box shows of the plan: what was decided, and why.  Pure.

Its reader is the workspace user, who has the same from the banner; no token, password or value of a
variable that may be one goes there.
"""

from __future__ import annotations

from launcher.model.masking import mask, mask_text
from launcher.model.plan import Plan, Ssh
from launcher.model.printable import printable
from launcher.model.public_key import fingerprint
from launcher.render.programs import programs


def page_facts(plan: Plan) -> dict[str, object]:
    """Return texts alone: whoever shows them escapes them."""
    identity = plan.identity
    return {
        "environment": [
            {
                "name": var.name,
                "value": printable(mask(var.name, var.value)),
                "why": printable(mask_text(var.why)),
            }
            for var in plan.environment
        ],
        "devices": plan.devices,
        "remarks": [printable(remark) for remark in plan.device_remarks],
        "runs_as": f"{identity.account.name} (uid {identity.account.uid}): {identity.why}",
        "workspace": plan.paths.workspace,
        "notes": [
            {name: printable(mask_text(text)) for name, text in note._asdict().items()}
            for note in plan.notes
        ],
        "programs": [program._asdict() for program in programs(plan.jupyter)]
        if plan.jupyter
        else [],
        "ssh": _ssh(plan.ssh) if plan.ssh else {"off": f"SSH is off: {plan.ssh_off or ''}"},
    }


def _ssh(ssh: Ssh) -> dict[str, object]:
    add = "to let somebody in: launcher keys add, as root"
    key = f"\n    IdentityFile {ssh.login_key_file}" if ssh.login_key_file else ""
    return {
        "shut": f"At the start {ssh.shut}; {add}" if ssh.shut else "",
        "command": ssh.command,
        "host_key": fingerprint(ssh.host_key),
        "entry": (
            f"Host pytorch-cuda\n    HostName {ssh.address.host}\n    Port {ssh.address.port}\n"
            f"    User {ssh.user}{key}"
        ),
    }
