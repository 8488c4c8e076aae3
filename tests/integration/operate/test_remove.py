"""clean and uninstall take away what the kit made and nothing else; the unit for the boot, on a host with a systemctl."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import kit_fixtures, scripts_kit
from tests.support.kit_fixtures import Host
from tests.testbed.dockerd import Dockerd

SYSTEMCTL = """\
#!/bin/sh
# Stands in for systemctl: keeps what it was asked; `start` runs what the unit starts, as systemd does.
printf '%s\\n' "$*" >>"$SYSTEMCTL_LOG"
if [ "$1" = start ]; then
    sed -n 's/^ExecStart=//p' "/etc/systemd/system/$2" | sh
fi
"""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> scripts_kit.Shelf:
    return scripts_kit.make_shelf(tmp_path_factory.mktemp("shelf"))


@pytest.fixture(scope="module")
def dockerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dockerd]:
    """An engine of its own: everything on it is compared."""
    with Dockerd(tmp_path_factory.mktemp("remove"), airgap=True) as running:
        yield running


@pytest.fixture
def host(shelf: scripts_kit.Shelf, tmp_path: Path, dockerd: Dockerd) -> Iterator[Host]:
    made = kit_fixtures.make_version(shelf, tmp_path / "a kit", dockerd, name="gone", ports=18840)
    yield made
    made.clean()


def there(dockerd: Dockerd) -> dict[str, list[str]]:
    """Everything that Docker has, by kind."""
    return {
        "containers": sorted(dockerd.docker("ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Image}}").splitlines()),
        "networks": sorted(dockerd.docker("network", "ls", "--format", "{{.Name}}").splitlines()),
        "volumes": sorted(dockerd.docker("volume", "ls", "--quiet").splitlines()),
        "images": sorted(
            dockerd.docker("image", "ls", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").splitlines()
        ),
    }


def test_after_uninstall_the_host_is_as_before(host: Host, dockerd: Dockerd, shelf: scripts_kit.Shelf) -> None:
    """Also what was there before: a stopped container, a volume, an image with the very name that the kit's image has."""
    root = host.kit.parent / "root.tar"
    subprocess.run(["tar", "-cf", root, "-C", "/bin", "busybox"], check=True)
    engine = str(shelf.images["engine"].reference)
    dockerd.docker("import", str(root), engine)
    dockerd.docker("volume", "create", "precious")
    dockerd.docker("create", "--name", "stranger", engine, "/busybox")
    before, files = there(dockerd), set(host.kit.rglob("*"))
    done = host.run("install.sh", "--yes")
    assert done.returncode == 0, done.stderr
    assert there(dockerd) != before

    done = host.deploy("uninstall")
    assert done.returncode == 2 and "would remove" in done.stderr and "nothing was removed" in done.stderr
    assert host.deploy("status").returncode == 0
    kit_fixtures.edit_models(host, "chat", max_model_len=99)
    # what is left when a script is killed after it made a container for one command, and before that ran
    name = re.search(r"^KIT_NAME=(.+)$", (host.kit / "deploy/kit.env").read_text(), re.MULTILINE)
    assert name
    tag = shelf.images["engine"].tag("engine")
    dockerd.docker("create", "--name", "never-ran", "--label", f"offline-kit.once={name[1]}", tag, "/busybox")
    gone = host.deploy("uninstall", "--force")
    assert gone.returncode == 0, gone.stderr
    assert there(dockerd) == before and set(host.kit.rglob("*")) == files
    assert host.run("scripts/verify.sh").returncode == 0
    assert host.deploy("uninstall", "--force").returncode == 0
    dockerd.docker("rm", "stranger")
    dockerd.docker("volume", "rm", "precious")
    dockerd.docker("image", "rm", engine)


def test_clean_keeps_what_is_the_operators(host: Host, dockerd: Dockerd) -> None:
    before = there(dockerd)
    assert host.run("install.sh", "--yes").returncode == 0
    assert host.deploy("keys", "add", "team").returncode == 0
    kit_fixtures.edit_models(host, "chat", max_model_len=99)
    kept = {name: (host.kit / name).read_bytes() for name in (".env", ".state/keys", "config/models.json")}
    assert host.deploy("clean", "--dry-run").returncode == 0 and host.deploy("status").returncode == 0
    done = host.deploy("clean", "--force")
    assert done.returncode == 0 and there(dockerd) == before, done.stderr
    assert {name: (host.kit / name).read_bytes() for name in kept} == kept
    again = host.run("install.sh", "--yes")
    assert again.returncode == 0 and host.deploy("status").returncode == 0, again.stderr
    assert {name: (host.kit / name).read_bytes() for name in kept} == kept
    assert host.deploy("uninstall", "--yes").returncode == 0 and there(dockerd) == before


