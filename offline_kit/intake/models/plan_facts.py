"""What the GPU plan needs to know of a model, read when it is locked: config.json and the heads of its weights files.

Rules: no weights are read, a head of some kilobytes by HTTP range or from disk; what was read once is kept in the store, under
the file's digest where its bytes were proven to have that, else under the address that told it besides: what one hub says of a
digest is never believed of another's file; a safetensors file whose head and size say that it is not whole is refused here,
before its gigabytes are fetched; weights without such a header (pickle) are a whole file of unknown content. These facts are as
true as the source: a plan rests on them, no proof does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from offline_kit.common import concurrency
from offline_kit.common.budget import SMALL_DOCUMENT
from offline_kit.common.digest import Digest
from offline_kit.common.files import disk_error
from offline_kit.common.json_text import parse_json
from offline_kit.intake.models.check_weights import parse_header
from offline_kit.intake.store.store import Store
from offline_kit.intake.transfer.body import iter_body
from offline_kit.intake.transfer.http_client import HttpClient
from offline_kit.intake.transfer.request import DownloadRequest
from offline_kit.runtime.gpu_plan import architecture, safetensors, tensor_table
from offline_kit.spec.lock import LockedFile
from offline_kit.spec.lock_facts import ModelFacts

FIRST = 128 << 10  # most headers are shorter: one question instead of two


class Reader(Protocol):
    """Reads the head of files that are not all here yet."""

    def __call__(self, file: LockedFile, start: int, end: int, /) -> bytes:
        """The bytes from ``start`` up to ``end``, or fewer at the end of the file. Raises KitError."""
        ...

    def reported_by(self, file: LockedFile) -> str:
        """Who says what the bytes are: an address, or empty where they were proven to have the file's digest."""
        ...


def facts(files: Sequence[LockedFile], read: Reader, store: Store, client: HttpClient, jobs: int) -> ModelFacts | None:
    """The facts of the model with these ``files``; None when it has no config.json. Raises KitError."""
    by_path = {file.path: file for file in files}
    config = by_path.get("config.json")
    if config is None:
        return None
    try:
        kept = architecture.subset(parse_json(read(config, 0, min(config.size, SMALL_DOCUMENT + 1))))
    except (ValueError, AttributeError, TypeError):
        return None
    names = tensor_table.weights_files(by_path)
    work = [functools.partial(_header, by_path[name], read, store) for name in names]
    headers = concurrency.run_all(work, jobs, client.stop)
    whole = [tensor_table.file_row(name, by_path[name].size) for name, head in zip(names, headers, strict=True) if head is None]
    rows = tensor_table.rows(head for head in headers if head is not None)
    return ModelFacts.model_validate({"config": kept, "tensors": [*rows, *whole]})


def facts_in_folder(root: Path, paths: Sequence[str]) -> ModelFacts | None:
    """The facts of the model whose files are ``paths`` below ``root``: heads and config.json, no file is read whole.

    Raises DiskError, DigestMismatch (a safetensors file that is not whole).
    """
    if "config.json" not in paths:
        return None
    names = tensor_table.weights_files(paths)
    try:
        with (root / "config.json").open("rb") as stream:
            kept = architecture.subset(parse_json(stream.read(SMALL_DOCUMENT + 1)))
        sizes = {name: (root / name).stat().st_size for name in names}
        heads = {name: _head(root / name) for name in names if name.endswith(".safetensors")}
    except (ValueError, AttributeError, TypeError):
        return None
    except OSError as error:
        raise disk_error(error, root) from error
    rows = tensor_table.rows(parse_header(head, sizes[name], str(root / name)) for name, head in heads.items())
    whole = [tensor_table.file_row(name, size) for name, size in sizes.items() if name not in heads]
    return ModelFacts.model_validate({"config": kept, "tensors": [*rows, *whole]})


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        head = stream.read(safetensors.PREFIX)
        return head + stream.read(safetensors.head_length(head) - safetensors.PREFIX)


def _header(file: LockedFile, read: Reader, store: Store) -> safetensors.Header | None:
    """The tensors of one file, or None where it is no safetensors file. Raises DigestMismatch (not whole)."""
    if not file.path.endswith(".safetensors"):
        return None
    by = read.reported_by(file)
    memo = f"header:3:{file.sha256}:{file.size}" + (f":{Digest.of(by.encode())}" if by else "")
    kept: safetensors.Header | None = store.get_memo(memo)
    if kept is None:
        kept = _parsed(file, read)
        store.put_memo(memo, kept)
    return kept


def _parsed(file: LockedFile, read: Reader) -> safetensors.Header:
    head = read(file, 0, min(FIRST, file.size))
    wanted = safetensors.head_length(head)
    if len(head) < min(wanted, file.size):
        head += read(file, len(head), min(wanted, file.size))
    return parse_header(head[:wanted], file.size, file.path)


@dataclass(frozen=True)
class FromDisk:
    """Reads from the place of a file, which was hashed there."""

    locate: Callable[[LockedFile], Path]

    def reported_by(self, file: LockedFile) -> str:
        return ""

    def __call__(self, file: LockedFile, start: int, end: int) -> bytes:
        """Raises DiskError."""
        path = self.locate(file)
        try:
            with path.open("rb") as stream:
                stream.seek(start)
                return stream.read(end - start)
        except OSError as error:
            raise disk_error(error, path) from error


@dataclass(frozen=True)
class FromWeb:
    """Reads from the store where the file is in it, otherwise by range."""

    item: Callable[[LockedFile], DownloadRequest]
    store: Store
    client: HttpClient

    def reported_by(self, file: LockedFile) -> str:
        return "" if self.store.has(file.sha256, file.size) else self.item(file).url

    def __call__(self, file: LockedFile, start: int, end: int) -> bytes:
        """Raises KitError."""
        if self.store.has(file.sha256, file.size):
            return FromDisk(lambda file: self.store.path(file.sha256))(file, start, end)
        if start >= end:  # of an empty file there is no range to ask for: servers answer 416
            return b""
        request = self.item(file)

        def attempt() -> bytes:
            span = {**request.headers, "Range": f"bytes={start}-{end - 1}"}
            with self.client.get(request.url, span, request.auth) as response:
                if response.status_code not in (200, 206):
                    raise request.refuse(response)
                # A server that ignores the range sends the file from its start: then what comes before is passed over.
                skip = start if response.status_code == 200 else 0
                body = bytearray()
                for piece in iter_body(response, skip + end - start, self.client.least_rate()):
                    body += piece
                    if len(body) >= skip + end - start:
                        break
                return bytes(body[skip : skip + end - start])

        return self.client.retrying(request.url, attempt)
