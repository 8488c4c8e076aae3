"""The guide's commands, block by block, typed in the folder of a kit: real Docker and Compose, a stand-in for vllm.

Rules: one kit goes the guide's way from unpacking to cleaning up, so the tests of it stand in that order, and each leaves it
healthy but the last; what is typed is tests/data/guide_commands.py.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.data.guide_commands import BLOCKS, DOTENV, ELSEWHERE, TYPED
from tests.support import kit_fixtures, scripts_kit
from tests.support.kit_fixtures import Host, settings
from tests.testbed import compose, programs
from tests.testbed.cache import REPOSITORY
from tests.testbed.dockerd import Dockerd

PLUGIN = "usr/libexec/docker/cli-plugins/docker-compose"
SERVICES = {"engine-chat", "engine-embedding", "engine-rerank", "gateway"}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, airgap: Dockerd) -> Iterator[Host]:
    """A kit that nobody has installed yet."""
    folder = tmp_path_factory.mktemp("guide")
    shelf = scripts_kit.make_shelf(folder / "shelf")
    made = kit_fixtures.make_version(shelf, folder / "kits/guide-v1.0.0", airgap, name="guide", ports=18860)
    program = folder / "bin/docker-compose"
    program.parent.mkdir()
    program.symlink_to(compose.plugin())
    yield made
    made.clean()


def typed(host: Host, command: str, *, status: int = 0) -> str:
    """What a command line says, typed in the kit's folder as the guide or TYPED has it; ports and key are this kit's."""
    command = TYPED.get(command, command)
    for usual, key in ((8000, "router"), (8001, "chat"), (8002, "embedding"), (8003, "rerank")):
        command = command.replace(f"localhost:{usual}", f"localhost:{host.ports[key]}")
    if "token-abc123" in command:
        command = command.replace("token-abc123", host.key).replace("curl ", "curl --fail-with-body ")
    # the stand-in's image has BusyBox, and no links to it
    image = settings(host.kit / "deploy/kit.env")["KIT_IMAGE_engine"]
    command = command.replace("--entrypoint tar @ENGINE", f"--entrypoint busybox {image} tar")
    path = f"{host.kit.parent.parent / 'bin'}:{os.environ['PATH']}"
    argv = [*host.dockerd.nsenter, "env", f"PATH={path}", "bash", "-euo", "pipefail", "-c", command]
    env = {**os.environ, **host.env}
    done = subprocess.run(
        argv, cwd=host.kit, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300, check=False
    )
    assert done.returncode == status, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def running(host: Host) -> set[str]:
    return set(host.versions())


def test_every_command_of_the_guide_is_one_that_is_told_of() -> None:
    page = (REPOSITORY / "docs/guide-commands.md").read_text()
    for title, commands in BLOCKS.items():
        for command in commands:
            told = ELSEWHERE.get(command, TYPED.get(command, command)).partition(" -H ")[0].partition(" --entrypoint")[0]
            told = told.replace("guide-engine-chat-1", "NAME-engine-chat-1").removeprefix("curl -X ").replace("|", "\\|")
            assert told in page, f"{title}: {told}"


def test_the_host_is_looked_at(host: Host) -> None:
    for command in BLOCKS["the host"][:2]:
        assert "version" in typed(host, command)
    typed(host, ELSEWHERE[BLOCKS["the host"][2]])


def test_compose_says_what_to_do_before_the_installation(host: Host) -> None:
    for command in ("docker-compose up -d", "docker compose ps"):
        assert "run ./install.sh" in typed(host, f"! {command}")


def test_from_the_copy_of_the_example_to_a_start(host: Host) -> None:
    """cp, load_images.sh, deploy.sh start: the first start is the installation."""
    typed(host, "cp .env.example .env")
    typed(host, "./scripts/load_images.sh")
    said = typed(host, "./scripts/deploy.sh start")
    assert "./install.sh --yes" in said and running(host) == SERVICES
    found = settings(host.kit / ".env")
    assert (found["COMPOSE_PROJECT_NAME"], found["COMPOSE_FILE"]) == ("guide", "compose.yaml:.state/compose.yaml")
    assert len(host.key) == 48 and (host.kit / ".env").stat().st_mode & 0o777 == 0o600


def test_the_verbs_at_the_top_are_those_below_scripts(host: Host) -> None:
    assert "healthy" in typed(host, "./deploy.sh status") and "loading weights" in typed(host, "./deploy.sh logs")
    typed(host, "./deploy.sh stop")
    assert running(host) == set()
    typed(host, "sh deploy.sh start")
    assert running(host) == SERVICES
    typed(host, "./deploy.sh nonsense", status=2)


def test_compose_by_hand_means_the_kit(host: Host) -> None:
    """What the scripts started is left alone, what is down comes up as the scripts would have started it."""
    up, _, down = BLOCKS["start by Compose"]
    before = host.dockerd.docker("ps", "--quiet", "--no-trunc", "--filter", host.project)
    typed(host, up)
    assert host.dockerd.docker("ps", "--quiet", "--no-trunc", "--filter", host.project) == before
    for program in ("docker-compose", "docker compose"):
        assert set(typed(host, f"{program} ps --services").split()) == SERVICES
        assert "loading weights" in typed(host, f"{program} logs --since=1h engine-chat")
    typed(host, down)
    assert running(host) == set()
    assert not host.dockerd.docker("network", "ls", "--quiet", "--filter", host.project)
    typed(host, up)
    assert running(host) == SERVICES
    typed(host, "./deploy.sh start")
    assert host.deploy("attest").returncode == 0


@pytest.mark.parametrize("suite", ["", "trixie"])
def test_compose_by_hand_makes_no_other_services(host: Host, suite: str) -> None:
    """The hashes by which Compose tells what has to be made anew are those of the scripts' way, in an older Compose, too."""
    program = programs.unpacked(suite, "docker-compose", PLUGIN) if suite else compose.plugin()
    by_scripts = f"-p guide --project-directory {host.kit} --env-file /dev/null -f .state/compose.yaml"
    hashes = typed(host, f"{program} config --hash '*'")
    assert set(hashes.split()[::2]) == SERVICES and hashes == typed(host, f"{program} {by_scripts} config --hash '*'")
    assert "run ./install.sh" in typed(host, f"! {program} --env-file /dev/null config")


