"""Writing what apply decided.

Rules: a file is written beside and renamed, and only when content, mode or owner change, so that a second run changes nothing;
what holds a secret is 0600 from its first byte and belongs to the services' user; what the configuration no longer means is
taken away; only ``.state/`` is written.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import List, Mapping, Tuple

SECRETS = ("gateway/keys.conf", "gateway/tls/server.key", "grafana/password")
# Folders that hold nothing but what apply wrote.
OWN = (".state/gateway/models", ".state/gateway/tls", ".state/monitoring/prometheus", ".state/monitoring/grafana")
User = Tuple[int, int]


def write(kit: Path, contents: Mapping[str, str], user: User) -> List[str]:
    """Writes ``contents`` (path below the kit -> text); returns the paths that changed. Raises OSError."""
    changed = []
    operator = (os.getuid(), os.getgid())
    for place in sorted({str(Path(path).parent) for path in contents} - {".state"}):
        folder(kit / place, operator, 0o755)
    for path, content in contents.items():
        secret = path.endswith(SECRETS)
        if _replace(kit / path, content, 0o600 if secret else 0o644, user if secret else operator):
            changed.append(path)
    return changed + _take_away(kit, contents)


def folder(path: Path, user: User, mode: int) -> None:
    """Makes the folder ``path``, or gives it this owner and mode. Raises OSError."""
    path.mkdir(parents=True, exist_ok=True)
    if not _as_wanted(path, mode, user):
        path.chmod(mode)
        _give(path, user)


def _replace(target: Path, content: str, mode: int, owner: User) -> bool:
    if target.is_file() and target.read_text("utf-8") == content and _as_wanted(target, mode, owner):
        return False
    partial = target.with_name(target.name + ".new")
    if partial.exists():
        partial.unlink()
    descriptor = os.open(str(partial), os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    partial.chmod(mode)
    _give(partial, owner)
    partial.replace(target)
    return True


def _take_away(kit: Path, contents: Mapping[str, str]) -> List[str]:
    gone = []
    for place in OWN:
        for extra in sorted((kit / place).iterdir()) if (kit / place).is_dir() else []:
            if f"{place}/{extra.name}" not in contents and extra.is_file():
                extra.unlink()
                gone.append(f"{place}/{extra.name}")
    return gone


def _as_wanted(path: Path, mode: int, user: User) -> bool:
    status = path.stat()
    return status.st_mode & 0o777 == mode and (os.getuid() != 0 or (status.st_uid, status.st_gid) == user)


def _give(path: Path, user: User) -> None:
    # Only root can give a file away; for anybody else the services run as the operator, who owns it already.
    if os.getuid() == 0:
        os.chown(str(path), user[0], user[1])
