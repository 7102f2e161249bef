"""The certificate authorities that the user's programs trust: the system's, and those given."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from launcher.box import files
from launcher.model import run_files
from launcher.model.errors import BadSetting
from launcher.model.plan import RenderedFile
from launcher.paths.folder import read_text

_SYSTEM = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
_ENDINGS = (".crt", ".pem", ".cer")
_BEGIN = "-----BEGIN CERTIFICATE-----"


def write_ca_bundle(sources: Sequence[str], run_dir: str) -> None:
    """Write the bundle where there is anything to add.

    Args:
        sources: files, or folders of files that end as certificates do.

    Raises BadSetting, with the file's name, where one cannot be read or is no certificate in PEM.
    """
    if not sources:
        return
    system = next((path for path in _SYSTEM if os.path.exists(path)), None)
    texts = [read_text(system)] if system else []
    texts += [_certificates(path) for source in sources for path in _files(source)]
    bundle = "".join(f"{text.rstrip()}\n" for text in texts)
    files.write([RenderedFile(f"{run_dir}/{run_files.CA_BUNDLE}", bundle, 0o644, -1, -1)])


def _files(source: str) -> Iterator[str]:
    try:
        names = sorted(os.listdir(source))
    except NotADirectoryError:
        yield source
        return
    except OSError as err:
        raise _unusable(source, f"cannot read it: {err.strerror}") from err
    yield from (f"{source}/{name}" for name in names if name.lower().endswith(_ENDINGS))


def _certificates(path: str) -> str:
    try:
        text = read_text(path)
    except OSError as err:
        raise _unusable(path, f"cannot read it: {err.strerror or err}") from err
    if _BEGIN not in text:
        raise _unusable(path, "no certificate in PEM; of DER: openssl x509 -inform der -in FILE")
    return text


def _unusable(path: str, why: str) -> BadSetting:
    return BadSetting(f"LAUNCHER_CA_CERTS: certificate authority {path}: {why}")