@pytest.mark.parametrize("name", ["nginx", "monitoring"])
def test_a_profile_of_what_is_off_says_how_it_is_switched_on(host: Host, name: str) -> None:
    """The guide's command fails loudly, and leaves nothing behind; those without a profile go on as if it were not there."""
    before = host.dockerd.docker("ps", "--all", "--quiet", "--no-trunc", "--filter", host.project)
    networks = host.dockerd.docker("network", "ls", "--quiet", "--filter", host.project)
    for program in ("docker-compose", "docker compose"):
        said = typed(host, f"! {BLOCKS[name][0].replace('docker-compose', program)}")
        assert f"{name} is switched off: run ./install.sh --with {name}" in said
    assert host.dockerd.docker("ps", "--all", "--quiet", "--no-trunc", "--filter", host.project) == before
    assert host.dockerd.docker("network", "ls", "--quiet", "--filter", host.project) == networks
    assert host.deploy("attest").returncode == 0 and "healthy" in typed(host, "./deploy.sh status")


def test_profiles_are_what_is_switched_on(host: Host) -> None:
    """With nginx in .env the commands change nothing more, and port 80 (here another) answers."""
    env = host.kit / ".env"
    whole = env.read_text()
    on = whole.replace("OFFLINE_KIT_WITH=", "OFFLINE_KIT_WITH=nginx").replace("HTTP_PORT=80", "HTTP_PORT=18865")
    env.write_text(on.replace("HTTPS_PORT=443", "HTTPS_PORT=18866"))
    try:
        typed(host, "./deploy.sh start")
        before = host.dockerd.docker("ps", "--quiet", "--no-trunc", "--filter", host.project)
        typed(host, BLOCKS["nginx"][0])
        assert host.dockerd.docker("ps", "--quiet", "--no-trunc", "--filter", host.project) == before
        url = BLOCKS["nginx"][1].replace("localhost", "localhost:18865")
        body = '{"model": "tiny-chat", "messages": [{"role": "user", "content": "x"}]}'
        head = f"-H 'Authorization: Bearer {host.key}' -H 'Content-Type: application/json'"
        assert "choices" in typed(host, f"{url} -sS --fail-with-body {head} -d '{body}'")
        assert typed(host, f"{url} -sS -o /dev/null -w '%{{http_code}}' -d '{body}'") == "401"
    finally:
        env.write_text(whole)
        typed(host, "./deploy.sh start")


@pytest.mark.parametrize("name", ["logs", "a service does not start"])
def test_logs_by_the_names_of_the_kit(host: Host, name: str) -> None:
    for command in BLOCKS[name]:
        if "grep" in command:  # there is no error in them
            typed(host, command, status=1)
        else:
            assert "loading weights" in typed(host, command)
    if name == "logs":
        assert "loading weights" in typed(host, f"timeout 5 {TYPED[BLOCKS['start by Compose'][1]]} || true")


def test_the_examples_answer_with_the_key_of_the_kit(host: Host) -> None:
    health, chat, embedding = BLOCKS["ask"]
    assert '{"status":"ok"}' in typed(host, health)
    assert "choices" in typed(host, chat.replace("Qwen2.5-32B-Instruct", "tiny-chat"))
    assert "embedding" in typed(host, embedding.replace("bge-m3", "tiny-embedding"))
    bodies = {
        "chat": '{"model": "tiny-chat", "messages": [{"role": "user", "content": "x"}], "temperature": 0.7, "max_tokens": 9}',
        "embedding": '{"model": "tiny-embedding", "input": "x"}',
        "rerank": '{"model": "tiny-rerank", "query": "q", "documents": ["a", "b", "c"]}',
    }
    for command, body in zip(BLOCKS["the APIs"], bodies.values(), strict=True):
        url = command.removeprefix("POST ")
        ask = f"curl -sS -X POST {url} -H 'Content-Type: application/json' -H 'Authorization: Bearer token-abc123' -d '{body}'"
        assert json.loads(typed(host, ask))


