"""What a new project is to serve, as a user names it: a folder, the name of a repository, or a source.

Rules: a folder that exists is a folder, whatever else its name could mean; a key is made of the name where none is given;
what a model is for is told by its facts, and by its name where these say nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import click

from offline_kit.runtime.gpu_plan.engine_memory import Facts
from offline_kit.spec.lock_facts import ModelFacts
from offline_kit.spec.names import KEY, KEY_AT_MOST, SCHEMES, Source

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_NAMES = (("rerank", r"rerank|cross-?encoder"), ("embedding", r"embed|\bbge\b|\bgte\b|\be5\b|minilm"))
_FORMS = "a folder, OWNER/NAME, or one of hf://OWNER/NAME, modelscope://OWNER/NAME, dir:///PATH"
_HEADS = re.compile(r"^(?:classifier|score)\.")


@dataclass(frozen=True)
class WantedModel:
    """One model. ``type`` is empty where it is to be found out."""

    key: str
    source: str
    name: str
    type: str = ""


def parse_wanted(text: str, type: str = "") -> WantedModel:
    """The model that ``[KEY=]FOLDER``, ``[KEY=]OWNER/NAME`` or ``[KEY=]SCHEME://...`` names. Raises BadParameter."""
    key, mark, rest = text.strip().partition("=")
    if not mark or _folder(text) or not re.fullmatch(KEY, key):
        key, rest = "", text.strip()
    source = _source(rest)
    try:
        parsed = Source.parse(source, "model")
    except ValueError as error:
        raise click.BadParameter(f"{rest!r} names no model: {_FORMS}") from error
    name = re.sub(r"[^A-Za-z0-9._-]", "-", parsed.rest.rstrip("/").rpartition("/")[2]).strip("-._")
    return WantedModel(key or make_key(name) or "model", source, name or "model", type)


def make_key(name: str) -> str:
    """``name`` as a key of a manifest; empty where nothing of it can be one."""
    words = re.sub(r"[^a-z0-9.]+", "-", name.lower())
    return re.sub(r"[-.]*\.[-.]*", ".", words)[:KEY_AT_MOST].strip("-.")


def distinct(models: Iterable[WantedModel]) -> list[WantedModel]:
    """The models, each with a key and a name of its own."""
    found: list[WantedModel] = []
    for model in models:
        taken = {other.key.replace(".", "-").replace("_", "-") for other in found} | {other.name for other in found}
        number = 2
        key, name = model.key, model.name
        while key.replace(".", "-").replace("_", "-") in taken or name in taken:
            key, name = f"{model.key[: KEY_AT_MOST - 4]}-{number}", f"{model.name}-{number}"
            number += 1
        found.append(replace(model, key=key, name=name))
    return found


def guess_type(model: WantedModel, facts: ModelFacts | None) -> str:
    """chat, embedding or rerank: what the weights show, or else the name."""
    if model.type:
        return model.type
    if facts and any(_HEADS.match(tensors.name) for tensors in facts.tensors):
        return "rerank"
    for type, words in _NAMES:
        if re.search(words, model.source.lower()):
            return type
    return "embedding" if facts and Facts.of(facts.model_dump(mode="json")).arch.encoder else "chat"


def _folder(text: str) -> Path | None:
    """The folder of this name, absolute; ``~`` and ``~USER`` are homes."""
    try:
        path = Path(text).expanduser()
    except RuntimeError:  # there is no such user
        return None
    return path.resolve() if text and path.is_dir() else None


def _source(text: str) -> str:
    scheme, mark, rest = text.partition("://")
    if mark and scheme in SCHEMES["model"]:
        folder = _folder(rest) if scheme == "dir" else None
        return f"dir://{folder}" if folder else text
    if folder := _folder(text):
        return f"dir://{folder}"
    if _REPOSITORY.fullmatch(text):
        return f"hf://{text}"
    if "/" in text or text.startswith((".", "~")):
        raise click.BadParameter(f"{text!r}: no such folder; a repository is named OWNER/NAME")
    raise click.BadParameter(f"{text!r} is neither a folder nor a repository: {_FORMS}")
