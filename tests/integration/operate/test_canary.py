"""On the host no secret gets out: not into files but those that hold it, nor into what Docker shows or a script says.

Rules: every place that can hold a secret holds one, and an engine writes them into its log; every exit code of the scripts is
met with all of them in reach: one that is new and has no case here fails.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from offline_kit.bundle.signature.keys import generate_key_pair
from tests.integration.trust.canaries import files_below, found_in
from tests.support import kit_fixtures, scripts_kit
from tests.support.kit_fixtures import Host
from tests.testbed.cache import REPOSITORY
from tests.testbed.dockerd import Dockerd

pytestmark = pytest.mark.root

SECRETS = {
    "key": "Canary1-default-key-0123456789",
    "client": "Canary2-key-of-a-client-0123456789",
    "grafana": "Canary3-word-of-Grafana",
    "proxy": "Canary4-word-of-a-proxy",
    "hub": "Canary5-token-of-a-hub",
}
# Where a secret belongs: what an operator or the services read it from. All but config/ are 0600.
HOLDERS = (
    ".env", ".state/keys", ".state/gateway/keys.conf", ".state/tls/server.key", ".state/gateway/tls/server.key",
    "config/models.json", ".state/env.carried",
)  # fmt: skip
CODES = re.findall(r"EXIT_([A-Z]+)=([0-9]+)", (REPOSITORY / "scripts/lib/core/common.sh").read_text())


class Watched:
    """A kit with secrets in it; whatever is run there is remembered. ``secrets``: name -> secret."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host, self.folder, self.kit, self.said = host, folder, host.kit, list[str]()
        self.secrets = dict(SECRETS)
        subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "90", *subject]
        pair = ["-out", folder / "mine.pem", "-keyout", folder / "mine.key"]
        subprocess.run([*map(str, command), *map(str, pair)], check=True, capture_output=True)
        self.secrets["private key"] = (folder / "mine.key").read_text().splitlines()[3]
        (folder / "env").write_text(
            f"VLLM_API_KEY={SECRETS['key']}\nGRAFANA_ADMIN_PASSWORD={SECRETS['grafana']}\nOFFLINE_KIT_HTTP_PORT=18978\n"
            "OFFLINE_KIT_HTTPS_PORT=18979\n"
        )
        generate_key_pair(folder / "other.key", folder / "other.pub", None)

    def run(self, script: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
        env = {**self.host.env, "HTTPS_PROXY": f"http://bob:{SECRETS['proxy']}@proxy.example:3128"}
        done = scripts_kit.run(self.kit, script, *map(str, words), env=env, prefix=self.host.dockerd.nsenter)
        self.said.append(done.stdout + done.stderr)
        return done

    def deploy(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return self.run("scripts/deploy.sh", *words)

    def fault(self, text: str) -> None:
        """How the chat engine misbehaves from its next start on; empty: not at all."""
        path = self.kit / "models/chat/fault"
        path.write_text(text)
        if not text:
            path.unlink()

    def docker(self) -> Iterator[tuple[str, bytes]]:
        """What Docker shows of the project to whoever may ask it."""
        docker = self.host.dockerd.docker
        for name in docker("ps", "--all", "--filter", self.host.project, "--format", "{{.Names}}").split():
            yield f"docker inspect {name}", docker("inspect", name).encode()
        for name in docker("ps", "--filter", self.host.project, "--format", "{{.Names}}").split():
            shown = self.host.dockerd.run(["docker", "top", name, "-eo", "pid,args"]).stdout
            # docs/security.md: what an operator writes into engine_args is on the engine's command line
            yield f"processes of {name}", shown.replace(SECRETS["hub"], "").encode()
        networks = docker("network", "ls", "--quiet", "--filter", self.host.project).split()
        yield "docker network inspect", docker("network", "inspect", *networks).encode()

    def leaks(self) -> list[str]:
        """Where a secret stands that does not belong there."""
        holders = [self.kit / name for name in HOLDERS]
        holders += (self.kit / "images/blobs/sha256").iterdir()  # what came with the bundle
        holders += [self.kit / "models/chat/fault"]
        own = [self.folder / name for name in ("env", "mine.key", "mine.pem", "other.key", "settings.tar.gz")]
        talk = [("what was said", "\n".join(self.said).encode())]
        return found_in([*files_below(self.folder, *own, *holders), *self.docker(), *talk], self.secrets)


@pytest.fixture(scope="module")
def loaded_wrong() -> list[subprocess.CompletedProcess[str]]:
    """What load_images.sh said of a damaged layer, before anything was installed."""
    return []


@pytest.fixture(scope="module")
def watched(
    tmp_path_factory: pytest.TempPathFactory, airgap: Dockerd, loaded_wrong: list[subprocess.CompletedProcess[str]]
) -> Iterator[Watched]:
    shelf = scripts_kit.make_shelf(tmp_path_factory.mktemp("shelf"))
    folder = tmp_path_factory.mktemp("canary")
    host = kit_fixtures.make_version(shelf, folder / "kit", airgap, name="canary", ports=18970)
    made = Watched(host, folder)
    try:
        for image in set(airgap.docker("images", "--quiet", "offline-kit-test/*").split()):  # other tests may have loaded it
            airgap.docker("rmi", "--force", image)
        layer = max((host.kit / "images/blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
        whole = layer.read_bytes()
        layer.write_bytes(whole[:1000])
        (host.kit / ".env").write_text((folder / "env").read_text())
        loaded_wrong.append(made.run("scripts/load_images.sh"))
        layer.write_bytes(whole)
        (host.kit / ".env").unlink()
        receipt = ("--json-receipt", folder / "receipt.json")
        done = made.run("install.sh", "--yes", "--env-file", folder / "env", "--tls", folder / "mine.pem", *receipt)
        assert done.returncode == 0, done.stderr
        (host.kit / ".state/keys").write_text(f"team {SECRETS['client']}\n")
        (host.kit / ".state/keys").chmod(0o600)
        kit_fixtures.edit_models(host, "chat", engine_args={"hf_token": SECRETS["hub"]})
        assert made.deploy("restart").returncode == 0, made.said[-1]
        yield made
    finally:
        host.clean()


def test_no_verb_and_no_file_of_a_running_kit(watched: Watched) -> None:
    for words in (
        ["status"], ["status", "--json"], ["smoke", "--json"], ["logs", "--tail", "50"], ["keys", "list"],
        ["attest", "--json", "--allow-edits", "--metrics", watched.folder / "kit.prom"],
        ["support-bundle", watched.folder / "support.tar.gz"], ["backup", watched.folder / "settings.tar.gz"],
    ):  # fmt: skip
        done = watched.deploy(*words)
        assert done.returncode == 0, (words, done.stderr)
    assert watched.run("scripts/preflight.sh", "--json").returncode == 0
    names = {name for name, _ in files_below(watched.folder)}
    state = ("receipt.json", "compose.yaml", "gateway/nginx.conf", "gateway/attest.prom", "proven")
    assert {"receipt.json", "kit.prom", "support.tar.gz", *(f"kit/.state/{name}" for name in state)} <= names
    with_key = {name for name in HOLDERS if (watched.kit / name).is_file()}
    assert {".env", ".state/keys", ".state/gateway/keys.conf", ".state/tls/server.key"} <= with_key
    for name in with_key - {"config/models.json"}:
        assert (watched.kit / name).stat().st_mode & 0o777 == 0o600, name
    assert (watched.folder / "settings.tar.gz").stat().st_mode & 0o777 == 0o600
    assert watched.leaks() == []


Case = Callable[[Watched], subprocess.CompletedProcess[str]]


def key_that_cannot_be_one(watched: Watched) -> subprocess.CompletedProcess[str]:
    settings = watched.kit / ".env"
    whole = settings.read_text()
    settings.write_text(whole.replace(SECRETS["key"], f"{SECRETS['key']} and more"))
    done = watched.deploy("restart")
    settings.write_text(whole)
    return done


def engine_that_tells_all(watched: Watched) -> subprocess.CompletedProcess[str]:
    """Its last words, which the scripts quote as the reason, are the secrets that it could have been told."""
    words = ", ".join(secret for name, secret in SECRETS.items() if name != "proxy")
    watched.fault(f"die:ValueError: {words}, http://bob:{SECRETS['proxy']}@proxy.example")
    done = watched.deploy("restart", "engine-chat")
    assert "ValueError" in done.stderr
    watched.deploy("status")
    watched.deploy("logs", "engine-chat")
    assert watched.deploy("support-bundle", watched.folder / "after.tar.gz").returncode == 0
    return done


def engine_that_answers_nothing(watched: Watched) -> subprocess.CompletedProcess[str]:
    watched.fault("silent")
    assert watched.deploy("restart", "engine-chat").returncode == 0
    return watched.deploy("smoke")


def stopped(watched: Watched) -> subprocess.CompletedProcess[str]:
    running = watched.host.begin("restart")
    time.sleep(1.5)
    os.killpg(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=120)
    watched.said.append(said)
    return subprocess.CompletedProcess([], running.returncode, "", said)


def changed(watched: Watched, script: str, *words: str) -> subprocess.CompletedProcess[str]:
    watched.fault("silent")  # a file that the list does not name
    done = watched.run(script, *words)
    watched.fault("")
    return done


# in this order: the last three leave services that are not well
CASES: dict[str, Case] = {
    "USAGE": lambda watched: watched.deploy("restart", "nobody"),
    "CONFIG": key_that_cannot_be_one,
    "PREFLIGHT": lambda watched: watched.run("scripts/preflight.sh", "--device", "nvidia", "--json"),
    "DIFFERS": lambda watched: changed(watched, "scripts/deploy.sh", "attest", "--json"),
    "DAMAGED": lambda watched: changed(watched, "scripts/verify.sh"),
    "UNTRUSTED": lambda watched: watched.run("install.sh", "--key", watched.folder / "other.pub"),
    "SMOKE": engine_that_answers_nothing,
    "START": engine_that_tells_all,
    "INTERRUPTED": stopped,
}


def test_every_exit_code_has_a_case() -> None:
    assert set(CASES) | {"LOAD"} == {name for name, _ in CODES} and len(CODES) == 10


@pytest.mark.parametrize("name", CASES)
def test_no_failure_tells_a_secret(watched: Watched, name: str) -> None:
    before = len(watched.said)
    done = CASES[name](watched)
    assert done.returncode == int(dict(CODES)[name]), done.stderr
    assert found_in([("what was said", "\n".join(watched.said[before:]).encode())], watched.secrets) == []


def test_an_image_that_is_not_loaded_and_what_all_failures_left(
    watched: Watched, loaded_wrong: list[subprocess.CompletedProcess[str]]
) -> None:
    assert [done.returncode for done in loaded_wrong] == [int(dict(CODES)["LOAD"])]
    assert watched.leaks() == []
