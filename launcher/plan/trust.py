"""Let the user's programs trust a company's certificate authorities.  Pure.

Each kind of program has a list of its own, or asks for it by a variable of its own: OpenSSL and
Python's ssl, requests (and conda), curl, pip, git, Node.js.
"""

from __future__ import annotations

from collections.abc import Mapping

from launcher.model import run_files
from launcher.model.host import CA_CERTIFICATES, Host
from launcher.model.plan import EnvVar
from launcher.settings.table import Settings

VARIABLES = (
    "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
)  # fmt: skip


def ca_sources(host: Host, settings: Settings) -> tuple[str, ...]:
    """Return the files and folders of certificates to trust besides the system's.

    A plain machine's own list is its administrator's.
    """
    if not host.image:
        return ()
    mounted = (CA_CERTIFICATES,) if host.ca_certificates else ()
    return (*mounted, *((settings.ca_certs,) if settings.ca_certs else ()))


def plan_trust(
    sources: tuple[str, ...], run_dir: str, environ: Mapping[str, str]
) -> tuple[EnvVar, ...]:
    """Return the variables that name the bundle; what the user set is kept.

    Args:
        sources: as `ca_sources` returns them.
    """
    why = f"the system's authorities, and those of {', '.join(sources)}"
    bundle = f"{run_dir}/{run_files.CA_BUNDLE}"
    return tuple(
        EnvVar(name, bundle, why) for name in VARIABLES if sources and not environ.get(name)
    )
