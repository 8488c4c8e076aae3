"""Reading what a Docker engine exports, as a stream.

Rules: nothing but layers goes to disk, and those straight into the store in their final form; all three ways of writing an
export are understood (folders with ``layer.tar``, an OCI layout with plain tars, an OCI layout as it came from a registry);
which file is what is decided by its content and by the export's own lists, which come last in the stream.
"""

from __future__ import annotations

import itertools
import json
import posixpath
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from offline_kit.digest import Digest, read_chunks
from offline_kit.errors import DigestMismatch, DockerError, Interrupted
from offline_kit.intake import layers
from offline_kit.intake.sources import image
from offline_kit.intake.sources.base import Context

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
                if member.issym() or member.islnk():
                    folder = "" if member.islnk() else posixpath.dirname(member.name)
                    contents.links[member.name] = posixpath.normpath(posixpath.join(folder, member.linkname))
                elif member.isfile():
                    _take(archive, member, contents, name, context)
    except tarfile.TarError as error:
        raise DockerError(f"the engine's export is damaged: {error}", where=name, remedy="run the command again") from error
    config_path, layer_paths = _lists(contents, context.platform, name)
    config = contents.documents.get(contents.at(config_path))
    if config is None:
        raise DockerError("the engine's export has no configuration", where=name, remedy="pull or build the image again")
    for path, expected in image.pair(layer_paths, image.read_config(config, context.platform, name), name):
        if (found := contents.diff_ids.get(contents.at(path))) is not None:
            layers.prove(found, expected, f"{name}: {path}")
    return Export(config, _own_manifest(contents, config, context))


def _take(archive: tarfile.TarFile, member: tarfile.TarInfo, contents: _Contents, name: str, context: Context) -> None:
    """One file of the export."""
    blob = posixpath.basename(member.name) if member.name.startswith("blobs/sha256/") else None
    if blob is not None and layers.converted(context.store, Digest(blob)) is not None:
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
    store, form = context.store, layers.form(head)
    if form == "tar":
        return layers.compress(store, whole, named, title)[0]
    with store.writer() as writer:
        for piece in whole:
            writer.write(piece)
        digest, size = writer.commit(named, None, title), writer.size
    if form == "zstd":
        diff_id = layers.compress(store, layers.unpacked(store.path(digest), title), None, title)[0]
        store.evict(digest)
        return diff_id
    diff_id = layers.diff_id(store.path(digest), title)
    layers.keep(store, diff_id, digest, size)
    return diff_id


def _lists(contents: _Contents, platform: str, name: str) -> tuple[str, list[str]]:
    """Paths of the configuration and the layers, from Docker's list or the OCI index."""
    try:
        if "manifest.json" in contents.documents:
            entry = json.loads(contents.documents["manifest.json"])[0]
            return posixpath.normpath(entry["Config"]), [posixpath.normpath(path) for path in entry["Layers"]]
        index: dict[str, Any] = json.loads(contents.documents["index.json"])
        for _ in range(3):
            fitting = [item for item in index["manifests"] if _fits(item, platform)]
            index = json.loads(contents.documents[_path(fitting[0])])
            if "layers" in index:
                return _path(index["config"]), [_path(layer) for layer in index["layers"]]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise DockerError("the engine's export cannot be read", where=name, remedy="pull or build the image again") from error
    raise DockerError("the engine's export holds no image", where=name, remedy="pull or build the image again")


def _own_manifest(contents: _Contents, config: bytes, context: Context) -> bytes | None:
    """The image's own OCI manifest, if its layers are exactly those that we carry."""
    for data in contents.documents.values():
        raw = json.loads(data)
        if not isinstance(raw, dict) or raw.get("mediaType") != image.OCI_MANIFEST or "layers" not in raw:
            continue
        carried = [
            layers.converted(context.store, contents.diff_ids[path])
            for path in map(_path, raw["layers"])
            if path in contents.diff_ids
        ]
        described = [(Digest(layer["digest"]), layer["size"]) for layer in raw["layers"]]
        if raw["config"]["digest"] == str(Digest.of(config)) and carried == described:
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
        self._pieces, self._held, self._context = iter(pieces), b"", context

    def read(self, size: int) -> bytes:
        if self._context.line.stopped.is_set():
            raise Interrupted("stopped")
        while len(self._held) < size and (piece := next(self._pieces, b"")):
            self._held = self._held + piece if self._held else piece
        taken, self._held = self._held[:size], self._held[size:]
        return taken
