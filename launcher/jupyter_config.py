"""Jupyter as a service: its configuration, and how to become it.  Pure."""

from __future__ import annotations

from launcher.model import Jupyter, Plan, Service


def jupyter_config(plan: Plan, jupyter: Jupyter) -> dict[str, object]:
    """Return what our Jupyter start program reads: `final` cannot be overridden by user files."""
    return {
        "default": {
            "ServerApp": {
                "root_dir": plan.paths.workspace,
                "open_browser": False,
                "terminado_settings": {"shell_command": [plan.identity.account.shell, "-l"]},
                "websocket_ping_interval": 30,
            },
            # Neither asks the network for news nor for updates of a pinned package.
            "LabApp": {
                "news_url": None,
                "check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
            },
        },
        "final": {
            "ServerApp": {
                "ip": jupyter.listen,
                "port": jupyter.port,
                "port_retries": 0,  # another port would be one that nobody published
                "base_url": jupyter.base_url,
                "allow_root": plan.identity.is_root,
                "allow_remote_access": True,
                "jpserver_extensions": dict.fromkeys(jupyter.left_out, False),
            },
            "IdentityProvider": {"token": jupyter.token.reveal()},
        },
    }


def jupyter_service(plan: Plan) -> Service:
    run = plan.paths.run
    return _user_service(
        plan,
        "jupyter",
        (plan.paths.python, f"{plan.paths.guest}/jupyter.py", f"{run}/jupyter.json"),
        {"JUPYTER_RUNTIME_DIR": f"{run}/jupyter"},
    )


def _user_service(plan: Plan, name: str, argv: tuple[str, ...], extra: dict[str, str]) -> Service:
    account = plan.identity.account
    return Service(
        name=name,
        argv=argv,
        uid=account.uid,
        gid=account.gid,
        groups=account.groups,
        cwd=plan.paths.workspace,
        env=tuple({**plan.user_environment(), **extra}.items()),
    )
