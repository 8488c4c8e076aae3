"""A small bundle for tests: two images that share a layer, two models, the texts of a kit; every byte from a fixed seed."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from offline_kit.bundle.format import member, paths
from offline_kit.bundle.format.entries import Entry, lay_out, sums_text
from offline_kit.bundle.write.pack import DEFAULT_TIME, pack
from offline_kit.common.digest import Digest
from offline_kit.common.progress import Silent
from offline_kit.spec.lock import Blob, Layer, Lock, LockedExtra, LockedFile, LockedImage, LockedModel, LockedText
from offline_kit.spec.manifest import canonical

OCI = "application/vnd.oci.image."
VERSION = "v1.0.0"
LONG = "/".join(["a-folder-with-a-name-of-some-length"] * 9) + "/file"


def safetensors(size: int, seed: int = 1) -> bytes:
    """A whole safetensors file with one tensor of ``size`` bytes."""
    header = json.dumps({"weight": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + random.Random(seed).randbytes(size)


@dataclass
class Sample:
    """Blobs in a folder, and the lock and texts that make a bundle of them."""

    folder: Path
    texts: dict[str, bytes] = field(default_factory=dict)
    images: dict[str, LockedImage] = field(default_factory=dict)
    models: dict[str, LockedModel] = field(default_factory=dict)
    extras: dict[str, LockedExtra] = field(default_factory=dict)
    executables: tuple[str, ...] = ("install.sh", "scripts/deploy.sh")

    def put(self, data: bytes) -> Digest:
        digest = Digest.of(data)
        if not self.path_of(digest).exists():  # ext4 flushes what is written over: thousands of times, one after another
            self.path_of(digest).write_bytes(data)
        return digest

    def path_of(self, digest: Digest) -> Path:
        return self.folder / digest.hex

    def image(self, key: str, reference: str | None, *trees: dict[str, bytes]) -> None:
        """Adds an image with one layer for each tree of files."""
        layers = []
        for tree in trees:
            plain = _tar(tree)
            packed = gzip.compress(plain, mtime=0)
            media_type = f"{OCI}layer.v1.tar+gzip"
            layers.append(Layer(digest=self.put(packed), size=len(packed), media_type=media_type, diff_id=Digest.of(plain)))
        history = [{"created": "1980-01-01T00:00:00Z", "created_by": "test"} for _ in layers]
        config = {"architecture": "amd64", "os": "linux", "config": {"Cmd": [f"/{key}"]}, "history": history}
        config["rootfs"] = {"type": "layers", "diff_ids": [str(layer.diff_id) for layer in layers]}
        config_blob = self._json(config, f"{OCI}config.v1+json")
        manifest = {"schemaVersion": 2, "mediaType": f"{OCI}manifest.v1+json", "config": _descriptor(config_blob)}
        manifest["layers"] = [_descriptor(layer) for layer in layers]
        self.images[key] = LockedImage(
            spec_digest=Digest.of(key.encode()),
            source=f"docker://{reference}",
            reference=reference,
            index=Digest.of(b"index of " + key.encode()),
            manifest=self._json(manifest, f"{OCI}manifest.v1+json"),
            config=config_blob,
            layers=tuple(layers),
        )

    def model(self, key: str, files: dict[str, bytes]) -> None:
        locked = tuple(LockedFile(path=path, size=len(data), sha256=self.put(data)) for path, data in sorted(files.items()))
        self.models[key] = LockedModel(
            spec_digest=Digest.of(key.encode()), source=f"hf://test/{key}", commit="0" * 40, files=locked
        )

    def extra(self, path: str, data: bytes) -> None:
        source = f"https://host.example/{path}"
        wanted = Digest.of(path.encode())
        self.extras[path] = LockedExtra(spec_digest=wanted, source=source, size=len(data), sha256=self.put(data))

    def lock(self, name: str = "kit") -> Lock:
        config = {
            path.removeprefix("config/"): LockedText(size=len(data), sha256=Digest.of(data))
            for path, data in self.texts.items()
            if path.startswith("config/")
        }
        content = {"images": self.images, "models": self.models, "files": self.extras, "config": config}
        return Lock.model_validate({"name": name, "platform": "linux/amd64", "accelerator": "cpu", **content})

    def entries(self, version: str = VERSION) -> tuple[Entry, ...]:
        return lay_out(self.lock(), version, self.texts, self.executables)

    def pack(self, out: Path, version: str = VERSION) -> Path:
        pack(self.entries(version), f"kit-{version}", self.path_of, out, progress=Silent())
        return out

    def _json(self, data: object, media_type: str) -> Blob:
        text = json.dumps(data).encode()
        return Blob(digest=self.put(text), size=len(text), media_type=media_type)


def make_sample(folder: Path, weights: int = 3000) -> Sample:
    """The sample with its blobs in ``folder``; ``weights``: bytes of the larger model's tensor."""
    folder.mkdir(parents=True, exist_ok=True)
    sample = Sample(folder)
    sample.texts = {
        "install.sh": b"#!/bin/bash\nexit 0\n",
        "README.md": b"# A kit\n",
        "sbom.cdx.json": b"{}\n",
        ".env.example": b"VLLM_ROUTER_PORT=8000\n",
        "scripts/deploy.sh": b"#!/bin/bash\n",
        "scripts/lib/core/common.sh": b"# nothing\n",
        "runtime/__init__.py": b"",
        "config/models.json": b'{"models": {}}\n',
        "config/vllm_config.yaml": b"{}\n",
        "deploy/compose.yaml": b"services: {}\n",
    }
    base = {"etc/base": b"shared by both\n"}
    sample.image("engine", "test/engine:v1", base, {"engine": b"#!engine\n"})
    sample.image("gateway", "registry.example:5000/nginx:1", base, {"gateway": b"#!gateway\n"})
    sample.model("chat", {"config.json": b"{}\n", "model.safetensors": safetensors(weights)})
    sample.model("embedding", {"1_Pooling/config.json": b"{}", "empty": b"", "weights.bin": random.Random(2).randbytes(700)})
    sample.extra("host/docker-compose", random.Random(3).randbytes(900))
    return sample


