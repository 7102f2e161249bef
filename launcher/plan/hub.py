"""Under a JupyterHub: where the hub that started this box wants its server.  Pure.

Source: JupyterHub 6.1, `Spawner.get_env` and what `jupyterhub.singleuser.extension` reads of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from launcher.model.errors import BadSetting
from launcher.model.named_tuple import NamedTuple
from launcher.model.plan import Hub


class HubPlace(NamedTuple):
    """Where the hub will look for the server, and what it tells of itself."""

    listen: str
    port: int
    base_url: str
    hub: Hub


def hub_place(environ: Mapping[str, str]) -> HubPlace | None:
    """Return the place, or None where no hub started this box.

    The token alone is no hub: a notebook that talks to a hub's API has one, too.
    Raises BadSetting for a URL that is none.
    """
    told = environ.get("JUPYTERHUB_SERVICE_URL", "").strip()
    if not environ.get("JUPYTERHUB_API_TOKEN", "").strip() or not told:
        return None
    from urllib.parse import urlsplit  # for a hub's alone: it takes its time to import

    try:
        url = urlsplit(told)
        usual = {"http": 80, "https": 443}[url.scheme]
        port = url.port or usual
    except (ValueError, KeyError):
        expected = "expected a URL such as http://0.0.0.0:8888/user/name/"
        raise BadSetting(f"JUPYTERHUB_SERVICE_URL={told[:60]!r}: {expected}") from None
    base_url = environ.get("JUPYTERHUB_SERVICE_PREFIX") or "/"
    public = environ.get("JUPYTERHUB_PUBLIC_URL") or ""
    host = environ.get("JUPYTERHUB_HOST") or ""
    return HubPlace(
        listen=url.hostname or "",
        port=port,
        base_url=f"{base_url.rstrip('/')}/",
        hub=Hub(
            url=public or (host + base_url if host else ""),
            mutual_tls=url.scheme == "https",
        ),
    )
