"""install.sh --tls: a certificate made here or given, and plain ports that only this host reaches."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import kit_fixtures, scripts_kit
from tests.support.kit_fixtures import Host, settings
from tests.testbed.dockerd import Dockerd

PORTS = {"OFFLINE_KIT_HTTP_PORT": 18896, "OFFLINE_KIT_HTTPS_PORT": 18897}
ASK = """
import ssl, sys, urllib.request
trust = ssl.create_default_context(cafile=sys.argv[2])
request = urllib.request.Request(sys.argv[1], headers={"Authorization": "Bearer " + sys.stdin.readline().strip()})
print(urllib.request.urlopen(request, timeout=20, context=trust).read().decode())
"""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> scripts_kit.Shelf:
    return scripts_kit.make_shelf(tmp_path_factory.mktemp("shelf"))


@pytest.fixture
def host(shelf: scripts_kit.Shelf, tmp_path: Path, airgap: Dockerd) -> Iterator[Host]:
    made = kit_fixtures.make_version(shelf, tmp_path / "kit", airgap, name="tls", ports=18890)
    example = (made.kit / ".env.example").read_text()
    for name, port in PORTS.items():
        example = example.replace(f"{name}={80 if 'HTTP_' in name else 443}", f"{name}={port}")
    scripts_kit.rewrite(made.kit, ".env.example", example.encode())
    yield made
    made.clean()


def ask(host: Host, name: str = "localhost", path: str = "/v1/models") -> str:
    """The models, or another path, asked for by HTTPS with the kit's certificate as the only one that is trusted."""
    url = f"https://{name}:{PORTS['OFFLINE_KIT_HTTPS_PORT']}{path}"
    argv = [*host.dockerd.nsenter, sys.executable, "-c", ASK, url, str(host.kit / ".state/tls/server.crt")]
    return subprocess.run(argv, input=f"{host.key}\n", capture_output=True, text=True, check=True, timeout=60).stdout


def published(host: Host) -> set[tuple[str, str]]:
    """(address, port) of everything that the gateway publishes."""
    shown = json.loads(host.dockerd.docker("inspect", "--format", "{{json .NetworkSettings.Ports}}", "tls-gateway-1"))
    return {(each["HostIp"], each["HostPort"]) for bound in shown.values() for each in bound or ()}


def test_a_certificate_that_is_made_here_and_no_plain_port(host: Host) -> None:
    done = host.run("install.sh", "--yes", "--tls", "self-signed", "--tls-only")
    assert done.returncode == 0, done.stderr
    made = settings(host.kit / ".env")
    assert (made["OFFLINE_KIT_WITH"], made["OFFLINE_KIT_TLS_ONLY"]) == ("nginx", "yes")
    assert (host.kit / ".state/tls/server.key").stat().st_mode & 0o777 == 0o600
    assert {port for address, port in published(host) if address != "127.0.0.1"} == {str(PORTS["OFFLINE_KIT_HTTPS_PORT"])}
    assert len(published(host)) == 6
    assert "tiny-chat" in ask(host) and "tiny-chat" in ask(host, "127.0.0.1")
    assert ask(host, path="/").strip() == (host.kit / "deploy/page/index.html").read_text().strip(), "the page, from the kit"
    assert host.deploy("status", "--json").returncode == 0, "this host still asks the plain port"
    before = (host.kit / ".state/tls/server.crt").read_bytes()
    again = host.run("install.sh", "--yes", "--tls", "self-signed")
    assert again.returncode == 0 and (host.kit / ".state/tls/server.crt").read_bytes() == before
    assert published(host) == published(host)


def test_certificates_that_are_given(host: Host, tmp_path: Path) -> None:
    files = [tmp_path / "mine.pem", tmp_path / "mine.key"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3", "-subj", "/CN=x", "-addext"]
    for _ in range(2):
        where = ["subjectAltName=DNS:localhost", "-out", str(files[0]), "-keyout", str(files[1])]
        subprocess.run([*command, *where], check=True, capture_output=True)
        other, key = (tmp_path / "other.key"), files[1].read_text()
        if not other.exists():
            other.write_text(key)
    files[1].write_text(other.read_text())
    wrong = host.run("install.sh", "--yes", "--tls", str(files[0]))
    assert (
        wrong.returncode == 3 and "cannot be used with server.key: " in wrong.stderr and "key values mismatch" in wrong.stderr
    )
    assert not (host.kit / ".state/compose.yaml").exists()
    files[1].unlink()
    missing = host.run("install.sh", "--yes", "--tls", str(files[0]))
    assert missing.returncode == 3 and "there is no key in" in missing.stderr
    files[0].write_text(files[0].read_text() + key)
    done = host.run("install.sh", "--yes", "--tls", str(files[0]))
    assert done.returncode == 0, done.stderr
    assert "tiny-chat" in ask(host) and key not in done.stderr
    assert ("0.0.0.0", str(PORTS["OFFLINE_KIT_HTTP_PORT"])) in published(host)
