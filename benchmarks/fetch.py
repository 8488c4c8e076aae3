"""A cold fetch of a model and an image, side by side with curl + openssl (the limit), `hf download` and `skopeo copy`.

Rules: the same bytes for all, from nginx and docker-registry on the loopback (the hub gives metadata and redirects, as the real
one does); every program starts cold and writes to the same disk; rounds take turns so that a busy moment meets all;
medians are shown, and a figure that was missed is shown as missed.

    python -m benchmarks.fetch [--model-mib 2048] [--image-mib 1024] [--rounds 3] [--work FOLDER] [--write FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.intake_parts import digest, push, write
from tests.intake_parts import image as small_image
from tests.testbed.hub import Hub, HubFile
from tests.testbed.hub_http import Handler
from tests.testbed.process import Process, free_port, listening
from tests.testbed.registry import Registry

MIB = 1 << 20
SHARDS = LAYERS = 4
CHILD = """
import json, sys
from pathlib import Path
from offline_kit.intake.fetch import fetch
from offline_kit.intake.resolve import resolve
from offline_kit.intake.store import Store
from offline_kit.spec.manifest import parse_manifest
manifest = parse_manifest(Path(sys.argv[1]).read_text(), sys.argv[1])
store = Store(Path(sys.argv[2]))
fetch(resolve(manifest, Path("/"), {}, store), manifest, Path("/"), store)
"""


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


@dataclass
class Run:
    """What one program took: seconds of wall and processor time, MiB of memory (of its largest process)."""

    wall: float
    cpu: float
    memory: float


def timed(command: list[str], env: dict[str, str] | None = None) -> Run:
    """Runs a command, which must succeed."""
    begin = time.monotonic()
    child = subprocess.Popen(command, env={**os.environ, **(env or {})}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert child.stderr is not None
    talk = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{command[0]} ended with {child.returncode}: {talk.decode()[-2000:]}")
    return Run(time.monotonic() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


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


def limit(urls: list[str], out: Path, piped: bool) -> list[str]:
    """The shell command: curl and openssl, four at a time; ``piped``: hashed on the way, else in a second pass."""
    listed = "\n".join(f"{number} {url}" for number, url in enumerate(urls))
    each = (
        f"curl -sf $2 | tee {out}/$1 | openssl dgst -sha256"
        if piped
        else f"curl -sf -o {out}/$1 $2 && openssl dgst -sha256 {out}/$1"
    )
    return ["bash", "-o", "pipefail", "-c", f"xargs -P 4 -L 1 bash -o pipefail -c '{each}' - <<< '{listed}'"]


def manifest(path: Path, image: str, gateway: str, hub: str | None) -> Path:
    content = {
        "apiVersion": "offline-kit/v1", "name": "benchmark", "services": "-", "engine_config": "-",
        "images": {"engine": {"source": f"docker://{image}"}, "gateway": {"source": f"docker://{gateway}"}},
        "models": {"m": {"source": "hf://o/m", "endpoint": hub}} if hub else {},
    }  # fmt: skip
    path.write_text(json.dumps(content))
    return path


def contestants(
    work: Path, registry: Registry, hub: RedirectingHub, shards: list[str], blobs: list[str]
) -> dict[tuple[str, str], list[str]]:
    """Commands by (what, who); each writes below ``work/out``."""
    out, python = work / "out", sys.executable
    model = [f"{hub.bytes_url}/{name}" for name in shards]
    image = [f"{registry.url}/v2/large/blobs/{blob}" for blob in blobs]
    large, small = f"{registry.host}/large:v1", f"{registry.host}/small:v1"
    manifests = {
        "model": manifest(work / "model.json", small, small, hub.url),
        "image": manifest(work / "image.json", large, small, None),
        "both": manifest(work / "both.json", large, small, hub.url),
    }
    found: dict[tuple[str, str], list[str]] = {}
    for what, urls in (("model", model), ("image", image), ("both", model + image)):
        found[what, "curl, then openssl dgst"] = limit(urls, out, piped=False)
        found[what, "curl, piped to openssl dgst"] = limit(urls, out, piped=True)
        found[what, "offline-kit"] = [python, "-c", CHILD, str(manifests[what]), str(out / "store")]
    hf = str(Path(python).with_name("hf"))
    found["model", "hf download"] = [hf, "download", "o/m", "--local-dir", str(out / "hf")]
    found["image", "skopeo copy"] = ["skopeo", "copy", "--src-tls-verify=false", f"docker://{large}", f"oci:{out}/oci:v1"]
    return found


def measure(
    commands: dict[tuple[str, str], list[str]], work: Path, rounds: int, env: dict[str, str]
) -> dict[tuple[str, str], Run]:
    """Medians over the rounds."""
    runs: dict[tuple[str, str], list[Run]] = {key: [] for key in commands}
    for number in range(rounds):
        for key in list(commands)[number % 2 :: 1] + list(commands)[: number % 2]:
            shutil.rmtree(work / "out", ignore_errors=True)
            (work / "out").mkdir()
            os.sync()
            runs[key].append(timed(commands[key], env))
            print(f"round {number + 1}: {key[0]:6} {key[1]:24} {runs[key][-1].wall:6.2f} s", file=sys.stderr)
    shutil.rmtree(work / "out", ignore_errors=True)
    median = statistics.median
    return {
        key: Run(*(median(getattr(run, name) for run in each) for name in ("wall", "cpu", "memory")))
        for key, each in runs.items()
    }


def table(results: dict[tuple[str, str], Run], model: int, image: int, rounds: int) -> str:
    """The page: what, who, figures, and whether the promises are kept."""
    sizes = {"model": f"model, {model} MiB", "image": f"image, {image} MiB", "both": "both"}
    lines = [
        "| what | program | seconds | times the limit | processor seconds | memory, MiB |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    verdicts = []
    for what, title in sizes.items():
        own = {who: run for (item, who), run in results.items() if item == what}
        best = min(run.wall for who, run in own.items() if who.startswith("curl"))
        for who, run in sorted(own.items(), key=lambda item: item[1].wall):
            memory = "" if who.startswith("curl") else f"{run.memory:.0f}"
            lines.append(f"| {title} | {who} | {run.wall:.2f} | {run.wall / best:.2f} | {run.cpu:.2f} | {memory} |")
        kit = own["offline-kit"]
        checks = [(f"at most 1.15 times the limit ({kit.wall / best:.2f})", kit.wall <= 1.15 * best)]
        checks += [
            (f"faster than {who}", kit.wall < run.wall) for who, run in own.items() if who in ("hf download", "skopeo copy")
        ]
        checks.append((f"less than 200 MiB of memory ({kit.memory:.0f})", kit.memory < 200))
        verdicts += [f"- {title}: {text}: {'kept' if kept else '**missed**'}" for text, kept in checks]
    processors = os.cpu_count()
    head = (
        f"Medians of {rounds} cold fetches over the loopback, {processors} processors shared by servers and clients, one disk."
    )
    return "\n".join([head, "The limit is the faster one of the two lines with curl.", "", *lines, "", *verdicts]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model-mib", type=int, default=2048)
    parser.add_argument("--image-mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=None, help="an empty folder on the disk to measure")
    parser.add_argument("--write", type=Path, default=None, help="a file for the page, beside stdout")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fetch-")))
        work.mkdir(parents=True, exist_ok=True)
        served = work / "served"
        served.mkdir()
        sums = make_model(served, options.model_mib)
        url = stack.enter_context(nginx(served, work))
        registry = stack.enter_context(Registry(work / "registry", work))
        blobs = push_image(registry, options.image_mib)
        hub = stack.enter_context(RedirectingHub())
        hub.bytes_url = url
        hub.add("o/m", served)
        env = {"HF_ENDPOINT": hub.url, "HF_HOME": str(work / "out/home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
        commands = contestants(work, registry, hub, list(sums), blobs)
        text = table(measure(commands, work, options.rounds, env), options.model_mib, options.image_mib, options.rounds)
        for name in ("served", "registry"):
            shutil.rmtree(work / name)
    print(text)
    if options.write:
        options.write.write_text(f"# Fetching, side by side\n\n{text}")


if __name__ == "__main__":
    main()