def test_what_another_kit_uses_stays(host: Host, shelf: scripts_kit.Shelf, dockerd: Dockerd) -> None:
    other = kit_fixtures.make_version(shelf, host.kit.parent / "other kit", dockerd, name="stays", ports=18850)
    for each in (host, other):
        done = each.run("install.sh", "--yes", "--no-start")
        assert done.returncode == 0, done.stderr
    images = there(dockerd)["images"]
    done = host.deploy("uninstall", "--force")
    assert done.returncode == 0 and done.stderr.count("stays: image") == 2
    assert [row for row in images if "localhost/offline-kit" in row] == [
        row for row in there(dockerd)["images"] if "localhost/offline-kit" in row
    ]
    assert other.deploy("start").returncode == 0
    assert other.deploy("uninstall", "--force").returncode == 0 and there(dockerd)["images"] == []


def test_the_old_version_goes_and_the_new_one_serves_on(host: Host, shelf: scripts_kit.Shelf, dockerd: Dockerd) -> None:
    new = kit_fixtures.make_version(
        shelf, host.kit.parent / "a kit v1.1.0", dockerd, name="gone", version="v1.1.0", ports=18840
    )
    assert host.run("install.sh", "--yes").returncode == 0
    assert host.deploy("upgrade", str(new.kit)).returncode == 0
    done = host.deploy("uninstall", "--force")
    assert done.returncode == 0 and new.serves("v1.1.0"), done.stderr
    assert new.deploy("uninstall", "--force").returncode == 0
    assert there(dockerd)["containers"] == [] and there(dockerd)["images"] == []


def on_systemd(host: Host, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``deploy.sh`` where /etc/systemd/system is `folder`/units and a systemd seems to run."""
    (folder / "units").mkdir(exist_ok=True)
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin/systemctl").write_text(SYSTEMCTL)
    (folder / "bin/systemctl").chmod(0o755)
    around = (
        'mkdir -p /run/systemd/system /etc/systemd/system && mount --bind "$0/units" /etc/systemd/system && '
        'export PATH="$0/bin:$PATH" SYSTEMCTL_LOG="$0/log" && exec "$@"'
    )
    command = ["unshare", "--mount", "bash", "-c", around, str(folder), str(host.kit / "scripts/deploy.sh"), *arguments]
    return subprocess.run(
        [*host.dockerd.nsenter, *command], env={**os.environ, **host.env}, capture_output=True, text=True, check=False
    )


def test_a_unit_starts_the_kit_at_boot(host: Host, tmp_path: Path) -> None:
    folder = tmp_path / "systemd"
    folder.mkdir()
    assert host.run("install.sh", "--yes").returncode == 0
    before = host.dockerd.docker("ps", "--no-trunc", "--quiet", "--filter", host.project)
    done = on_systemd(host, folder, "enable-boot")
    assert done.returncode == 0, done.stderr
    unit = folder / "units/offline-kit-gone.service"
    text = unit.read_text()
    assert f'ExecStart=/bin/bash "{host.kit}/scripts/deploy.sh" start --in-order' in text and "User=root" in text
    assert (folder / "log").read_text().splitlines() == [
        "daemon-reload", "enable offline-kit-gone.service", "start offline-kit-gone.service"
    ]  # fmt: skip
    assert host.dockerd.docker("ps", "--no-trunc", "--quiet", "--filter", host.project) == before
    unit.write_text(text.replace("docker.service", "multi-user.target"))  # this machine may have no unit of Docker
    checked = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert "Failed" not in checked.stderr and "rror" not in checked.stderr, checked.stderr
    unit.write_text(text)
    assert on_systemd(host, folder, "uninstall", "--force").returncode == 0
    assert not unit.exists() and on_systemd(host, folder, "disable-boot").returncode == 0


def test_without_systemd_it_is_said_what_to_do(host: Host, tmp_path: Path) -> None:
    assert host.run("install.sh", "--yes", "--no-start").returncode == 0
    done = scripts_kit.run(
        host.kit, "scripts/deploy.sh", "enable-boot",
        prefix=[*host.dockerd.nsenter, "unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /run && exec "$@"', "sh"],
        env=host.env,
    )  # fmt: skip
    assert done.returncode == 1 and "start --in-order" in done.stderr
