"""The programs of the user's that are opened below Jupyter's address.  Pure.

Their names are data: JupyterLab and the page show them as text, and no address has them.
"""

from __future__ import annotations

from launcher.model.named_tuple import NamedTuple
from launcher.model.plan import Jupyter, Plan

TENSORBOARD = "tensorboard"
_PATIENCE = 60.0  # seconds until TensorBoard answers: from a slow disk its start takes its time


class Program(NamedTuple):
    """A card in JupyterLab's launcher, and a link on the page."""

    title: str
    path: str  # below Jupyter's address


_PAGE = Program("This box", "launcher/")


def programs(jupyter: Jupyter) -> tuple[Program, ...]:
    """Return what is shown, as it was named; TensorBoard first, unless the user runs another."""
    named = tuple(Program(port.name, f"proxy/{port.port}/") for port in jupyter.ports)
    theirs = any(port.name.lower() == TENSORBOARD for port in jupyter.ports)
    ours = jupyter.tensorboard and not theirs
    return (*((Program("TensorBoard", f"{TENSORBOARD}/"),) if ours else ()), *named)


def proxied_servers(plan: Plan, jupyter: Jupyter) -> dict[str, object]:
    """Return the configuration of jupyter-server-proxy: ServerProxy.servers."""
    servers: dict[str, object] = {}
    if jupyter.page:
        # A card, whose address is one of Jupyter's own. The proxy takes none without a port.
        servers["about-this-box"] = {"port": jupyter.port, **_card(plan, _PAGE)}
    for program in programs(jupyter):
        name = program.path.rstrip("/").replace("/", "-")
        servers[name] = {**_server(plan, program), **_card(plan, program)}
    return servers


def _card(plan: Plan, program: Program) -> dict[str, object]:
    icon = f"{plan.paths.guest}/program.svg"
    card = {"title": program.title, "path_info": program.path, "icon_path": icon}
    return {"launcher_entry": card}


def _server(plan: Plan, program: Program) -> dict[str, object]:
    if program.path != f"{TENSORBOARD}/":
        return {"port": int(program.path.split("/")[1])}
    start = f"{plan.paths.guest}/launcher_tensorboard.py"
    return {
        # Python's format() fills in the port, and would take braces of a folder for its own.
        "command": [_literal(plan.paths.python), _literal(start), "{port}"],
        "timeout": _PATIENCE,
        "update_last_activity": False,  # its page asks every half minute, seen or not
    }


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