def make_large_sample(folder: Path) -> Sample:
    """The sample with megabytes of weights, and names that ustar cannot hold."""
    sample = make_sample(folder, weights=3_000_000)
    sample.model("long", {LONG: b"a name that ustar cannot hold", "größe.json": b"{}"})
    return sample


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


Files = dict[str, tuple[bytes, int]]


def files_of(sample: Sample) -> Files:
    """Content and mode of every file of the sample's bundle, in the order of the archive."""
    entries = sample.entries()
    return {e.path: (e.content if e.content is not None else sample.path_of(e.digest).read_bytes(), e.mode) for e in entries}


def seal(files: Files) -> Files:
    """The files with a SHA256SUMS that fits them: what someone would do who changes a bundle on purpose."""
    named = [(path, Digest.of(content)) for path, (content, _) in files.items() if path != paths.SUMS]
    return files | {paths.SUMS: (sums_text(named), 0o644)}


def put_json(files: Files, path: str, change: Callable[[Any], None]) -> None:
    """Changes a JSON file in place."""
    data = json.loads(files[path][0])
    change(data)
    files[path] = (canonical(data).encode(), files[path][1])


def forge(out: Path, files: Files, top: str = "kit-v1.0.0", order: Sequence[str] | None = None) -> Path:
    """A bundle of exactly these files, well formed as a container whatever they are."""
    names = order if order is not None else sorted(files, key=paths.place)
    members = []
    for name in paths.with_folders(top, names):
        content, mode = (b"", 0o755) if name.endswith("/") else files[name.partition("/")[2]]
        members.append((member.render(member.Header(name, len(content), mode, DEFAULT_TIME)), content))
    return forge_raw(out, members)


def forge_raw(out: Path, members: Iterable[tuple[bytes, bytes]]) -> Path:
    """A bundle of members made of these tar headers and contents, with the right lengths and checksums."""
    out.write_bytes(b"".join(raw_member(tar, content) for tar, content in members) + member.END)
    return out


def raw_member(tar: bytes, content: bytes) -> bytes:
    body = member.padded(content)
    blocks = [tar, *(body[at : at + member.BLOCK] for at in range(0, len(body), member.BLOCK))]
    framed = b"".join(member.frame(len(block), block is blocks[-1]) + block for block in blocks)
    trailer = member.TRAILER.pack(zlib.crc32(tar + body), len(tar + body))
    return member.gzip_head(member.GZIP_HEAD + len(framed) + len(trailer)) + framed + trailer


def _tar(tree: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in tree.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _descriptor(blob: Blob) -> dict[str, object]:
    return {"mediaType": blob.media_type, "digest": str(blob.digest), "size": blob.size}
