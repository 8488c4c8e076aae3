"""What pickled weights would do when they are loaded, read from their opcodes; nothing of them is ever run.

Rules: every pickle of a model is looked at, ``allow_pickle`` or not; what calls something dangerous, and what is a pickle and
cannot be read to its end, is refused by name; a name that weights seldom need is told. Which names are dangerous is for
picklescan to know: a list of names is never whole, so a finding is proof and none is not.
"""

from __future__ import annotations

import importlib.metadata
import logging
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from offline_kit.common.errors import PolicyRefused
from offline_kit.common.progress import Progress
from offline_kit.intake.store.store import Store
from offline_kit.spec.lock import LockedFile
from offline_kit.spec.names import PICKLES

_SUFFIX = ".bin"  # picklescan goes by suffix first: as torch saves it, whatever the file is called


def scan_pickles(
    files: Iterable[LockedFile], locate: Callable[[LockedFile], Path], model: str, store: Store, progress: Progress
) -> None:
    """Looks at every pickle among the files of a model. Raises PolicyRefused that names all that is dangerous."""
    refused = []
    for file in files:
        if PurePosixPath(file.path).suffix.lower() not in PICKLES:
            continue
        verdict = _verdict(file, locate, store)
        if verdict["dangerous"]:
            refused.append(f"{file.path} would call {', '.join(verdict['dangerous'])}")
        elif verdict["unreadable"]:
            refused.append(f"{file.path} is a pickle that cannot be read to its end")
        elif verdict["unusual"]:
            what = f"{file.path} names {', '.join(verdict['unusual'][:5])}, which weights seldom need"
            progress.note(f"warning: {model}: {what}", event="finding", where=model, what=what)
    if refused:
        remedy = "do not load it anywhere; tell its publisher, use another revision, or leave the file out with 'exclude'"
        raise PolicyRefused("; ".join(refused), where=model, remedy=remedy)


def pickle_verdicts(files: Iterable[LockedFile], locate: Callable[[LockedFile], Path], store: Store) -> dict[str, str]:
    """What was read of each pickle that ``scan_pickles`` let pass, by its path."""
    found = {}
    for file in files:
        if PurePosixPath(file.path).suffix.lower() in PICKLES:
            unusual = _verdict(file, locate, store)["unusual"]
            found[file.path] = f"names {', '.join(unusual[:5])}, which weights seldom need" if unusual else "clean"
    return found


def scanner_version() -> str:
    """What reads the pickles."""
    return f"picklescan {importlib.metadata.version('picklescan')}"


def _verdict(file: LockedFile, locate: Callable[[LockedFile], Path], store: Store) -> dict[str, Any]:
    """What was found in the file, now or before by the same version of the scanner."""
    memo = f"pickle:{importlib.metadata.version('picklescan')}:{file.sha256}"
    known = store.get_memo(memo)
    if isinstance(known, dict):
        return known
    found = scan_file(locate(file))
    store.put_memo(memo, found)
    return found


def scan_file(path: Path) -> dict[str, Any]:
    """``dangerous`` and ``unusual``: names that would be called; ``unreadable``: a pickle, or an archive, that is cut."""
    from picklescan import scanner  # noqa: PLC0415  only a model with pickles needs it

    logging.getLogger("picklescan").setLevel(logging.CRITICAL)  # what it finds is said once, by us
    try:
        with path.open("rb") as stream:
            result = scanner.scan_bytes(stream, path.name, _SUFFIX)
        unreadable = bool(result.scan_err)
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, RuntimeError, IndexError, KeyError):
        return {"dangerous": [], "unusual": [], "unreadable": True}
    by_level: dict[str, set[str]] = {}
    for item in result.globals:
        by_level.setdefault(item.safety.value, set()).add(f"{item.module}.{item.name}")
    return {
        "dangerous": sorted(by_level.get("dangerous", ())),
        "unusual": sorted(by_level.get("suspicious", ())),
        "unreadable": unreadable,
    }
