"""What the GPU plan needs to know of a model, read when it is locked: config.json and the heads of its weights files.

Rules: no weights are read, a head of some kilobytes by HTTP range or from disk; what was read once is kept in the store under
the file's digest; a file whose head is no safetensors header is a whole file of unknown content, never an error, for whether it
is broken is decided where all of its bytes are. These facts are as true as the source: a plan rests on them, no proof does.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from offline_kit.intake import crew
from offline_kit.intake.disk import disk_error
from offline_kit.intake.line import Line
from offline_kit.intake.store import Store
from offline_kit.intake.transfer import Download
from offline_kit.runtime import arch, tensors
from offline_kit.spec.lock import LockedFile, ModelFacts

FIRST = 128 << 10  # most headers are shorter: one question instead of two
Read = Callable[[LockedFile, int, int], bytes]  # file, from, to (exclusive) -> these bytes, or fewer at the end of the file


def facts(files: Sequence[LockedFile], read: Read, store: Store, line: Line, jobs: int) -> ModelFacts | None:
    """The facts of the model with these ``files``; None when it has no config.json. Raises KitError."""
    by_path = {file.path: file for file in files}
    config = by_path.get("config.json")
    if config is None:
        return None
    try:
        kept = arch.subset(json.loads(read(config, 0, config.size)))
    except (ValueError, AttributeError):
        return None
    names = tensors.weights_files(by_path)
    work = [functools.partial(_header, by_path[name], read, store) for name in names]
    headers = crew.run(work, jobs, line.stop)
    whole = [tensors.file_row(name, by_path[name].size) for name, head in zip(names, headers, strict=True) if head is None]
    try:
        rows = tensors.rows(head for head in headers if head is not None)
    except ValueError:
        whole, rows = [tensors.file_row(name, by_path[name].size) for name in names], []
    return ModelFacts.model_validate({"config": kept, "tensors": [*rows, *whole]})


def _header(file: LockedFile, read: Read, store: Store) -> dict[str, Any] | None:
    """The header of one file, without what the plan does not need, or None where it has none."""
    if not file.path.endswith(".safetensors"):
        return None
    memo = f"header:1:{file.sha256}"
    held = store.noted(memo)
    if held is None:
        held = _parsed(file, read)
        store.note(memo, held)
    return held if isinstance(held, dict) and held else None


def _parsed(file: LockedFile, read: Read) -> dict[str, Any]:
    head = read(file, 0, min(FIRST, file.size))
    length = tensors.head_length(head)
    if not 2 <= length <= min(tensors.LIMIT, file.size - 8):
        return {}
    if len(head) < 8 + length:
        head += read(file, len(head), 8 + length)
    try:
        header = json.loads(head[8 : 8 + length])
        tensors.rows([header])
    except (ValueError, AttributeError):
        return {}
    found: dict[str, Any] = header
    return found


def from_disk(locate: Callable[[LockedFile], Path]) -> Read:
    """Reads from the place of a file. Raises DiskError."""

    def read(file: LockedFile, start: int, end: int) -> bytes:
        path = locate(file)
        try:
            with path.open("rb") as stream:
                stream.seek(start)
                return stream.read(end - start)
        except OSError as error:
            raise disk_error(error, path) from error

    return read


def from_web(item: Callable[[LockedFile], Download], store: Store, line: Line) -> Read:
    """Reads from the store where the file is in it, otherwise by range. Raises KitError."""
    stored = from_disk(lambda file: store.path(file.sha256))

    def read(file: LockedFile, start: int, end: int) -> bytes:
        if store.has(file.sha256, file.size):
            return stored(file, start, end)
        wish = item(file)

        def attempt() -> bytes:
            span = {**wish.headers, "Range": f"bytes={start}-{end - 1}"}
            with line.get(wish.url, span, wish.auth) as response:
                if response.status_code not in (200, 206):
                    raise wish.refuse(response)
                # A server that ignores the range sends the file from its start: then what comes before is passed over.
                skip = start if response.status_code == 200 else 0
                body = response.raw.read(skip + end - start)
                return bytes(body[skip:])

        return line.persist(wish.url, attempt)

    return read
