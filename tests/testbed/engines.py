"""Real Docker engines newer than the distribution's own: Debian's packages of later suites, unpacked beside, installed nowhere.

Rules: (1) the packages come through apt, from the mirror that the machine itself uses, with Debian's signatures checked; the
machine's apt state and packages stay as they are; (2) a suite is unpacked once, `versions` in the cache entry records what it
was then (unstable moves); (3) runc is the machine's: those of later suites need a newer C library; (4) an engine that cannot be
had is an error; (5) each engine comes with the client and the Compose plug-in of its own suite.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.testbed import cache
from tests.testbed.dockerd import Dockerd
from tests.testbed.process import TestbedError, run

PACKAGES = ("docker.io", "docker-cli", "containerd", "docker-compose")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PLUGIN = "usr/libexec/docker/cli-plugins/docker-compose"
PROGRAMS = (
    "usr/bin/docker",
    "usr/bin/containerd",
    "usr/bin/containerd-shim-runc-v2",
    "usr/sbin/docker-proxy",
    "usr/sbin/dockerd",
    PLUGIN,
)
CONTAINERD_STORE = {"features": {"containerd-snapshotter": True}}
RECIPE = "1"  # another number makes every entry anew


@dataclass(frozen=True)
class Engine:
    """One kind of Docker engine: the packages of `suite` (None: the machine's own) with one of the two image stores."""

    name: str
    suite: str | None = None
    containerd_store: bool = False

    def dockerd(self, folder: Path, *, airgap: bool = True, settings: Mapping[str, Any] | None = None) -> Dockerd:
        """A Dockerd of this kind, not started. Raises TestbedError when its packages cannot be had."""
        chosen = {**(settings or {}), **(CONTAINERD_STORE if self.containerd_store else {})}
        if self.suite is None:
            return Dockerd(folder, airgap=airgap, settings=chosen)
        programs = unpacked(self.suite)
        return Dockerd(folder, airgap=airgap, path=[programs], compose=programs / "docker-compose", settings=chosen)


OWN = Engine("20.10")
NEWER = (Engine("26", "trixie"), Engine("28", "sid"), Engine("28-containerd", "sid", containerd_store=True))
ALL = (OWN, *NEWER)


def unpacked(suite: str) -> Path:
    """The folder with dockerd, its helpers, client and Compose plug-in of a suite; made when the cache lacks it."""
    return cache.entry(f"engine-{suite}", cache.key_of(RECIPE, suite, *PACKAGES), lambda target: _make(suite, target)) / "bin"


def versions(suite: str) -> dict[str, str]:
    """Package to version, as they were when the suite was unpacked."""
    found: dict[str, str] = json.loads((unpacked(suite).parent / "versions").read_text())
    return found


def _make(suite: str, target: Path) -> None:
    work = target / "work"
    environment = apt(suite, work)
    run(["apt-get", "update", "-qq", "--error-on=any"], env=environment)
    run(["apt-get", "download", "-qq", *PACKAGES], env=environment, cwd=work)
    found = {}
    for package in sorted(work.glob("*.deb")):
        name, version = run(["dpkg-deb", "--show", "--showformat=${Package} ${Version}", str(package)]).split()
        found[name] = version
        run(["dpkg-deb", "--extract", str(package), str(work / "root")])
    (target / "bin").mkdir()
    for program in PROGRAMS:
        shutil.copy2(work / "root" / program, target / "bin" / Path(program).name)
    (target / "versions").write_text(json.dumps(found, indent=1) + "\n")
    shutil.rmtree(work)
    run([str(target / "bin/dockerd"), "--version"])  # it runs here, or this entry is no good
    cache.say(f"{suite} has {', '.join(f'{name} {version}' for name, version in found.items())}")


def apt(suite: str, work: Path) -> dict[str, str]:
    """An apt configuration of its own in `work`: the environment that makes apt use it."""
    if not KEYRING.exists() or not shutil.which("apt-get"):
        raise TestbedError(
            f"newer engines come from Debian's archive: apt-get and {KEYRING} are needed; setup.sh installs them"
        )
    for name in ("state/lists/partial", "cache/archives/partial"):
        (work / name).mkdir(parents=True)
    (work / "status").touch()
    (work / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror()} {suite} main\n")
    # a mirror may be some weeks behind, and what is unpacked here guards nothing: signatures count, their age does not
    (work / "apt.conf").write_text(
        f'Dir::State "{work}/state";\nDir::State::status "{work}/status";\nDir::Cache "{work}/cache";\n'
        f'Dir::Etc::sourcelist "{work}/sources.list";\nDir::Etc::sourceparts "/dev/null";\n'
        'Dir::Etc::preferencesparts "/dev/null";\nAPT::Sandbox::User "root";\n'
        'Acquire::Check-Valid-Until "false";\nAcquire::Languages "none";\n'
    )
    return {"APT_CONFIG": str(work / "apt.conf")}


def mirror() -> str:
    """Where this machine's apt has Debian from. Raises TestbedError."""
    return _archive()[1]


def suite() -> str:
    """The suite of Debian that this machine's apt takes: what to make where any recent one will do. Raises TestbedError."""
    return _archive()[0]


def _archive() -> tuple[str, str]:
    """Suite and address of the archive of this machine's own apt configuration; updates and security are beside it."""
    said = run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN) $(COMPONENT) $(CODENAME) $(REPO_URI)", "Created-By: Packages"]
    )
    for origin, component, codename, place in (line.split(" ", 3) for line in said.splitlines()):
        if (origin, component) == ("Debian", "main") and "-" not in codename:
            return codename, place.rstrip("/")
    raise TestbedError("apt of this machine knows no archive of Debian: name one in its sources and run apt-get update")
