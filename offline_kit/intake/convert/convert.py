"""``convert: safetensors`` of a model: what the lock says of it, and the bytes when they are wanted.

Rules: pickles are scanned, then converted by ``child`` in a process without rights; the lock names source and result by digest;
a result that the store lacks is made again from the source and must be the lock's; the bundle carries only the result.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from offline_kit.common.child_process import TookTooLong, run_child
from offline_kit.common.digest import Digest, read_chunks
from offline_kit.common.errors import DigestMismatch, PolicyRefused, SpecError
from offline_kit.common.files import disk_error, disk_errors
from offline_kit.common.progress import Progress
from offline_kit.intake.convert.child import DISK_FAILED, NOT_CONVERTIBLE, REFUSED
from offline_kit.intake.models import check_weights
from offline_kit.intake.models.scan_pickles import scan_pickles
from offline_kit.intake.store.space import require_space
from offline_kit.intake.store.store import Store
from offline_kit.intake.store.work_folder import work_folder
from offline_kit.runtime.gpu_plan import safetensors, tensor_table
from offline_kit.spec.lock import ConvertedFile, LockedFile, LockedModel
from offline_kit.spec.lock_facts import ModelFacts
from offline_kit.spec.manifest import canonical
from offline_kit.spec.names import converted_name

_SECONDS = 7200.0
_VERSION = 1  # another number converts anew: whatever changes the bytes of a result
Locate = Callable[[LockedFile], Path]


def convert_model(key: str, model: LockedModel, locate: Locate, store: Store, progress: Progress) -> LockedModel:
    """``model``, whose files are at hand, with its pickled weights as safetensors in the store. Raises KitError."""
    sources = [file for file in model.files if converted_name(file.path)]
    scan_pickles(sources, locate, key, store, progress)
    pairs = [ConvertedFile(source=file, result=_result(key, file, locate, store, progress)) for file in sources]
    files = {file.path: file for file in model.files if file not in sources} | {pair.result.path: pair.result for pair in pairs}
    results = [pair.result for pair in pairs]
    heads = [_header(store.path(file.sha256), file) for file in results if file.path.endswith(".safetensors")]
    kept = model.facts
    facts = kept and ModelFacts.model_validate({"config": kept.config, "tensors": [*tensor_table.rows(heads)]})
    ordered = tuple(files[path] for path in sorted(files))
    return model.model_copy(update={"files": ordered, "converted": tuple(pairs), "facts": facts})


def make_results(key: str, model: LockedModel, locate: Locate, store: Store, progress: Progress) -> None:
    """Makes what the store lacks of a locked model's converted files. Raises DigestMismatch where it is not the lock's."""
    for pair in model.converted:
        if not store.has(pair.result.sha256, pair.result.size):
            scan_pickles([pair.source], locate, key, store, progress)
            made = _result(key, pair.source, locate, store, progress)
            if made != pair.result:
                what = f"becomes {made.sha256}, the lock says {pair.result.sha256}"
                raise DigestMismatch(what, where=f"{key}: {pair.source.path}", remedy="run 'offline-kit lock'")


def missing_sources(model: LockedModel, store: Store) -> tuple[LockedFile, ...]:
    """The source files that are needed for what the store lacks."""
    return tuple(pair.source for pair in model.converted if not store.has(pair.result.sha256, pair.result.size))


def _result(key: str, file: LockedFile, locate: Locate, store: Store, progress: Progress) -> LockedFile:
    """The converted file, in the store."""
    path = converted_name(file.path) or ""
    memo = f"convert:{_VERSION}:{file.path}:{file.sha256}"
    if isinstance(known := store.get_memo(memo), list):
        before = LockedFile(path=path, size=known[0], sha256=Digest(known[1]))
        if store.has(before.sha256, before.size):
            return before
    if path.endswith(".json"):
        content = _index(locate(file), f"{key}: {file.path}")
        return LockedFile(path=path, size=len(content), sha256=store.put(content))
    require_space(store, 2 * file.size, "converting weights")
    with work_folder(store.root, "convert-") as work, disk_errors(store.root):
        target, empty = work / "weights", work / "empty"
        empty.mkdir()
        _run_child([str(locate(file).resolve()), str(target), str(empty)], f"{key}: {file.path}", work)
        with target.open("rb", buffering=0) as stream, store.writer() as writer:
            for chunk in read_chunks(stream):
                writer.write(chunk)
            size = writer.size
            digest = writer.commit()
    check_weights.tensors(store.path(digest), size, f"{key}: {path}")
    progress.note(f"{key}: {file.path} became {path}, {digest}", event="converted", source=file.path, result=path)
    store.put_memo(memo, [size, str(digest)])
    return LockedFile(path=path, size=size, sha256=digest)


def _run_child(arguments: Sequence[str], where: str, folder: Path) -> None:
    command = [sys.executable, "-I", "-m", "offline_kit.intake.convert.child", *arguments]
    try:
        ended = run_child(command, seconds=_SECONDS, folder=folder)
    except TookTooLong as error:
        raise SpecError(
            f"was not converted within {_SECONDS:.0f} s", where=where, remedy="build on a faster machine"
        ) from error
    if ended.code == REFUSED:
        remedy = "do not load it anywhere; tell its publisher, or use another revision"
        raise PolicyRefused(ended.last_line, where=where, remedy=remedy)
    if ended.code == DISK_FAILED:
        number = int(ended.last_line.split(" ")[0])
        raise disk_error(OSError(number, os.strerror(number)), Path(arguments[0]))
    if ended.code:
        what = ended.last_line if ended.code == NOT_CONVERTIBLE else f"the converter ended with {ended.code}: {ended.last_line}"
        raise SpecError(f"cannot be converted: {what}", where=where, remedy="leave 'convert' out and say 'allow_pickle: true'")


def _index(path: Path, where: str) -> bytes:
    """An index of shards with the names of the converted ones."""
    try:
        found = json.loads(path.read_bytes())
        weights = {str(name): converted_name(shard) or shard for name, shard in found["weight_map"].items()}
        return canonical({"metadata": found.get("metadata", {}), "weight_map": weights}).encode()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise SpecError("is not an index of weights", where=where) from error


def _header(path: Path, file: LockedFile) -> safetensors.Header:
    with path.open("rb") as stream:
        head = stream.read(safetensors.PREFIX)
        head += stream.read(safetensors.head_length(head) - safetensors.PREFIX)
    return check_weights.parse_header(head, file.size, file.path)
