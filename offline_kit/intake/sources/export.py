"""Reading what a Docker engine exports, as a stream.

Rules: nothing but layers goes to disk, and those straight into the store in their final form; all three ways of writing an
export are understood (folders with ``layer.tar``, an OCI layout with plain tars, an OCI layout as it came from a registry);
which file is what is decided by its content and by the export's own lists, which come last in the stream.
"""

from __future__ import annotations

import contextlib
import itertools
import posixpath
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from offline_kit.common.budget import Budget, OverBudget
from offline_kit.common.digest import Digest, read_chunks
from offline_kit.common.errors import DigestMismatch, DockerError, Interrupted
from offline_kit.common.json_text import parse_json
from offline_kit.intake.sources import image, image_layers
from offline_kit.intake.sources.base import Context

_BLOB = re.compile("blobs/sha256/([0-9a-f]{64})")
_SMALL = 8 << 20  # bytes: no configuration or manifest is larger


@dataclass(frozen=True)
class Export:
    """``manifest``: the image's own, if it describes the layers as we carry them."""

    config: bytes
    manifest: bytes | None


@dataclass
class _Contents:
    documents: dict[str, bytes] = field(default_factory=dict)
    diff_ids: dict[str, Digest] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    budget: Budget = field(default_factory=lambda: Budget(kept=64 << 20))

    def at(self, path: str) -> str:
        """The path behind a link."""
        for _ in range(8):
            if path not in self.links:
                break
            path = self.links[path]
        return path


def read_export(pieces: Iterable[bytes], name: str, context: Context) -> Export:
    """Puts every layer into the store. Raises DigestMismatch (wrong diff ID), DockerError (incomplete), DiskError."""
    contents = _Contents()
    try:
        stream: Any = _Stream(pieces, context)
        with tarfile.open(fileobj=stream, mode="r|", bufsize=1 << 20) as archive:
            for member in archive:
                contents.budget.add_entry(member.name)
                if member.issym() or member.islnk():
                    folder = "" if member.islnk() else posixpath.dirname(member.name)
                    contents.links[member.name] = posixpath.normpath(posixpath.join(folder, member.linkname))
                elif member.isfile():
                    _take(archive, member, contents, name, context)
    except (tarfile.TarError, OverBudget) as error:
        raise DockerError(f"the engine's export is damaged: {error}", where=name, remedy="run the command again") from error
    config_path, layer_paths = _lists(contents, context.platform, name)
    config = contents.documents.get(contents.at(config_path))
    if config is None:
        raise DockerError("the engine's export has no configuration", where=name, remedy="pull or build the image again")
    for path, expected in image.pair(layer_paths, image.read_config(config, context.platform, name), name):
        if (found := contents.diff_ids.get(contents.at(path))) is not None:
            image_layers.prove(found, expected, f"{name}: {path}")
    return Export(config, _own_manifest(contents, config, context))


def _take(archive: tarfile.TarFile, member: tarfile.TarInfo, contents: _Contents, name: str, context: Context) -> None:
    """One file of the export."""
    found = _BLOB.fullmatch(member.name)
    blob = found[1] if found else None
    if blob is not None and image_layers.converted(context.store, Digest(blob)) is not None:
        contents.diff_ids[member.name] = Digest(blob)  # a plain tar is named by its diff ID, and this one is known
        return
    stream = archive.extractfile(member)
    if stream is None:
        return
    if member.size <= _SMALL and not member.name.endswith("layer.tar"):
        data = stream.read()
        if data.lstrip()[:1] in (b"{", b"[") and data[257:262] != b"ustar":
            if blob is not None and Digest.of(data) != Digest(blob):
                raise DigestMismatch(f"has digest {Digest.of(data)}", where=f"{name}: {member.name}")
            contents.budget.keep(len(data))
            contents.documents[member.name] = data
        elif blob is not None:
            contents.diff_ids[member.name] = _layer(iter((data,)), Digest(blob), f"{name}: {member.name}", context)
    elif blob is not None or member.name.endswith("layer.tar"):
        expected = Digest(blob) if blob is not None else None
        contents.diff_ids[member.name] = _layer(_chunks(stream), expected, f"{name}: {member.name}", context)


def _layer(pieces: Iterator[bytes | memoryview], named: Digest | None, title: str, context: Context) -> Digest:
    """Stores a layer of any form as gzip; its diff ID. ``named``: the digest of the bytes as they come."""
    head = bytes(next(pieces, b""))
    whole = itertools.chain((head,), pieces)
    store, form = context.store, image_layers.form(head)
    if form == "tar":
        return image_layers.compress(store, whole, named, title)[0]
    with store.writer() as writer:
        for piece in whole:
            writer.write(piece)
        digest, size = writer.commit(named, None, title), writer.size
    if form == "zstd":
        diff_id = image_layers.compress(store, image_layers.unpacked(store.path(digest), title), None, title)[0]
        store.evict(digest)
        return diff_id
    diff_id = image_layers.diff_id(store.path(digest), title)
    image_layers.keep(store, diff_id, digest, size)
    return diff_id


def _lists(contents: _Contents, platform: str, name: str) -> tuple[str, list[str]]:
    """Paths of the configuration and the layers, from Docker's list or the OCI index."""
    try:
        if "manifest.json" in contents.documents:
            entry = parse_json(contents.documents["manifest.json"])[0]
            return posixpath.normpath(entry["Config"]), [posixpath.normpath(path) for path in entry["Layers"]]
        index: dict[str, Any] = parse_json(contents.documents["index.json"])
        for _ in range(3):
            fitting = [item for item in index["manifests"] if _fits(item, platform)]
            index = parse_json(contents.documents[_path(fitting[0])])
            if "layers" in index:
                return _path(index["config"]), [_path(layer) for layer in index["layers"]]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise DockerError("the engine's export cannot be read", where=name, remedy="pull or build the image again") from error
    raise DockerError("the engine's export holds no image", where=name, remedy="pull or build the image again")


def _own_manifest(contents: _Contents, config: bytes, context: Context) -> bytes | None:
    """The image's own OCI manifest, if its layers are exactly those that we carry."""
    for data in contents.documents.values():
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):  # then it is none
            raw = parse_json(data)
            if raw["mediaType"] != image.OCI_MANIFEST or raw["config"]["digest"] != str(Digest.of(config)):
                continue
            carried = [
                image_layers.converted(context.store, contents.diff_ids[path])
                for path in map(_path, raw["layers"])
                if path in contents.diff_ids
            ]
            if carried == [(Digest(layer["digest"]), layer["size"]) for layer in raw["layers"]]:
                return data
    return None


def _fits(item: dict[str, Any], platform: str) -> bool:
    return "platform" not in item or image.matches(image.platform_of(item["platform"]), platform)


def _path(descriptor: dict[str, Any]) -> str:
    return "blobs/sha256/" + str(descriptor["digest"]).removeprefix("sha256:")


def _chunks(stream: IO[bytes]) -> Iterator[memoryview]:
    yield from read_chunks(stream)  # type: ignore[arg-type]  # an ExFileObject has readinto


class _Stream:
    """The pieces of an HTTP body as the file that tarfile reads."""

    def __init__(self, pieces: Iterable[bytes], context: Context) -> None:
        self._pieces, self._buffer, self._context = iter(pieces), b"", context

    def read(self, size: int) -> bytes:
        if self._context.client.stopped.is_set():
            raise Interrupted("stopped")
        while len(self._buffer) < size and (piece := next(self._pieces, b"")):
            self._buffer = self._buffer + piece if self._buffer else piece
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken
