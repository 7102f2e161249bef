"""Jupyter as a service: its configuration, and how to become it.  Pure."""

from __future__ import annotations

import re

from launcher.checks.facts.how_to_run import tell_at
from launcher.model import run_files
from launcher.model.plan import Certificate, Jupyter, Plan, Service
from launcher.render.page import page_facts
from launcher.render.programs import proxied_servers

_CULL_INTERVAL = 300  # seconds between two looks at the kernels: Jupyter's default


def jupyter_config(plan: Plan, jupyter: Jupyter) -> dict[str, object]:
    """Return what our Jupyter start program reads.

    A user's own configuration overrides `default`, nothing overrides `final`; `arguments` are more
    of its command line, here because a command line is everybody's to read.  `page` is what our own
    extension shows, `metrics_token` opens its metrics and nothing else; `more_memory` is told where
    a kernel was killed for want of it.
    """
    return {
        "hub": jupyter.hub is not None,
        "arguments": list(jupyter.arguments),
        "python": plan.paths.python,
        "packages": plan.packages.folder,
        "page": page_facts(plan) if jupyter.page else {},
        "metrics_token": jupyter.metrics_token.reveal() if jupyter.metrics_token else "",
        "more_memory": tell_at(plan.place, "memory"),
        "default": {
            "ServerApp": {
                "root_dir": plan.paths.workspace,
                "open_browser": False,
                "terminado_settings": {"shell_command": [plan.identity.account.shell, "-l"]},
                "websocket_ping_interval": 30,
                **_allowed(jupyter.origins),
            },
            # Kernels that can (ipykernel 7.4 can) encrypt what they say on their TCP ports, which
            # with --network host are the host's: jupyter_client's KernelManager.
            "KernelManager": {"transport_encryption": "auto"},
            "MappingKernelManager": _culling(jupyter.idle),
            # Neither asks the network for news nor for updates of a pinned package.
            "LabApp": {
                "news_url": None,
                "check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
            },
            "ServerProxy": {"servers": proxied_servers(plan, jupyter)},
        },
        "final": {
            "ServerApp": {
                "allow_root": plan.identity.is_root,
                "allow_remote_access": True,
                "jpserver_extensions": {
                    "jupyterlab": True,
                    "launcher_page": jupyter.page,
                    "launcher_proxy": True,
                    "jupyter_server_proxy": False,  # which launcher_proxy loads when it is used
                    **dict.fromkeys(jupyter.left_out, False),
                },
                # A hub's own extension of Jupyter sets the rest from the hub's variables.
                **({} if jupyter.hub else _place(plan, jupyter)),
            },
            **({} if jupyter.hub else {"IdentityProvider": {"token": jupyter.token.reveal()}}),
        },
    }


def _place(plan: Plan, jupyter: Jupyter) -> dict[str, object]:
    """Return where Jupyter is reached."""
    certificate = f"{plan.paths.run}/{run_files.JUPYTER_CERTIFICATE}"
    # Of a configuration in a home that was kept, too: what is printed is what answers.
    encrypted = {
        "certfile": certificate if jupyter.certificate else "",
        "keyfile": "",
        "client_ca": "",
        "ssl_options": {},
    }
    return {
        "ip": jupyter.listen,
        "port": jupyter.port,
        "sock": "",
        "port_retries": 0,  # another port would be one that nobody published
        "base_url": jupyter.base_url,
        **encrypted,
    }


def _allowed(origins: tuple[str, ...]) -> dict[str, object]:
    """Return whose pages may use it besides its own; a user's own configuration may say others."""
    if "*" in origins:
        return {"allow_origin": "*"}
    if not origins:
        return {}
    return {"allow_origin_pat": f"(?:{'|'.join(map(re.escape, origins))})\\Z"}


def _culling(idle: int) -> dict[str, object]:
    """Return what ends idle kernels: a forgotten tab is what holds a GPU's memory for days."""
    if not idle:
        return {}
    interval = min(_CULL_INTERVAL, max(1, idle // 2))
    return {"cull_idle_timeout": idle, "cull_interval": interval, "cull_connected": True}


def certificate_pem(certificate: Certificate) -> str:
    """Return the one file that Jupyter reads: the private key, then the chain."""
    return f"{certificate.key.reveal().rstrip()}\n{certificate.chain.rstrip()}\n"


def jupyter_service(plan: Plan) -> Service:
    run, account = plan.paths.run, plan.identity.account
    name, value = "JUPYTER_RUNTIME_DIR", f"{run}/{run_files.JUPYTER}"
    python, program = plan.paths.jupyter or plan.paths.python, f"{plan.paths.guest}/jupyter.py"
    return Service(
        name="jupyter",
        argv=(python, program, f"{run}/{run_files.JUPYTER_CONFIG}"),
        uid=account.uid,
        gid=account.gid,
        groups=account.groups,
        umask=0o022 if plan.identity.umask is None else plan.identity.umask,
        cwd=plan.paths.workspace,
        env=tuple({**plan.user_environment(), name: value}.items()),
        kernels_mark=f"{name}={value}",
    )
