"""What this machine has for building: Python, names of files, tools, disks, Docker, proxies, certificates, tokens.

Rules: a check never raises; what a build would fail of is a failure with the exit code that the build would have, what only
some builds need is a warning; each has a remedy. Nothing is asked of a network here (``network_checks`` does).
"""

from __future__ import annotations

import locale
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from offline_kit import __version__
from offline_kit.common.docker_engine import docker_engine
from offline_kit.common.errors import DiskError, KitError
from offline_kit.common.files import disk_error
from offline_kit.common.units import size
from offline_kit.intake.fetch import missing_bytes, payload_bytes
from offline_kit.intake.store.store import Store
from offline_kit.intake.transfer.origins import certificates, proxies_for
from offline_kit.project import Project

OK, WARNING, FAILED = "ok", "warning", "failed"
_LITTLE = 20 << 30  # bytes: less than this holds no usual chat model
_TOOLS = {"bash": "the kit's scripts", "tar": "unpacking a bundle", "sha256sum": "comparing sums"}
_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")


@dataclass(frozen=True)
class Check:
    """What was looked at and what was found. ``code``: what a build would end with, 0 where it would not fail."""

    name: str
    state: str
    what: str
    remedy: str = ""
    code: int = 0

    @classmethod
    def of(cls, name: str, error: KitError) -> Check:
        """The failure that ``error`` is."""
        what = f"{error.where}: {error.what}" if error.where else error.what
        return cls(name, FAILED, what, error.remedy, error.exit_code)


def check_machine(project: Project | None, store_root: Path, output: Path) -> Iterator[Check]:
    """All checks of this machine."""
    version = f"offline-kit {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield Check("version", OK, version)
    yield _encoding()
    yield from _tools()
    yield from _disks(project, store_root, output)
    yield _docker(project)
    yield from _proxies()
    yield _certificates()


def _encoding() -> Check:
    names, terminal = sys.getfilesystemencoding(), locale.getpreferredencoding(False)
    if terminal.lower().replace("-", "") != "utf8":
        remedy = "export LC_ALL=C.UTF-8; bundles are the same either way, names are shown with escapes"
        return Check("locale", WARNING, f"text is shown as {terminal}, names of files are {names}", remedy)
    return Check("locale", OK, f"names of files and text in {names}")


def _tools() -> Iterator[Check]:
    missing = {name: what for name, what in _TOOLS.items() if shutil.which(name) is None}
    if missing:
        words = "; ".join(f"{name} ({what})" for name, what in missing.items())
        yield Check("tools", WARNING, f"not here: {words}", "install them to try out bundles here; building needs none of them")
    else:
        yield Check("tools", OK, ", ".join(_TOOLS))


def _disks(project: Project | None, store_root: Path, output: Path) -> Iterator[Check]:
    lock = project.lock if project else None
    wanted = {"store": 0, "output": 0}
    if lock:
        wanted["output"] = payload_bytes(lock)
        try:
            wanted["store"] = missing_bytes(lock, Store(store_root)) if _is_folder(store_root) else payload_bytes(lock)
        except OSError as error:  # who may not look into it may not write there, either, which is told below
            yield Check.of("store", disk_error(error, store_root))
    places = {"store": _existing(store_root), "output": _existing(output)}
    together = places["store"].stat().st_dev == places["output"].stat().st_dev
    for name, folder in places.items():
        need = sum(wanted.values()) if together else wanted[name]
        try:
            free = shutil.disk_usage(folder).free
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            what, option = f"{folder} cannot be written: {error.strerror}", f"name another with --{name}"
            yield Check(name, FAILED, what, option, DiskError.exit_code)
            continue
        said = f"{folder}: {size(free)} free" + (f", a build needs {size(need)}" if need else "")
        if free < need:
            yield Check(name, FAILED, said, f"free space, or name another folder with --{name}", DiskError.exit_code)
        elif free < _LITTLE and not lock:
            yield Check(name, WARNING, said, f"few models fit; name another folder with --{name}")
        else:
            yield Check(name, OK, said)


def _existing(folder: Path) -> Path:
    """``folder``, or the nearest above it that there is and that may be seen."""
    whole = Path(os.path.expanduser(folder)).resolve()  # noqa: PTH111  leaves an unknown ~USER as it is
    return next((place for place in (whole, *whole.parents) if _is_folder(place)), Path("/"))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # nobody may see it
        return False


def _docker(project: Project | None) -> Check:
    needed = bool(project) and any(image.scheme == "docker-daemon" for image in project.manifest.images.values())  # type: ignore[union-attr]
    try:
        with docker_engine("docker", "start Docker, or set DOCKER_HOST", 10) as engine:
            return Check("docker", OK, f"version {engine.version().get('Version', 'not told')} answers")
    except KitError as error:
        if needed:
            return Check.of("docker", error)
        return Check("docker", WARNING, error.what, f"{error.remedy}: only docker-daemon:// images and 'rehearse' need it")
    except Exception as error:  # noqa: BLE001  docker-py, of an engine that answers with something else
        return Check("docker", WARNING, f"answers oddly: {error}", "see its log")


def _proxies() -> Iterator[Check]:
    given = {name: os.environ.get(name.lower()) or os.environ.get(name) for name in _PROXIES}
    differing = [
        name
        for name in _PROXIES
        if os.environ.get(name) and os.environ.get(name.lower()) and os.environ[name] != os.environ[name.lower()]
    ]
    try:
        proxies_for("https://registry-1.docker.io/")
        proxies_for("http://registry.example/")
    except KitError as error:
        yield Check.of("proxies", error)
        return
    if differing:
        words = ", ".join(f"{name} and {name.lower()}" for name in differing)
        yield Check("proxies", WARNING, f"{words} differ; the one in small letters counts", "set both alike")
        return
    named = [f"{name}={value}" for name, value in given.items() if value]
    yield Check("proxies", OK, ", ".join(named) if named else "none")


def _certificates() -> Check:
    try:
        found = certificates()
    except KitError as error:
        return Check.of("certificates", error)
    return Check(
        "certificates", OK, found if isinstance(found, str) else "those of Python's certifi; SSL_CERT_FILE names others"
    )
