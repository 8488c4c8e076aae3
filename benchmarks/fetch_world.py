"""The servers of the benchmark of fetching: nginx and docker-registry for bytes, a hub for metadata that redirects to nginx.

Rules: a process of its own, so that the memory of making the data is nobody else's; data are random, as incompressible as real
ones; prints what is where as one line of JSON, then serves until its stdin ends.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.intake_samples import digest, push, write
from tests.support.intake_samples import image as small_image
from tests.testbed.process import Process, free_port, listening
from tests.testbed.servers.hub import Hub, HubFile
from tests.testbed.servers.hub_http import Handler
from tests.testbed.servers.registry import Registry

MIB = 1 << 20
SHARDS = LAYERS = 4


class RedirectingHandler(Handler):
    """Gives metadata; for the bytes of large files it points to nginx."""

    def _resolve(self, name: str, revision: str, path: str) -> None:
        found = self._repository(name, revision)
        if found is None:
            return None
        commit, files = found
        file: HubFile | None = files.get(path)
        if file is None or not file.lfs:
            return super()._resolve(name, revision, path)
        server: RedirectingHub = self.server.hub  # type: ignore[attr-defined]
        linked = {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.size), "X-Repo-Commit": commit}
        return self._answer(302, b"", {**linked, "ETag": f'"{file.sha256}"', "Location": f"{server.bytes_url}/{path}"})


class RedirectingHub(Hub):
    """The hub; ``bytes_url``: where nginx serves the repository's files."""

    handler = RedirectingHandler
    bytes_url = ""


def make_model(folder: Path, mib: int) -> dict[str, str]:
    """Shards of random bytes; their sha256 by name."""
    sums = {}
    for number in range(SHARDS):
        name = f"model-{number + 1}-of-{SHARDS}.safetensors"
        size = mib * MIB // SHARDS
        head = json.dumps({f"w{number}": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
        hasher = hashlib.sha256()
        with (folder / name).open("wb") as out:
            for piece in (len(head).to_bytes(8, "little") + head, *(os.urandom(MIB) for _ in range(size // MIB))):
                out.write(piece)
                hasher.update(piece)
        sums[name] = hasher.hexdigest()
    write(folder, {"config.json": b"{}"})
    return sums


def push_image(registry: Registry, mib: int) -> list[str]:
    """An image of incompressible layers, one large file each; the digests of its blobs."""
    image = small_image(*["gzip"] * LAYERS, content="benchmark")
    tars, layers = [], []
    for number in range(LAYERS):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            member = tarfile.TarInfo(f"file{number}")
            member.size = mib * MIB // LAYERS
            archive.addfile(member, io.BytesIO(os.urandom(member.size)))
        tars.append(digest(out.getvalue()))
        layers.append(gzip.compress(out.getvalue(), 0, mtime=0))
    config = json.loads(image.config)
    config["rootfs"]["diff_ids"] = tars
    image.config = json.dumps(config).encode()
    manifest = json.loads(image.manifest)
    manifest["config"] |= {"digest": digest(image.config), "size": len(image.config)}
    for entry, layer in zip(manifest["layers"], layers, strict=True):
        entry |= {"digest": digest(layer), "size": len(layer)}
    image.manifest = json.dumps(manifest).encode()
    image.blobs = {digest(data): data for data in [image.config, *layers]}
    push(registry.url, "large", "v1", image)
    push(registry.url, "small", "v1", small_image("gzip"))
    return list(image.blobs)


@contextlib.contextmanager
def nginx(root: Path, work: Path) -> Iterator[str]:
    """Serves ``root``; its URL."""
    port, program = free_port(), shutil.which("nginx") or "/usr/sbin/nginx"
    text = (
        f"{'user root; ' if os.geteuid() == 0 else ''}worker_processes 2; daemon off;\n"
        f"pid {work}/nginx.pid; error_log {work}/nginx.log;\n"
        "events { worker_connections 256; }\n"
        f"http {{ access_log off; sendfile on; tcp_nopush on; server {{ listen 127.0.0.1:{port}; root {root}; }} }}\n"
    )
    write(work, {"nginx.conf": text.encode()})
    process = Process([program, "-c", str(work / "nginx.conf")], work / "nginx.out")
    process.wait_until(lambda: listening(port), 20, "nginx")
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.stop()


def main() -> None:
    """Serves what is made in a folder: ``FOLDER MODEL_MIB IMAGE_MIB``."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # so that what was started is stopped
    work, model, image = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    served = work / "served"
    served.mkdir(parents=True)
    shards = make_model(served, model)
    with nginx(served, work) as url, Registry(work / "registry", work) as registry, RedirectingHub() as hub:
        blobs = push_image(registry, image)
        hub.bytes_url = url
        hub.add("o/m", served)
        urls = [f"{registry.url}/v2/large/blobs/{blob}" for blob in blobs]
        facts = {"hub": hub.url, "registry": registry.host, "model": [f"{url}/{name}" for name in shards], "image": urls}
        print(json.dumps(facts), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
