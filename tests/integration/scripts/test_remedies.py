"""What fails for real on a real Docker is told with its reason, and the remedy that is told helps.

Rules: one Docker engine with addresses for eight networks, one installed kit; each test leaves the kit healthy.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.scripts.test_install import Host
from tests.support import scripts_kit
from tests.testbed.dockerd import Dockerd


@pytest.fixture(scope="module")
def dockerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dockerd]:
    pools = [{"base": "10.9.0.0/21", "size": 24}]
    with Dockerd(tmp_path_factory.mktemp("d") / "d", airgap=True, settings={"default-address-pools": pools}) as engine:
        yield engine


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, dockerd: Dockerd) -> Host:
    folder = tmp_path_factory.mktemp("remedies")
    kit = scripts_kit.make_kit(scripts_kit.make_shelf(folder / "shelf"), folder / "a kit")
    done = Host(kit, dockerd).run("install.sh", "--yes")
    assert done.returncode == 0, done.stderr
    return Host(kit, dockerd)


def healthy(host: Host) -> None:
    done = host.deploy("start")
    assert done.returncode == 0, done.stderr


def test_addresses_that_are_used_up(host: Host, dockerd: Dockerd) -> None:
    host.clean()
    taken = 0
    while taken < 40 and dockerd.run(["docker", "network", "create", f"taken{taken}"]).returncode == 0:
        taken += 1
    seen = host.run("scripts/preflight.sh")
    assert seen.returncode == 4 and f"Docker has {taken + 1} networks, and addresses for 8" in seen.stdout
    done = host.deploy("start")
    assert done.returncode == 6 and "Docker has no range of addresses left" in done.stderr, done.stderr
    dockerd.docker("network", "prune", "--force")
    healthy(host)


def test_an_image_that_somebody_removed(host: Host, dockerd: Dockerd) -> None:
    host.clean()
    tags = [line.split("=")[1] for line in (host.kit / "deploy/kit.env").read_text().splitlines() if "KIT_IMAGE_" in line]
    dockerd.docker("rmi", "--force", *tags)
    done = host.deploy("start")
    assert done.returncode == 5 and "an image is not loaded: scripts/load_images.sh" in done.stderr, done.stderr
    assert host.run("scripts/load_images.sh").returncode == 0
    healthy(host)


def test_a_platform_for_all_images(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.clean()
    monkeypatch.setenv("DOCKER_DEFAULT_PLATFORM", "linux/arm64")
    seen = host.run("scripts/preflight.sh")
    assert seen.returncode == 4 and "DOCKER_DEFAULT_PLATFORM is linux/arm64" in seen.stdout
    done = host.deploy("start")
    assert done.returncode != 0 and "unset DOCKER_DEFAULT_PLATFORM" in done.stderr, done.stderr
    monkeypatch.delenv("DOCKER_DEFAULT_PLATFORM")
    healthy(host)


def test_a_folder_with_a_colon(dockerd: Dockerd, host: Host, tmp_path: Path) -> None:
    """What Docker says of it is known, whoever sees it without preflight."""
    tag = next(
        line.split("=")[1] for line in (host.kit / "deploy/kit.env").read_text().splitlines() if "KIT_IMAGE_engine" in line
    )
    (tmp_path / "a:b").mkdir()
    done = dockerd.run(
        ["docker", "run", "--rm", "--pull", "never", "--network", "none", "-v", f"{tmp_path}/a:b:/kit:ro", tag, "true"]
    )
    script = '. "$0/scripts/lib/services/failure_reasons.sh"; service_reason "$1"; printf %s "$REPLY"'
    told = subprocess.run(["bash", "-c", script, str(host.kit), done.stderr], capture_output=True, text=True, check=True).stdout
    assert done.returncode != 0 and "a colon in its name" in told, done.stderr


def test_a_docker_that_does_not_see_the_kit(host: Host, dockerd: Dockerd, tmp_path: Path) -> None:
    """As from within a container that has the host's docker.sock: the folder is there for this shell alone."""
    host.clean()
    command = [
        f"mount -t tmpfs none '{tmp_path}' && cp -R '{host.kit}' '{tmp_path}/kit' && cd '{tmp_path}/kit'",
        "rm -rf .state .env && exec ./install.sh --yes",
    ]
    prefix = [*dockerd.nsenter, "unshare", "--mount", "bash", "-c", " && ".join(command)]
    done = subprocess.run(prefix, env={**os.environ, **dockerd.env}, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "this Docker does not see the kit's folder" in done.stderr, done.stderr
    assert "the engine image lacks" not in done.stderr
    healthy(host)


def test_a_layer_that_is_another(host: Host, dockerd: Dockerd) -> None:
    """The kit is whole, the image is not: the remedy is neither room on a disk nor unpacking again."""
    expect = host.kit / "deploy/images/gateway/expect"
    before = expect.read_bytes()
    first = next(line for line in before.decode().splitlines() if line.startswith("DIFF_ID="))
    expect.write_bytes(before.replace(first.encode(), b"DIFF_ID=sha256:" + b"0" * 64))
    done = host.run("scripts/load_images.sh", "gateway")
    expect.write_bytes(before)
    assert done.returncode == 5 and "is not the one that the image names" in done.stderr, done.stderr
    assert "disk" not in done.stderr.splitlines()[-1]
    assert host.run("scripts/load_images.sh").returncode == 0
    healthy(host)
