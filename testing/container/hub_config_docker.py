"""deploy/jupyterhub's configuration as it is, and around it what a test's hub needs.

JupyterHub runs this file; it is no module of the tests.  What it cannot know is in HUB_TEST_*.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

OWN = urlsplit(os.environ["HUB_TEST_HUB_URL"])
os.environ["HUB_ADDRESS"] = str(OWN.hostname)
os.environ["IMAGE"] = os.environ["HUB_TEST_IMAGE"]

c: Any = get_config()  # type: ignore[name-defined]  # noqa: F821
deploy = Path(os.environ["HUB_TEST_PROJECT"], "deploy", "jupyterhub")
load_subconfig("jupyterhub_config.py", path=str(deploy))  # type: ignore[name-defined]  # noqa: F821

c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.bind_url = os.environ["HUB_TEST_PUBLIC_URL"]
c.JupyterHub.hub_port = OWN.port
c.ConfigurableHTTPProxy.command = os.environ["HUB_TEST_PROXY"]
c.ConfigurableHTTPProxy.api_url = os.environ["HUB_TEST_PROXY_API_URL"]
c.JupyterHub.db_url = "sqlite:///:memory:"
c.JupyterHub.cookie_secret_file = "cookie_secret"
c.DockerSpawner.name_template = os.environ["HUB_TEST_NAMES"] + "-{username}"
