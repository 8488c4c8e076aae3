"""A certificate authority of a cluster, its certificates, and the files by which its parts log in."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

# Who logs in: file -> group and name, as Kubernetes reads them from a certificate.
USERS = {
    "admin": ("system:masters", "admin"),
    "kubelet": ("system:nodes", "system:node:node1"),
    "controllers": ("", "system:kube-controller-manager"),
    "scheduler": ("", "system:kube-scheduler"),
    "proxy": ("", "system:kube-proxy"),
}
_DAYS = 2


class Authority:
    """Writes keys and certificates into ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "testbed")])
        self._write("ca", self._key, self._sign(self._name, self._key, [], authority=True))

    def issue(self, name: str, group: str, user: str, hosts: Sequence[str] = ()) -> None:
        """``name.crt`` and ``name.key``, for ``hosts`` where it serves."""
        parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
        subject = x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, user)])
        key = ec.generate_private_key(ec.SECP256R1())
        self._write(name, key, self._sign(subject, key, hosts))

    def key_pair(self, name: str) -> None:
        """``name.key`` and ``name.pub``, for tokens."""
        key = ec.generate_private_key(ec.SECP256R1())
        self._write(name, key)
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (self._folder / f"{name}.pub").write_bytes(public)

    def login(self, name: str, server: str) -> None:
        """``name.conf``: how the owner of ``name.crt`` asks ``server``."""

        def text(file: str) -> str:
            return base64.b64encode((self._folder / file).read_bytes()).decode()

        user = {"client-certificate-data": text(f"{name}.crt"), "client-key-data": text(f"{name}.key")}
        data = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": server, "certificate-authority-data": text("ca.crt")}}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        }
        (self._folder / f"{name}.conf").write_text(json.dumps(data))

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, hosts: Sequence[str], *, authority: bool = False
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=_DAYS))
        builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_name(host) for host in hosts]), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _write(self, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate | None = None) -> None:
        private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        (self._folder / f"{name}.key").write_bytes(private)
        if certificate is not None:
            (self._folder / f"{name}.crt").write_bytes(certificate.public_bytes(Encoding.PEM))


def _name(host: str) -> x509.GeneralName:
    return x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host)


def write(folder: Path, address: str, service: str) -> None:
    """All of a cluster whose API server listens on ``address`` and is the Service ``service``."""
    authority = Authority(folder)
    names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "127.0.0.1", address, service]
    authority.issue("apiserver", "", "kube-apiserver", names)
    authority.key_pair("tokens")
    for name, (group, user) in USERS.items():
        authority.issue(name, group, user, ["node1", address] if name == "kubelet" else [])
        authority.login(name, f"https://{address}:6443")
