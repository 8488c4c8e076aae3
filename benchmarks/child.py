"""What the benchmark of bundles does with offline-kit itself, each in a process of its own: make the data, pack it.

Rules: the data are random and the same in every run; images' layers and weights are as incompressible as real ones.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from offline_kit.bundle.format.entries import lay_out
from offline_kit.bundle.write.pack import pack
from offline_kit.common.digest import Digest
from offline_kit.common.progress import Silent
from offline_kit.spec.lock import Blob, Layer, Lock, LockedFile, LockedImage, LockedModel, parse_lock

VERSION = "v1.0.0"
PIECE = 512 << 20
_OCI = "application/vnd.oci.image."


def make(folder: Path, weights: int, layers: int) -> None:
    """Blobs below ``folder/blobs`` and their lock: ``weights`` and ``layers`` in bytes, in files of at most 512 MiB."""
    (folder / "blobs").mkdir(parents=True)
    files = [_weights(folder, seed, size) for seed, size in enumerate(_cut(weights))]
    model = LockedModel(spec_digest=Digest.of(b""), source="dir:///benchmark", files=tuple(files))
    blobs = [_put(folder, folder / "new", 1000 + seed, size, b"") for seed, size in enumerate(_cut(layers))]
    kind = f"{_OCI}layer.v1.tar+gzip"
    locked = tuple(Layer(digest=digest, size=size, media_type=kind, diff_id=digest) for digest, size in blobs)
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [str(x.digest) for x in locked]}}
    config_blob = _text(folder, config, f"{_OCI}config.v1+json")
    manifest = {"schemaVersion": 2, "config": _descriptor(config_blob), "layers": [_descriptor(layer) for layer in locked]}
    manifest_blob = _text(folder, manifest, f"{_OCI}manifest.v1+json")
    image = LockedImage(
        spec_digest=Digest.of(b""),
        source="docker://x:1",
        reference="x:1",
        manifest=manifest_blob,
        config=config_blob,
        layers=locked,
    )
    lock = Lock(
        name="bench",
        platform="linux/amd64",
        accelerator="cpu",
        images={"engine": image},
        models={"chat": model},
        config={},
    )
    (folder / "lock.json").write_text(lock.text())


def pack_it(folder: Path, out: Path) -> None:
    """The bundle of ``folder`` to ``out``, as ``offline-kit build`` packs it."""
    lock = parse_lock((folder / "lock.json").read_text(), "lock.json")
    entries = lay_out(lock, VERSION, {"install.sh": b"#!/bin/sh\n"}, {"install.sh"})
    pack(entries, f"bench-{VERSION}", lambda digest: folder / "blobs" / digest.hex, out, progress=Silent())


def _cut(size: int) -> list[int]:
    return [PIECE] * (size // PIECE) + ([size % PIECE] if size % PIECE else [])


def _weights(folder: Path, seed: int, size: int) -> LockedFile:
    path = f"model-{seed:05}.safetensors"
    header = json.dumps({"weight": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    digest, whole = _put(folder, folder / "new", seed, size, len(header).to_bytes(8, "little") + header)
    return LockedFile(path=path, size=whole, sha256=digest)


def _put(folder: Path, path: Path, seed: int, size: int, head: bytes) -> tuple[Digest, int]:
    """``head`` and ``size`` random bytes as a blob: a keystream is faster than any generator of Python's."""
    with path.open("wb") as stream:
        stream.write(head)
        stream.flush()
        command = f"head -c {size} /dev/zero | openssl enc -aes-128-ctr -K {seed:032x} -iv {0:032x}"
        subprocess.run(["bash", "-o", "pipefail", "-c", command], stdout=stream, check=True)
    digest = Digest.of_file(path)
    path.replace(folder / "blobs" / digest.hex)
    return digest, size + len(head)


def _text(folder: Path, data: object, media_type: str) -> Blob:
    text = json.dumps(data).encode()
    digest = Digest.of(text)
    (folder / "blobs" / digest.hex).write_bytes(text)
    return Blob(digest=digest, size=len(text), media_type=media_type)


def _descriptor(blob: Blob) -> dict[str, object]:
    return {"mediaType": blob.media_type, "digest": str(blob.digest), "size": blob.size}


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        pack_it(Path(sys.argv[2]), Path(sys.argv[3]))
