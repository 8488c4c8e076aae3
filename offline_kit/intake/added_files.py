"""``add:`` and ``chat_template:`` of a model: files that its folder gets beside those of its source.

Rules: the manifest demands their sha256, as of ``files:``, and they come the same way; nothing of the source is replaced by
them; what is in the lock is among the model's files, so that whoever carries or proves those need not know.
"""

from __future__ import annotations

import functools
from pathlib import Path

from offline_kit.common import concurrency
from offline_kit.common.budget import SMALL_DOCUMENT
from offline_kit.common.errors import SpecError
from offline_kit.common.files import read_plain_file
from offline_kit.intake.sources import file as sources
from offline_kit.intake.sources.base import Context, FetchTask
from offline_kit.spec.lock import LockedFile, LockedModel
from offline_kit.spec.lock_facts import ModelNeeds
from offline_kit.spec.manifest import CHAT_TEMPLATE, ModelSpec
from offline_kit.spec.parsers import marks_in


def with_added(key: str, locked: LockedModel, entry: ModelSpec, context: Context) -> LockedModel:
    """The model with the files that the manifest adds. Raises KitError."""
    if not entry.added:
        return locked
    names = {file.path.lower() for file in locked.files}
    for path in entry.added:
        if path.lower() in names:
            remedy = f"exclude: ['{path}'] to take the other, or leave it out of 'add' and 'chat_template'"
            raise SpecError(f"has {path} itself", where=f"models.{key} ({entry.source})", remedy=remedy)
    added = {path: sources.resolve(_place(key, path), spec, locked.spec_digest, context) for path, spec in entry.added.items()}
    files = [*locked.files, *(LockedFile(path=path, size=extra.size, sha256=extra.sha256) for path, extra in added.items())]
    whole = locked.model_copy(update={"added": added, "files": tuple(sorted(files, key=lambda file: file.path))})
    return _with_template(key, whole, entry, context) if CHAT_TEMPLATE in added else whole


def pieces(key: str, locked: LockedModel, entry: ModelSpec, context: Context) -> list[FetchTask]:
    """What has to be brought of the added files."""
    found: list[FetchTask] = []
    for path, extra in locked.added.items():
        found += sources.pieces(_place(key, path), extra, entry.added[path], context)
    return found


def local_path(file: LockedFile, locked: LockedModel, entry: ModelSpec, context: Context) -> Path:
    """Where an added file is, once its piece was brought."""
    return sources.local_path(locked.added[file.path], entry.added[file.path], context)


def _with_template(key: str, locked: LockedModel, entry: ModelSpec, context: Context) -> LockedModel:
    """The model with what its new chat template shows; the template is brought for that. Raises KitError."""
    where, extra, spec = _place(key, CHAT_TEMPLATE), locked.added[CHAT_TEMPLATE], entry.added[CHAT_TEMPLATE]
    work = [functools.partial(piece.run, lambda _amount: None) for piece in sources.pieces(where, extra, spec, context)]
    concurrency.run_all(work, context.jobs, context.client.stop)
    try:
        text = read_plain_file(sources.local_path(extra, spec, context), SMALL_DOCUMENT, follow=True).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError("is not a text that can be read", where=where, remedy="save the template as UTF-8") from error
    if "{{" not in text and "{%" not in text:
        remedy = "name a Jinja template, as tokenizer_config.json of such models has it"
        raise SpecError("is no chat template: it has no place for a message", where=where, remedy=remedy)
    needs = (locked.needs or ModelNeeds()).model_copy(update={"chat_template": True, "template_marks": marks_in([text])})
    return locked.model_copy(update={"needs": needs})


def _place(key: str, path: str) -> str:
    """Where it stands in the manifest, and with a slash for the first point, in the kit."""
    return f"models.{key}/{path}"
