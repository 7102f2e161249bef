"""Jupyter's certificate for https: the user's own pair, or a self-signed one kept in the state."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

from launcher.box import files
from launcher.box.kept import Kept
from launcher.model import state_files
from launcher.model.errors import BadSetting
from launcher.model.plan import Certificate, Secret
from launcher.paths import folder
from launcher.process.fork import write_all
from launcher.settings.table import Settings

_VALID = timedelta(days=825)  # longer, and Apple's clients refuse it (support.apple.com/103769)
_RENEWED_BEFORE_ITS_END = timedelta(days=30)
_FIRST_OF_CHAIN = "-----BEGIN CERTIFICATE-----"


def provide(settings: Settings, mend: bool = True) -> tuple[Certificate | None, list[str]]:
    """Return the certificate that the settings ask for, None for http; and remarks on what is kept.

    Args:
        mend: make another where the one that is kept cannot be used.

    Raises BadSetting where a pair cannot be used, or the state directory cannot be written.
    """
    if settings.tls_cert or settings.tls_key:
        return _pair(settings.tls_cert, settings.tls_key), []
    if not settings.tls:
        return None, []
    try:
        with Kept(settings.state_dir, mend) as kept:
            return _self_signed(kept), kept.remarks
    except OSError as err:
        raise files.cannot_write(settings.state_dir, err) from err


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


def _self_signed(kept: Kept) -> Certificate:
    """Return the certificate that is kept, made at first use and again before it ends."""
    text = (kept.read(state_files.CERTIFICATE) or b"").decode("ascii", "replace")
    made = _take_apart(text)
    if made and _lasts(made.chain):
        return made
    if text and not made:
        kept.put_aside(state_files.CERTIFICATE, "it is no certificate with its private key")
    text = _make()
    kept.folder.write(state_files.CERTIFICATE, text.encode(), 0o600)
    made = _take_apart(text)
    assert made
    return made


def _take_apart(text: str) -> Certificate | None:
    """Return the certificate and its key; None where they are no pair."""
    key, begin, chain = text.partition(_FIRST_OF_CHAIN)
    if not begin or _fault(begin + chain, key):
        return None
    return Certificate(begin + chain, Secret(key), self_signed=True)


def _lasts(chain: str) -> bool:
    from cryptography import x509

    end = x509.load_pem_x509_certificate(chain.encode()).not_valid_after_utc
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
    hosts = dict.fromkeys(("localhost", *filter(_can_be_certified, (socket.gethostname(),))))
    names = [x509.DNSName(each) for each in hosts]
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


def _can_be_certified(host: str) -> bool:
    """Return whether a certificate may hold the name (RFC 5280): `--hostname` may be anything."""
    return host.isascii() and bool(host)
