"""A small kit for testing the scripts: really laid out by offline_kit, with images made from programs of this machine.

Rules: (1) every file of the kit is what a bundle would carry; only what the images hold is small: the engine image has this
machine's Python and a stand-in for `vllm` (the wire: HTTP on port 8000), the gateway image this machine's nginx; (2) the
stand-in misbehaves when the model's folder has a file `fault`; (3) images are made once a test session; a kit is a copy.

One file, for the kit and the programs that its images hold change together: a test asks for both with one call.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from offline_kit.bundle.format.entries import lay_out
from offline_kit.common.digest import Digest
from offline_kit.host.render import Origin, render
from offline_kit.host.validate import check_services
from offline_kit.spec.lock import Blob, Layer, Lock, LockedFile, LockedImage, LockedModel, LockedText
from offline_kit.spec.manifest import Accelerator

PORTS = {"router": 18700, "chat": 18701, "embedding": 18702, "rerank": 18703}
MODELS = {
    "models": {
        key: {
            "name": f"tiny-{key}",
            "path": f"/models/{key}",
            "type": key,
            "port": PORTS[key],
            "gpu_memory_utilization": 0.2,
            "max_model_len": 128,
            "tensor_parallel_size": 1,
            "dtype": "float32",
        }
        for key in ("chat", "embedding", "rerank")
    }
}
CONFIG = {"models.json": json.dumps(MODELS, indent=2).encode() + b"\n", "vllm_config.yaml": b"seed: 0\n"}
Members = Sequence[tuple[str, Path | bytes | str]]  # of a layer: a path, and a file, its bytes or where a link leads
STAND_IN = '''\
#!/usr/bin/python3
"""Answers like `vllm serve FOLDER --served-model-name NAME --port 8000`; misbehaves as FOLDER/fault says."""
import json, pathlib, signal, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
folder = pathlib.Path(sys.argv[2])
fault = (folder / "fault").read_text().strip() if (folder / "fault").exists() else ""
print("loading weights", file=sys.stderr, flush=True)
if fault.startswith("die:"):
    time.sleep(0.5)
    sys.exit(fault[4:])
if fault == "hang":
    time.sleep(3600)
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, data):
        body = json.dumps(data).encode()
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.answer({})
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if fault == "silent":
            self.answer({"choices": [{"message": {"content": ""}}]})
        elif self.path == "/v1/chat/completions":
            self.answer({"choices": [{"message": {"role": "assistant", "content": "Hello."}}]})
        elif self.path == "/v1/embeddings":
            self.answer({"data": [{"index": 0, "embedding": [0.6, 0.8]}]})
        else:
            scores = [{"index": i, "relevance_score": 1 / (i + 1)} for i in range(len(body["documents"]))]
            self.answer({"results": scores})
    def log_message(self, *arguments):
        pass
ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
'''


@dataclasses.dataclass(frozen=True)
class Shelf:
    """Images that were made: their lock entries, and the folder that holds their blobs by hex digest."""

    images: Mapping[str, LockedImage]
    blobs: Path


def make_shelf(folder: Path, *, small: bool = False) -> Shelf:
    """Engine and gateway image in `folder`; small: with nothing but BusyBox in them."""
    folder.mkdir(parents=True, exist_ok=True)
    if small:
        names = ("engine", "gateway")
        return Shelf(
            {
                name: make_image(folder, f"offline-kit-test/{name}:small", [_busybox(), [(f"{name}.txt", b"text\n")]])
                for name in names
            },
            folder,
        )
    engine = make_image(folder, "offline-kit-test/engine:1", [_busybox(), _python()])
    gateway = make_image(folder, "offline-kit-test/gateway:1", [_busybox(), _program("/usr/sbin/nginx")])
    return Shelf({"engine": engine, "gateway": gateway}, folder)


def make_kit(
    shelf: Shelf,
    target: Path,
    *,
    images: Mapping[str, LockedImage] | None = None,
    accelerator: Accelerator = "cpu",
    platform: str = "linux/amd64",
) -> Path:
    """Lays a kit out in `target`, three models with an odd name among their files. Returns `target`."""
    payload = {
        f"{key}/{name}": f"{key} {name}\n".encode() for key in MODELS["models"] for name in ("config.json", "a file.bin")
    }
    files = {
        path: LockedFile(path=path.split("/", 1)[1], size=len(data), sha256=Digest.of(data)) for path, data in payload.items()
    }
    wanted = Digest.of(b"")
    lock = Lock(
        name="test-kit",
        platform=platform,
        accelerator=accelerator,
        images=dict(images or shelf.images),
        models={
            key: LockedModel(
                spec_digest=wanted,
                source=f"dir:///{key}",
                commit=None,
                files=tuple(file for path, file in files.items() if path.startswith(f"{key}/")),
            )
            for key in MODELS["models"]
        },
        config={name: LockedText(size=len(data), sha256=Digest.of(data)) for name, data in CONFIG.items()},
    )
    services = check_services(CONFIG, lock.models.keys(), lock.accelerator)
    texts, executables = render(lock, "v1.0.0", CONFIG, services, Origin(Digest.of(b"manifest")))
    by_digest = {Digest.of(data).hex: data for data in payload.values()}
    for entry in lay_out(lock, "v1.0.0", texts, executables):
        path = target / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.content is not None:
            path.write_bytes(entry.content)
        elif entry.digest.hex in by_digest:
            path.write_bytes(by_digest[entry.digest.hex])
        else:
            shutil.copyfile(shelf.blobs / entry.digest.hex, path)
        path.chmod(entry.mode)
    example = target / ".env.example"
    text = re.sub(r"^(VLLM_ROUTER_PORT)=.*", rf"\1={PORTS['router']}", example.read_text(), flags=re.M)
    rewrite(target, ".env.example", text.encode())
    return target


def rewrite(kit: Path, name: str, data: bytes | None) -> None:
    """Gives a file other content, or takes it away, and mends SHA256SUMS: another kit, not a damaged one."""
    sums = {line[66:]: line[:64] for line in (kit / "SHA256SUMS").read_text().splitlines()}
    if data is None:
        (kit / name).unlink()
        del sums[name]
    else:
        (kit / name).write_bytes(data)
        sums[name] = hashlib.sha256(data).hexdigest()
    (kit / "SHA256SUMS").write_text("".join(f"{sums[path]}  {path}\n" for path in sorted(sums, key=str.encode)))


def run(
    kit: Path,
    script: str,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
    cwd: Path | None = None,
    timeout: float = 300,
) -> subprocess.CompletedProcess[str]:
    """Runs a script of the kit, by $OFFLINE_KIT_TEST_BASH where that is set; stdin is empty; never raises on an exit code."""
    shell = os.environ.get("OFFLINE_KIT_TEST_BASH")
    return subprocess.run(
        [*prefix, *([shell] if shell else []), str(kit / script), *arguments],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        cwd=cwd,
        timeout=timeout,
        check=False,
    )


def make_image(folder: Path, name: str, layers: Sequence[Layer | Members]) -> LockedImage:
    """An image of these layers in `folder`, where those that are made already lie: its lock entry."""
    locked = [layer if isinstance(layer, Layer) else _layer(folder, layer) for layer in layers]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [str(layer.diff_id) for layer in locked]},
    }
    stored = _store(folder, json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json")
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": _descriptor(stored),
        "layers": [_descriptor(layer) for layer in locked],
    }
    return LockedImage(
        spec_digest=Digest.of(b""),
        source=f"docker://{name}",
        reference=name,
        manifest=_store(folder, json.dumps(manifest).encode(), kind),
        config=stored,
        layers=tuple(locked),
    )


def _layer(folder: Path, members: Members) -> Layer:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name.lstrip("/"))
            info.mode = 0o755
            if name.endswith("/"):
                info.type, info.mode = tarfile.DIRTYPE, 0o1777
                archive.addfile(info)
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
            elif isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                info.size = content.stat().st_size
                with content.open("rb") as stream:
                    archive.addfile(info, stream)
    data = plain.getvalue()
    blob = _store(folder, gzip.compress(data, 1, mtime=0), "application/vnd.oci.image.layer.v1.tar+gzip")
    return Layer(digest=blob.digest, size=blob.size, media_type=blob.media_type, diff_id=Digest.of(data))


def _store(folder: Path, data: bytes, media_type: str) -> Blob:
    digest = Digest.of(data)
    (folder / digest.hex).write_bytes(data)
    return Blob(digest=digest, size=len(data), media_type=media_type)


def _descriptor(blob: Blob) -> dict[str, str | int]:
    return {"mediaType": blob.media_type, "digest": str(blob.digest), "size": blob.size}


def _busybox() -> list[tuple[str, Path | bytes | str]]:
    links: list[tuple[str, Path | bytes | str]] = [(f"bin/{name}", "busybox") for name in ("sh", "true", "cat", "sleep")]
    passwd = b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"
    # without a /tmp of its own, the second start of a container gives its tmpfs the wrong mode (runc takes the folder's)
    return [
        ("tmp/", b""),
        ("bin/busybox", Path("/bin/busybox")),
        *links,
        ("etc/passwd", passwd),
        ("etc/group", b"root:x:0:\nnogroup:x:65534:\n"),
    ]


def _program(path: str) -> list[tuple[str, Path | bytes | str]]:
    return [(path, Path(path)), *((library, Path(library)) for library in sorted(libraries([Path(path)])))]


def _python() -> list[tuple[str, Path | bytes | str]]:
    """This machine's Python with its standard library and PyYAML, and the stand-in for vllm."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    program = Path(sys.base_prefix, "bin", version).resolve()
    library = Path(sys.base_prefix, "lib", version)
    left_out = {
        "test",
        "tests",
        "site-packages",
        "dist-packages",
        "idlelib",
        "tkinter",
        "lib2to3",
        "ensurepip",
        "turtledemo",
        "__pycache__",
        "pydoc_data",
    }
    files = [path for path in _walk(library, left_out) if path.suffix in (".py", ".so")]
    members: list[tuple[str, Path | bytes | str]] = [(str(program), program), ("/usr/bin/python3", str(program))]
    members += [(str(path), path.resolve()) for path in files]
    members += [(f"{library}/site-packages/yaml/{path.name}", path) for path in Path(yaml.__file__).parent.glob("*.py")]
    members += [(name, Path(name)) for name in sorted(libraries([program, *(path for path in files if path.suffix == ".so")]))]
    return [*members, ("/usr/bin/vllm", STAND_IN.encode())]


def _walk(folder: Path, left_out: set[str]) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if path.name not in left_out and not path.name.startswith("config-"):
                yield from _walk(path, left_out)
        else:
            yield path


def libraries(programs: Sequence[Path]) -> set[str]:
    """The shared libraries that these need here."""
    said = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False).stdout
    return set(re.findall(r"(/\S+\.so[^\s:]*) \(0x", said))