def test_the_secrets_of_the_guide_are_refused_and_replaced(host: Host) -> None:
    env = host.kit / ".env"
    whole = env.read_text()
    for name, word in (("VLLM_API_KEY", "token-abc123"), ("GRAFANA_ADMIN_PASSWORD", "admin123")):
        env.write_text(f"{whole}{name}={word}\n")
        said = typed(host, "./deploy.sh restart", status=3)
        assert f"{name} is the example of a published guide" in said and word not in said
    assert running(host) == SERVICES
    env.write_text(whole.replace(host.key, "token-abc123"))
    assert "a new one takes its place" in typed(host, "./install.sh --yes")
    assert host.key not in ("token-abc123", settings(env)["COMPOSE_FILE"]) and len(host.key) == 48
    env.write_text(whole)
    typed(host, "./deploy.sh start")


def test_the_settings_of_the_guide_are_read_as_they_are(host: Host) -> None:
    """HF_TOKEN too, which no container gets."""
    env = host.kit / ".env"
    whole = env.read_text()
    env.write_text(whole + DOTENV.splitlines()[0] + "\n")
    typed(host, "./deploy.sh start")
    assert host.dockerd.docker("inspect", "guide-engine-chat-1").find("your_huggingface_token") < 0
    env.write_text(whole)


def test_backups_by_hand(host: Host) -> None:
    models, config = BLOCKS["backup"]
    typed(host, models)
    listed = typed(host, "tar -tf ../models-backup.tar")
    assert "./chat/config.json" in listed
    typed(host, config)
    assert "config/models.json" in typed(host, "tar -tzf config-backup.tar.gz")
    # a file in the kit that the kit does not have is told of, by name, until it is moved out
    assert "extra: config-backup.tar.gz" in typed(host, "scripts/verify.sh", status=20)
    typed(host, "mv config-backup.tar.gz ..")
    typed(host, "scripts/verify.sh")
    typed(host, "./deploy.sh backup ../settings.tar.gz")


def test_a_backup_with_a_secret_of_the_guide_is_refused_before_anything_changes(host: Host) -> None:
    """One of days when a kit took it."""
    before = (host.kit / ".env").read_bytes()
    _with_key(host.kit.parent / "settings.tar.gz", host.kit.parent / "old.tar.gz", b"token-abc123")
    for option in ("--dry-run", ""):
        said = typed(host, f"./deploy.sh restore ../old.tar.gz {option}", status=3)
        assert "the .env in ../old.tar.gz: VLLM_API_KEY is the example of a published guide" in said, said
    assert (host.kit / ".env").read_bytes() == before and running(host) == SERVICES
    assert not (host.kit / ".state/before-restore").exists()
    _with_key(host.kit.parent / "settings.tar.gz", host.kit.parent / "old.tar.gz", b"another-key-of-32-characters-000")
    typed(host, "./deploy.sh restore ../old.tar.gz")
    assert host.key == "another-key-of-32-characters-000"


def _with_key(backup: Path, target: Path, key: bytes) -> None:
    """The backup with another key in its .env, its list mended."""
    with tarfile.open(backup) as archive:
        members = [(member, archive.extractfile(member)) for member in archive]
        contents = {member.name: stream.read() for member, stream in members if stream}
    contents["./.env"] = re.sub(rb"(?m)^VLLM_API_KEY=.*$", b"VLLM_API_KEY=" + key, contents["./.env"])
    digest = hashlib.sha256(contents["./.env"]).hexdigest().encode()
    contents["./SUMS"] = re.sub(rb"(?m)^[0-9a-f]{64}(  \./\.env)$", digest + rb"\1", contents["./SUMS"])
    with tarfile.open(target, "w:gz") as archive:
        for member, _ in members:
            member.size = len(contents.get(member.name, b""))
            archive.addfile(member, io.BytesIO(contents.get(member.name, b"")))


def test_pruning_takes_nothing_that_the_kit_needs_and_clean_all_that_it_made(host: Host) -> None:
    prune_images, prune_volumes, clean = BLOCKS["clean"]
    typed(host, prune_images)
    typed(host, prune_volumes)
    typed(host, BLOCKS["another version"][1])
    assert running(host) == SERVICES
    typed(host, clean)
    assert running(host) == set() and not host.dockerd.docker("network", "ls", "--quiet", "--filter", host.project)
    assert settings(host.kit / ".env")["VLLM_API_KEY"]
