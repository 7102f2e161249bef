"""Make `debian:bookworm-slim` without an image registry: debootstrap, cleaned, imported.

The Dockerfile's default base is that tag, so the tests build the very file that users build.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from testing.container.engine import CACHE, Docker, EngineError

TAG = "debian:bookworm-slim"
SUITE = "bookworm"
# What this machine was told to trust beside the public CAs: pip in a container needs the same.
LOCAL_CAS = Path("/usr/local/share/ca-certificates")
# With it come the updates and the security fixes, as in Debian's own image.
SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
EMPTIED = ("var/cache/apt", "var/lib/apt/lists", "var/log")
LABEL = "tests.recipe"


def provide(docker: Docker) -> None:
    """Import the base image unless the engine has the one this recipe makes."""
    recipe = _recipe()
    wanted = f'{{{{index .Config.Labels "{LABEL}"}}}}'
    found = docker("image", "inspect", "--format", wanted, TAG, check=False)
    if found.stdout.strip() == recipe:
        return
    archive = CACHE / f"{SUITE}-{recipe}.tar"
    if not archive.exists():
        for outdated in CACHE.glob(f"{SUITE}-*.tar"):
            outdated.unlink()
        _bootstrap(archive)
    docker("import", "--change", f"LABEL {LABEL}={recipe}", str(archive), TAG, timeout=300)


def _recipe() -> str:
    """Return a digest of everything the image is made from, Debian's packages apart."""
    inputs = [Path(__file__), *_local_cas(), *_sources()]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in inputs)).hexdigest()[:16]


def _local_cas() -> list[Path]:
    return sorted(LOCAL_CAS.glob("**/*.crt"))


def _sources() -> list[Path]:
    """Return this machine's list of package sources where it is the same Debian."""
    same = platform.freedesktop_os_release().get("VERSION_CODENAME") == SUITE
    return [SOURCES] if same and SOURCES.exists() else []


def _bootstrap(archive: Path) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="bootstrap-") as folder:
        root = Path(folder, "root")
        _run("debootstrap", "--variant=minbase", SUITE, str(root))
        _clean(root)
        for certificate in _local_cas():
            shutil.copy(certificate, root / "usr/local/share/ca-certificates")
        for sources in _sources():
            shutil.copy(sources, root / "etc/apt/sources.list.d")
            (root / "etc/apt/sources.list").unlink()
        partial = Path(folder, "image.tar")
        _run("tar", "--directory", str(root), "--create", "--file", str(partial), ".")
        partial.replace(archive)


def _clean(root: Path) -> None:
    """Take away what debootstrap downloaded, and what it copied from this machine."""
    for folder in EMPTIED:
        shutil.rmtree(root / folder)
        (root / folder).mkdir()
    (root / "etc/hostname").write_text("localhost\n")
    (root / "etc/resolv.conf").write_text("")
    (root / "usr/local/share/ca-certificates").mkdir(parents=True, exist_ok=True)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise EngineError(f"{' '.join(command)}: exit {done.returncode}\n{tail}")
