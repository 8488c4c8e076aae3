"""A manifest with the files around it: its configuration files and its lock.

Rules: each file is read once, plain files of a size that such documents have; what is wrong in one is said with its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from offline_kit.common.budget import SMALL_DOCUMENT
from offline_kit.common.errors import DiskError, SpecError
from offline_kit.common.files import read_plain_file
from offline_kit.host.validate import Services, check_services
from offline_kit.spec.document import decode_text
from offline_kit.spec.lock import Lock, parse_lock
from offline_kit.spec.manifest import Manifest, parse_manifest
from offline_kit.spec.policy import Policy

Policies = tuple[tuple[str, Policy], ...]


@dataclass(frozen=True)
class Project:
    """A manifest with the files around it, read once."""

    manifest: Manifest
    folder: Path
    config: dict[str, bytes]
    services: Services
    lock_path: Path
    lock: Lock | None
    policies: Policies = ()


def open_project(manifest_path: Path, policies: Policies = ()) -> Project:
    """Reads and checks a manifest, its configuration files and its lock. Raises SpecError, DiskError.

    ``policies``: of the site, each with its name; they hold beside that of the manifest.
    """
    manifest = parse_manifest(decode_text(_read(manifest_path, "manifest"), str(manifest_path)), str(manifest_path))
    folder = manifest_path.parent
    config = {
        "models.json": _read(folder / manifest.services, f"'services' of {manifest_path}"),
        "vllm_config.yaml": _read(folder / manifest.engine_config, f"'engine_config' of {manifest_path}"),
    }
    if manifest.environment is not None:
        config["environment.yaml"] = _read(folder / manifest.environment, f"'environment' of {manifest_path}")
    services = check_services(config, manifest.models.keys(), manifest.accelerator)
    lock_path = manifest_path.with_suffix(".lock.json")
    lock = _read_lock(lock_path)
    own = [(f"the policy of {manifest_path}", manifest.policy.located_in(folder))] if manifest.policy else []
    return Project(manifest, folder, config, services, lock_path, lock, (*own, *policies))


def _read_lock(path: Path) -> Lock | None:
    if not path.exists():
        return None
    text = _read(path, "lock")
    try:
        return parse_lock(text.decode("utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise SpecError("is not UTF-8", where=str(path), remedy="run 'offline-kit lock' to write it anew") from error


def _read(path: Path, what: str) -> bytes:
    try:
        return read_plain_file(path, SMALL_DOCUMENT, follow=True)
    except FileNotFoundError as error:
        raise SpecError(f"no such file ({what})", where=str(path), remedy="'offline-kit init' writes an example") from error
    except OSError as error:
        raise DiskError(f"cannot be read ({what}): {error.strerror}", where=str(path)) from error
