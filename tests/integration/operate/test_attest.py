"""deploy.sh attest on running services: clean, and each way in which what serves is no longer what was approved, by name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from offline_kit.bundle.signature.keys import generate_key_pair
from offline_kit.bundle.signature.sign import sign
from offline_kit.bundle.signature.signers import open_signer
from tests.support import kit_fixtures, scripts_kit
from tests.support.kit_fixtures import Host
from tests.testbed.dockerd import Dockerd

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, airgap: Dockerd) -> Iterator[Host]:
    """An installed kit; each test leaves it as it was."""
    shelf = scripts_kit.make_shelf(tmp_path_factory.mktemp("shelf"))
    made = kit_fixtures.make_version(shelf, tmp_path_factory.mktemp("attest") / "a kit", airgap, name="attest", ports=18840)
    done = made.run("install.sh", "--yes")
    assert done.returncode == 0, done.stderr
    yield made
    made.clean()


def attest(host: Host, *words: str) -> tuple[int, Any]:
    """Exit code, and the answer in JSON."""
    done = host.deploy("attest", "--json", *words)
    assert done.stdout.startswith("{"), done.stderr
    return done.returncode, json.loads(done.stdout)


def failures(host: Host, *words: str) -> dict[str, str]:
    """Check -> what it found, of a kit that is not what was approved."""
    code, told = attest(host, *words)
    found = {row["check"]: row["found"] for row in told["findings"] if row["level"] == "FAIL"}
    assert (code, told["approved"]) == (8, False) and found
    return found


def test_what_was_installed_is_what_serves(host: Host, tmp_path: Path) -> None:
    before = sorted(path for path in host.kit.rglob("*") if path.name not in ("proven", "lock"))
    metrics = tmp_path / "kit.prom"
    code, told = attest(host, "--metrics", str(metrics))
    assert (code, told["approved"], told["full"], told["kit"]) == (0, True, False, "attest")
    rows = [(row["level"], row["check"]) for row in told["findings"]]
    assert rows.count(("OK", "service")) == 4 and rows.count(("OK", "image")) == 2
    assert ("OK", "weights") in rows and [row for row in rows if row[0] != "OK"] == [("WARN", "signature")]
    assert 'offline_kit_approved{kit="attest",version="v1.0.0"} 1' in metrics.read_text().splitlines()
    of_prometheus = host.kit / ".state/gateway/attest.prom"
    assert of_prometheus.read_text().splitlines()[:2] == metrics.read_text().splitlines()[:2]
    assert of_prometheus.stat().st_mode & 0o777 == 0o644
    code, told = attest(host, "--full")
    assert code == 0 and told["full"] and any("0 proven earlier" in row["found"] for row in told["findings"])
    assert sorted(path for path in host.kit.rglob("*") if path.name not in ("proven", "lock")) == before
    table = host.deploy("attest")
    assert table.returncode == 0 and table.stdout.count("OK ") >= 8


@pytest.mark.parametrize("words", [["--full"], []])
def test_one_byte_of_a_weight(host: Host, words: list[str]) -> None:
    weight = max((host.kit / "models/chat").iterdir(), key=lambda path: path.stat().st_size)
    whole = weight.read_bytes()
    weight.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    try:
        assert failures(host, *words) == {"weights": f"changed: models/chat/{weight.name}"}
    finally:
        weight.write_bytes(whole)
    assert attest(host)[0] == 0


def test_another_image_under_the_same_tag(host: Host) -> None:
    docker = host.dockerd.docker
    facts = kit_fixtures.settings(host.kit / "deploy/kit.env")
    tag, other = facts["KIT_IMAGE_gateway"], facts["KIT_IMAGE_engine"]
    right = docker("image", "inspect", "--format", "{{.Id}}", tag).strip()
    docker("tag", other, tag)
    try:
        found = failures(host)
        assert set(found) == {"image"} and found["image"].startswith(f"gateway: {tag} is another image: its ID is sha256:")
        # A container that was made from it meanwhile is named too.
        docker("run", "--detach", "--name", "attest-stray", "--label", "com.docker.compose.project=attest", "--label",
               "com.docker.compose.service=gateway", "--entrypoint", "sleep", tag, "60")  # fmt: skip
        assert (
            f"gateway runs {docker('image', 'inspect', '--format', '{{.Id}}', other).strip()}, and the lock"
            in failures(host)["service"]
        )
    finally:
        docker("rm", "--force", "attest-stray")
        docker("tag", right, tag)
    assert attest(host)[0] == 0


def test_edits_of_configuration(host: Host) -> None:
    models = host.kit / "config/models.json"
    compose = host.kit / ".state/compose.yaml"
    approved = host.kit / "deploy/compose.yaml"
    texts = {path: path.read_bytes() for path in (models, compose, approved)}
    try:
        models.write_bytes(texts[models] + b"\n")
        assert failures(host) == {"configuration": "changed: config/models.json (an edit since the installation)"}
        code, told = attest(host, "--allow-edits")
        assert code == 0 and [row["level"] for row in told["findings"] if row["check"] == "configuration"] == ["WARN"]
        models.write_bytes(texts[models])
        compose.write_bytes(texts[compose].replace(b"no-new-privileges:true", b"no-new-privileges:false"))
        assert "compose.yaml is not what these scripts checked" in failures(host)["configuration"]
        compose.write_bytes(texts[compose])
        approved.write_bytes(texts[approved] + b"# more\n")
        assert failures(host, "--allow-edits") == {"configuration": "changed: deploy/compose.yaml"}
    finally:
        for path, text in texts.items():
            path.write_bytes(text)
    assert attest(host)[0] == 0


def test_a_service_that_runs_with_other_rights(host: Host) -> None:
    """A service is started by hand, from an edited copy: the file of the kit is as it was, the container is not."""
    copy = host.kit / ".state/by-hand.yaml"
    copy.write_text((host.kit / ".state/compose.yaml").read_text().replace("no-new-privileges:true", "no-new-privileges:false"))
    where = ("compose", "-p", "attest", "--project-directory", str(host.kit), "--env-file", "/dev/null")
    try:
        host.dockerd.docker(*where, "-f", str(copy), "up", "-d", "--no-deps", "--force-recreate", "gateway")
        assert failures(host)["service"].startswith("gateway was started with another configuration")
    finally:
        copy.unlink()
        assert host.deploy("restart", "gateway").returncode == 0
    assert attest(host)[0] == 0


def test_the_keys_of_the_host(host: Host, tmp_path: Path) -> None:
    """In a mount namespace of its own, in which /etc/offline-kit is this test's."""
    keys = tmp_path / "etc/keys.d"
    keys.mkdir(parents=True)
    generate_key_pair(tmp_path / "site.key", keys / "site.pub", None)
    Path("/etc/offline-kit").mkdir(exist_ok=True)
    inside = 'mount --bind "$1" /etc/offline-kit && exec "$2/scripts/deploy.sh" attest --json'
    command = [*host.dockerd.nsenter, "unshare", "--mount", "bash", "-c", inside, "-", str(keys.parent), str(host.kit)]

    def signature() -> tuple[int, str, str]:
        done = subprocess.run(command, env={**os.environ, **host.env}, capture_output=True, text=True, check=False)
        row = next(row for row in json.loads(done.stdout)["findings"] if row["check"] == "signature")
        return done.returncode, row["level"], row["found"]

    code, level, found = signature()
    assert (code, level) == (8, "FAIL") and "0 of 1 keys" in found
    signed = sign(host.kit, open_signer(str(tmp_path / "site.key"), None, lambda path: None))
    try:
        assert signature() == (0, "OK", f"SHA256SUMS is signed as this host demands, by {signed.public.id}")
    finally:
        for path in signed.files:
            path.unlink()


def test_a_model_that_nobody_approved(host: Host) -> None:
    own = host.kit / "models/own"
    own.mkdir()
    (own / "config.json").write_text("{}")
    try:
        assert failures(host) == {"weights": "models/own: not of this kit"}
        assert attest(host, "--allow-edits")[0] == 0
    finally:
        shutil.rmtree(own)


@pytest.mark.parametrize("words", [["--fast"], ["--metrics", "/"], ["--metrics", "/nowhere/x"], ["--metrics"], ["chat"]])
def test_words_that_mean_nothing(host: Host, words: list[str]) -> None:
    assert host.deploy("attest", *words).returncode == 2
