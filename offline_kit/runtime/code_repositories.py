"""Code of another repository, which ``auto_map`` of a model names as ``OWNER/NAME--FILE.CLASS``: where transformers finds it.

Rules: the kit carries that repository as a model of its own; what is made here is links in the layout of a hub's cache
(huggingface_hub: ``file_download.py`` repo_folder_name, refs, snapshots), the only place that is asked offline; a snapshot is
named by its content, so that changed code is never taken for what was loaded before.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from .settings.model import Model

MODELS = Path("/models")
CACHE = "huggingface/hub"  # the hub's cache, below the folder that an engine may write
_COMMIT, _BRANCH = re.compile(r"[0-9a-f]{40}"), re.compile(r"(?!.*\.\.)[A-Za-z0-9][\w./-]{0,95}", re.ASCII)


def provide(model: Model, cache: Path, models: Path = MODELS) -> None:
    """Links the repositories of ``model`` into the hub's ``cache``, below the names that it asks for. Raises OSError.

    transformers asks for ``main``, unless ``code_revision`` says otherwise; both mean what the kit carries.
    """
    for name, folder in sorted(model.code.items()):
        code = models / folder
        commit, repository = _commit(code), cache / f"models--{name.replace('/', '--')}"
        for revision in ("main", str(model.engine_args.get("code-revision") or "main")):
            if _COMMIT.fullmatch(revision):
                _link(repository / "snapshots" / revision, code)
            elif _BRANCH.fullmatch(revision):
                _link(repository / "snapshots" / commit, code)
                reference = repository / "refs" / revision
                reference.parent.mkdir(parents=True, exist_ok=True)
                reference.write_text(commit, "ascii")


def _link(place: Path, code: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_symlink():
        place.unlink()
    place.symlink_to(code, target_is_directory=True)


def _commit(code: Path) -> str:
    """Forty hex digits over the Python files, as a commit has. Raises FileNotFoundError where there are none."""
    digest = hashlib.sha256()
    files = sorted(code.rglob("*.py"))
    if not files:
        raise FileNotFoundError(2, "has no Python files", str(code))
    for path in files:
        for data in (path.relative_to(code).as_posix().encode(), path.read_bytes()):
            digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:40]
