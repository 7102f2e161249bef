"""Build the image: `make image`, or another of its family: `make image VARIANT=slim`.

TORCH, LOCKED, BASE_IMAGE, WHEELS and IMAGE (the tag) are taken from the environment where they
are set.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from launcher import __version__
from tools.engine import NoEngineError, docker_environment, find_docker
from tools.variants import DEFAULT, VARIANTS

PROJECT = Path(__file__).parents[1]
NAME = "pytorch-cuda"
TAG = f"{NAME}:{VARIANTS[DEFAULT].tag}"
# Build arguments for users to set; the Dockerfile explains them.
CHOSEN = ("TORCH", "TORCH_INDEX", "FLAVOR", "LOCKED", "BASE_IMAGE", "WHEELS")
# What this machine trusts, for a build behind a proxy that inspects TLS: where people name their CA
# bundle, and Debian's own place for it.
CA_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
SYSTEM_CA = "/etc/ssl/certs/ca-certificates.crt"
# Docker knows these build arguments by itself and keeps them out of the image.
PROXY = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


def build_command(
    docker: str, *, tag: str, arguments: Mapping[str, str], environ: Mapping[str, str]
) -> list[str]:
    """Return the `docker build` command for these build arguments on this machine."""
    command = [docker, "build", "--tag", tag]
    for name, value in {**_labels(), **arguments}.items():
        command += ["--build-arg", f"{name}={value}"]
    for name in PROXY:
        if environ.get(name):
            command += ["--build-arg", name]
    if bundle := _ca_bundle(environ):
        command += ["--secret", f"id=ca,src={bundle}"]
    return [*command, str(PROJECT)]


def build(docker: str, *, tag: str = TAG, arguments: Mapping[str, str] | None = None) -> None:
    """Build the project's image.  Raises CalledProcessError; the build's output says why."""
    command = build_command(docker, tag=tag, arguments=arguments or {}, environ=os.environ)
    subprocess.run(command, env=docker_environment(), check=True)


def chosen_arguments() -> dict[str, str]:
    """Return the build arguments that the user set in the environment."""
    return {name: os.environ[name] for name in CHOSEN if name in os.environ}


def default_torch() -> str:
    """Return the requirements that the Dockerfile installs as PyTorch."""
    dockerfile = (PROJECT / "Dockerfile").read_text()
    found = re.search(r'^ARG TORCH="(.+)"$', dockerfile, re.MULTILINE)
    assert found, "the Dockerfile has no ARG TORCH"
    return found[1]


def _labels() -> dict[str, str]:
    labels = {"VERSION": __version__}
    revision, created = _git("rev-parse", "HEAD"), _git("log", "-1", "--format=%ct")
    if revision and created:
        # The commit's time, not the build's: the same source gives the same labels.
        moment = datetime.fromtimestamp(int(created), tz=timezone.utc)
        labels |= {"REVISION": revision, "CREATED": moment.isoformat()}
    return labels


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=PROJECT, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:  # a tarball, and no git
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _ca_bundle(environ: Mapping[str, str]) -> str | None:
    places = [*(environ.get(name) for name in CA_VARIABLES), SYSTEM_CA]
    return next((path for path in places if path and Path(path).is_file()), None)


def main() -> int:
    name = os.environ.get("VARIANT", DEFAULT)
    if name not in VARIANTS:
        print(f"no variant {name}: there are {', '.join(VARIANTS)}", file=sys.stderr)
        return 2
    variant = VARIANTS[name]
    tag = os.environ.get("IMAGE", f"{NAME}:{variant.tag}")
    try:
        build(find_docker(), tag=tag, arguments={**variant.arguments, **chosen_arguments()})
    except NoEngineError as err:
        print(f"cannot build the image: {err}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as err:
        return err.returncode
    print(f"built {tag}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
