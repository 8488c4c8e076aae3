"""Where the files lie that a bundle carries as they are: scripts, default configuration, shipped manifests, the runtime.

Rules: an installed package has them below ``offline_kit/_kit``, a checkout at its top; only ``*.sh`` and ``*.py`` are carried,
whatever else lies beside them; install.sh and what lies in ``scripts/top/`` go to the top of the kit, every other script stays
below ``scripts/``.
"""

from __future__ import annotations

from pathlib import Path

from offline_kit.common.errors import DiskError

_PACKAGE = Path(__file__).resolve().parent.parent
_NOT_CARRIED = ("build.sh", "build_offline_package.sh")  # they build what is carried
STARTER = ("manifests/knowflow.yaml", "config/models.json", "config/vllm_config.yaml", "config/environment.yaml")


def root() -> Path:
    """The folder that holds ``scripts/``, ``config/`` and ``manifests/``."""
    installed = _PACKAGE / "_kit"
    return installed if installed.is_dir() else _PACKAGE.parent


def starter_files() -> dict[str, bytes]:
    """What ``offline-kit init`` writes: path -> content. Raises DiskError."""
    return {name: _read(root() / name) for name in STARTER}


def scripts() -> tuple[dict[str, bytes], frozenset[str]]:
    """The scripts of a kit, path -> content, and which of them can be executed. Raises DiskError."""
    folder = root() / "scripts"
    texts: dict[str, bytes] = {}
    executables = set()
    for path in sorted(folder.rglob("*.sh")):
        inside = path.relative_to(folder).as_posix()
        if inside in _NOT_CARRIED:
            continue
        at_top = inside == "install.sh" or inside.startswith("top/")
        name = path.name if at_top else f"scripts/{inside}"
        texts[name] = _read(path)
        if at_top or "/" not in inside:
            executables.add(name)
    return texts, frozenset(executables)


def checker() -> bytes:
    """``verify-kit.sh``, which checks a kit that nobody trusts yet. Raises DiskError."""
    return _read(root() / "scripts" / "verify-kit.sh")


def runtime() -> dict[str, bytes]:
    """The runtime as the bundle carries it. Raises DiskError."""
    folder = _PACKAGE / "runtime"
    return {f"runtime/{path.relative_to(folder).as_posix()}": _read(path) for path in sorted(folder.rglob("*.py"))}


def unified() -> dict[str, bytes]:
    """The program of the unified image: the runtime and what runs it, as Python finds them. Raises DiskError."""
    paths = [_PACKAGE / "__init__.py", *(path for name in ("runtime", "unified") for path in (_PACKAGE / name).rglob("*.py"))]
    return {f"offline_kit/{path.relative_to(_PACKAGE).as_posix()}": _read(path) for path in sorted(paths)}


def monitoring() -> dict[str, bytes]:
    """Alert rules and dashboards, as the operator gets them. Raises DiskError."""
    folder = root() / "config/monitoring"
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".yml", ".json"))
    return {f"config/monitoring/{path.relative_to(folder).as_posix()}": _read(path) for path in paths}


def page() -> dict[str, bytes]:
    """The gateway's page, as the bundle carries it. Raises DiskError."""
    folder = _PACKAGE / "host" / "page"
    return {f"deploy/page/{path.name}": _read(path) for path in sorted(folder.iterdir())}


def template(name: str) -> str:
    """The text of ``host/templates/NAME``. Raises DiskError."""
    return _read(_PACKAGE / "host" / "templates" / name).decode("utf-8")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DiskError(f"cannot be read: {error.strerror}", where=str(path), remedy="install offline-kit again") from error
