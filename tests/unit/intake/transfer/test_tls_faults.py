"""Servers whose TLS is wrong: told as what it is, at once, with a remedy that is true."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from offline_kit.common.errors import NetworkError
from offline_kit.intake.transfer.http_client import HttpClient
from tests.support.intake_samples import QUICK

LOOPBACK = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


def certificate(path: Path, start: int = -1, end: int = 1, name: x509.GeneralName = LOOPBACK) -> Path:
    """A certificate that its own authority signed, with its key in one file; valid from ``start`` to ``end``, in days."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.timezone.utc)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    made = x509.CertificateBuilder(subject, subject, key.public_key(), 1)
    made = made.not_valid_before(now + datetime.timedelta(days=start)).not_valid_after(now + datetime.timedelta(days=end))
    made = made.add_extension(x509.SubjectAlternativeName([name]), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(key.private_bytes(*form) + made.sign(key, hashes.SHA256()).public_bytes(form[0]))
    return path


def old(tls: ssl.SSLContext) -> None:
    tls.set_ciphers("ALL:@SECLEVEL=0")
    tls.minimum_version, tls.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1


def wants_a_certificate(tls: ssl.SSLContext) -> None:
    tls.maximum_version, tls.verify_mode = ssl.TLSVersion.TLSv1_2, ssl.CERT_REQUIRED


@contextlib.contextmanager
def server(tls: ssl.SSLContext | None) -> Iterator[tuple[str, list[object]]]:
    """URL of a server that speaks ``tls``, or plain HTTP, and the clients that came."""
    came: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                with contextlib.suppress(OSError), listening.accept()[0] as client:
                    came.append(client)
                    if tls is None:
                        client.recv(1000)
                        client.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                    else:
                        tls.wrap_socket(client, server_side=True).close()
                if listening.fileno() < 0:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"https://127.0.0.1:{listening.getsockname()[1]}/", came
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            listening.close()
            thread.join()


CERTIFICATES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "of tomorrow": (lambda path: certificate(path, start=1, end=2), "not yet valid -> is the clock of this machine right"),
    "of yesterday": (lambda path: certificate(path, start=-2, end=-1), "has expired -> is the clock .* has to renew it"),
    "of another name": (lambda path: certificate(path, name=x509.DNSName("hub.test")), "not valid for .* -> use a name"),
}


@pytest.mark.parametrize("kind", CERTIFICATES)
def test_a_certificate_that_is_trusted_and_wrong(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, told = CERTIFICATES[kind]
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(make(tmp_path / "c.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "c.pem"))
    expected = pytest.raises(NetworkError, match=f"certificate is not trusted: .*{told}")
    with server(tls) as (url, came), HttpClient(QUICK) as client, expected as caught:
        client.read(url)
    assert len(came) == 1 and "company" not in str(caught.value) and "_ssl.c" not in str(caught.value)


HANDSHAKES: dict[str, tuple[Callable[[ssl.SSLContext], None] | None, str]] = {
    "plain HTTP": (None, "speaks no TLS, most likely plain HTTP -> say 'insecure: true'"),
    "TLS 1.1": (old, "speaks only TLS that is too old"),
    "a certificate of clients": (wants_a_certificate, "ends the handshake of TLS: .* or wants a certificate of its clients"),
}


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")  # old ones are what is tested
@pytest.mark.parametrize("kind", HANDSHAKES)
def test_a_handshake_that_will_never_do(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change, told = HANDSHAKES[kind]
    tls = None
    if change is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate(tmp_path / "c.pem"))
        change(tls)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate(tmp_path / "c.pem") if tls is None else tmp_path / "c.pem"))
    with server(tls) as (url, came), HttpClient(QUICK) as client, pytest.raises(NetworkError, match=told):
        client.read(url)
    assert len(came) == 1
