"""Jupyter's certificate for https: the user's own pair, or a self-signed one kept in the state."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

from launcher.box import files
from launcher.model import state_files
from launcher.model.errors import BadSetting
from launcher.model.plan import Certificate, RenderedFile, Secret
from launcher.paths import folder
from launcher.process.fork import write_all
from launcher.settings.table import Settings

_VALID = timedelta(days=825)  # longer, and Apple's clients refuse it (support.apple.com/103769)
_RENEWED_BEFORE_ITS_END = timedelta(days=30)
_FIRST_OF_CHAIN = "-----BEGIN CERTIFICATE-----"


def provide(settings: Settings) -> Certificate | None:
    """Return the certificate that the settings ask for, or None for http.

    Raises BadSetting where a pair cannot be used.
    """
    if settings.tls_cert or settings.tls_key:
        return _pair(settings.tls_cert, settings.tls_key)
    return _self_signed(f"{settings.state_dir}/{state_files.CERTIFICATE}") if settings.tls else None


def _pair(chain: str | None, key: str | None) -> Certificate:
    if chain is None or key is None:
        missing = "LAUNCHER_TLS_KEY" if chain else "LAUNCHER_TLS_CERT"
        raise BadSetting(f"{missing} is not set: https needs a certificate and its private key")
    texts = [_read("LAUNCHER_TLS_CERT", chain), _read("LAUNCHER_TLS_KEY", key)]
    if fault := _fault(*texts):
        raise BadSetting(
            f"LAUNCHER_TLS_CERT={chain!r} and LAUNCHER_TLS_KEY={key!r}: expected a certificate "
            f"and its private key, both PEM, the key not encrypted ({fault})"
        )
    return Certificate(texts[0], Secret(texts[1]), self_signed=False)


def _fault(chain: str, key: str) -> str | None:
    """Return why the two are no pair: what was read is tried, and not what is there by then."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with _in_memory(chain) as of_chain, _in_memory(key) as of_key:
        try:
            context.load_cert_chain(of_chain, of_key, password="")  # never asks a terminal for one
        except (ssl.SSLError, OSError, ValueError) as err:
            return getattr(err, "reason", None) or str(err)
    return None


@contextlib.contextmanager
def _in_memory(text: str) -> Iterator[str]:
    """Yield the path of a file with this text, for what reads files only."""
    fd = os.memfd_create("pem")
    try:
        write_all(fd, text.encode())
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _read(name: str, path: str) -> str:
    try:
        return folder.read_file(path).decode("ascii")
    except OSError as err:
        raise BadSetting(f"{name}={path!r}: cannot read it: {err.strerror}") from err
    except UnicodeError as err:
        raise BadSetting(f"{name}={path!r}: expected a PEM file") from err


def _self_signed(path: str) -> Certificate:
    """Return the certificate in `path`, made at first use and again before it ends."""
    text = ""
    if os.path.lexists(path):
        text = _read("LAUNCHER_STATE_DIR", path)
    if not _holds(text):
        text = _make()
        files.write([RenderedFile(path, text, 0o600, -1, -1)])
    key, begin, chain = text.partition(_FIRST_OF_CHAIN)
    return Certificate(begin + chain, Secret(key), self_signed=True)


def _holds(text: str) -> bool:
    """Say whether the kept certificate is whole and good for a while."""
    from cryptography import x509

    try:
        end = x509.load_pem_x509_certificate(text.encode()).not_valid_after_utc
    except ValueError:
        return False
    return end - datetime.now(timezone.utc) > _RENEWED_BEFORE_ITS_END


def _make() -> str:
    """Return a private key and its self-signed certificate, as PEM."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "JupyterLab")])
    names = [x509.DNSName(each) for each in dict.fromkeys(("localhost", socket.gethostname()))]
    addresses = [x509.IPAddress(ipaddress.ip_address(each)) for each in ("127.0.0.1", "::1")]
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # a laptop's clock may be behind
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName([*names, *addresses]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return (private + certificate.public_bytes(serialization.Encoding.PEM)).decode()
