"""Jupyter's certificate: made once, renewed in time, or the user's own pair."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509

from launcher.box import certificate
from launcher.model.errors import BadSetting
from launcher.model.plan import Address, Certificate, Jupyter, Secret
from launcher.plan.watch import jupyter_door
from launcher.watch import ready
from testing.machines import settings


def provide(state: Path, **environ: str) -> Certificate:
    made, _ = certificate.provide(settings({"LAUNCHER_STATE_DIR": str(state), **environ}))
    assert made
    return made


def test_without_a_wish_there_is_none(tmp_path: Path) -> None:
    assert certificate.provide(settings({"LAUNCHER_STATE_DIR": str(tmp_path)})) == (None, [])
    assert not list(tmp_path.iterdir())


def test_one_is_made_and_kept(tmp_path: Path) -> None:
    made = provide(tmp_path, GEN_CERT="yes")
    assert made.self_signed
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert provide(tmp_path, LAUNCHER_TLS="on") == made
    names = x509.load_pem_x509_certificate(made.chain.encode()).extensions
    alternative = names.get_extension_for_class(x509.SubjectAlternativeName).value
    assert alternative.get_values_for_type(x509.DNSName)[:2] == ["localhost", socket.gethostname()]


@pytest.mark.parametrize("text", ["", "garbage", "-----BEGIN CERTIFICATE-----\nx"])
def test_what_is_kept_and_is_none_is_made_again(tmp_path: Path, text: str) -> None:
    (tmp_path / "jupyter_tls.pem").write_text(text)
    assert "PRIVATE KEY" in provide(tmp_path, GEN_CERT="yes").key.reveal()


def test_one_that_ends_soon_is_made_again(tmp_path: Path) -> None:
    make_pair(tmp_path / "old", days=7)
    old = (tmp_path / "old.key").read_text() + (tmp_path / "old.crt").read_text()
    (tmp_path / "jupyter_tls.pem").write_text(old)
    made = provide(tmp_path, GEN_CERT="yes")
    end = x509.load_pem_x509_certificate(made.chain.encode()).not_valid_after_utc
    assert end - datetime.now(timezone.utc) > timedelta(days=365)


# --- a pair of the user's --------------------------------------------------------------------


def make_pair(path: Path, *options: str, days: int = 30) -> None:
    keys = options or ("-nodes",)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", *keys, "-subj", "/CN=box",
         "-days", str(days), "-keyout", f"{path}.key", "-out", f"{path}.crt"],
        check=True, capture_output=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    for name in ("mine", "other"):
        make_pair(folder / name)
    make_pair(folder / "locked", "-passout", "pass:secret")
    (folder / "latin.key").write_bytes(b"\xff")
    return folder


def test_the_users_pair_wins_over_one_of_our_making(pairs: Path, tmp_path: Path) -> None:
    pair = {"LAUNCHER_TLS_CERT": f"{pairs}/mine.crt", "LAUNCHER_TLS_KEY": f"{pairs}/mine.key"}
    taken = provide(tmp_path, GEN_CERT="yes", **pair)
    assert taken.chain == (pairs / "mine.crt").read_text()
    assert taken.key.reveal() == (pairs / "mine.key").read_text()
    assert not taken.self_signed


@pytest.mark.parametrize(
    ("cert", "key", "said"),
    [
        ("mine.crt", None, "LAUNCHER_TLS_KEY is not set"),
        (None, "mine.key", "LAUNCHER_TLS_CERT is not set"),
        ("mine.crt", "none.key", "LAUNCHER_TLS_KEY=.*cannot read it"),
        ("mine.crt", "other.key", "expected a certificate and its private key"),
        ("mine.key", "mine.crt", "expected a certificate and its private key"),
        ("locked.crt", "locked.key", "the key not encrypted"),
        ("mine.crt", "latin.key", "LAUNCHER_TLS_KEY=.*expected a PEM file"),
    ],
)
def test_a_pair_that_cannot_be_used_is_named(pairs: Path, tmp_path, cert, key, said) -> None:
    names = {"LAUNCHER_TLS_CERT": cert, "LAUNCHER_TLS_KEY": key}
    with pytest.raises(BadSetting, match=said):
        provide(tmp_path, **{name: f"{pairs}/{file}" for name, file in names.items() if file})


# --- readiness -------------------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "is_ready"), [(b"200 OK", True), (b"403 Forbidden", False)])
def test_readiness_speaks_tls(tmp_path: Path, answer: bytes, is_ready: bool) -> None:
    made = provide(tmp_path, GEN_CERT="yes")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "jupyter_tls.pem")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            plain, _ = server.accept()
            with context.wrap_socket(plain, server_side=True) as connection:
                assert connection.recv(9999).startswith(b"GET /x/api/status HTTP")
                connection.sendall(b"HTTP/1.1 " + answer + b"\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        port = server.getsockname()[1]
        address = Address("127.0.0.1", port, port, True)
        jupyter = Jupyter(port, "127.0.0.1", Secret("t"), address, "/x/", certificate=made)
        assert ready.probe_jupyter(jupyter_door(jupyter)).ready is is_ready
