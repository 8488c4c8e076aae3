"""A cold fetch of a model and an image, side by side with curl + openssl + sync (the limit), `hf download` and `skopeo copy`.

Rules: the same bytes for all, from nginx and docker-registry on the loopback (the hub gives metadata and redirects, as the real
one does); every program starts cold and writes to the same disk; rounds take turns, so that a busy moment meets all;
medians are shown, and a figure that was missed is shown as missed.

    python -m benchmarks.fetch [--model-mib 2048] [--image-mib 1024] [--rounds 3] [--work FOLDER] [--write FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks import measure
from benchmarks.measure import Figure

CHILD = """
import sys
from pathlib import Path
from offline_kit.intake.session import Session
from offline_kit.intake.fetch import fetch
from offline_kit.intake.resolve import resolve
from offline_kit.intake.store.store import Store
from offline_kit.spec.manifest import parse_manifest
manifest = parse_manifest(Path(sys.argv[1]).read_text(), sys.argv[1])
store = Store(Path(sys.argv[2]))
fetch(resolve(manifest, Path("/"), {}, Session(store)), manifest, Path("/"), Session(store))
"""
ON_DISK, TWO_STEPS, PIPED = "curl, openssl, sync", "curl, openssl, not on disk", "curl piped to openssl, not on disk"
KIT, HF, SKOPEO = "offline-kit", "hf download, no hash, not on disk", "skopeo copy, not on disk"
LIMITS = {
    ON_DISK: "curl -sf -o out/$1 $2 && openssl dgst -sha256 out/$1 && sync out/$1",
    TWO_STEPS: "curl -sf -o out/$1 $2 && openssl dgst -sha256 out/$1",
    PIPED: "curl -sf $2 | tee out/$1 | openssl dgst -sha256",
}
Key = tuple[str, str]


@contextlib.contextmanager
def world(work: Path, model: int, image: int) -> Iterator[Mapping[str, list[str]]]:
    """The servers with their data: where is what."""
    command = [sys.executable, "-m", "benchmarks.fetch_world", str(work), str(model), str(image)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None and child.stdout is not None
        try:
            yield json.loads(child.stdout.readline() or sys.exit("the servers did not start"))
        finally:
            child.stdin.close()


def limit(urls: list[str], each: str) -> str:
    """Four at a time; ``each``: what is done with $2, a URL, that is to become out/$1."""
    listed = "\n".join(f"{number} {url}" for number, url in enumerate(urls))
    return f"xargs -P 4 -L 1 bash -o pipefail -c {shlex.quote(each)} - <<< {shlex.quote(listed)}"


def manifest(path: Path, engine: str, gateway: str, hub: str | None) -> str:
    content = {
        "apiVersion": "offline-kit/v1", "name": "benchmark", "services": "-", "engine_config": "-",
        "images": {"engine": {"source": f"docker://{engine}"}, "gateway": {"source": f"docker://{gateway}"}},
        "models": {"m": {"source": "hf://o/m", "endpoint": hub}} if hub else {},
    }  # fmt: skip
    path.write_text(json.dumps(content))
    return path.name


def contestants(work: Path, where: Mapping[str, list[str]]) -> dict[Key, str]:
    """Commands by (what, who); each writes below ``out``."""
    hub, large, small = str(where["hub"]), f"{where['registry']}/large:v1", f"{where['registry']}/small:v1"
    manifests = {
        "model": manifest(work / "model.json", small, small, hub),
        "image": manifest(work / "image.json", large, small, None),
        "both": manifest(work / "both.json", large, small, hub),
    }
    found: dict[Key, str] = {}
    for what, urls in (("model", where["model"]), ("image", where["image"]), ("both", where["model"] + where["image"])):
        found.update({(what, who): limit(urls, each) for who, each in LIMITS.items()})
        found[what, KIT] = f"exec {shlex.quote(sys.executable)} -c {shlex.quote(CHILD)} {manifests[what]} out/store"
    found["model", HF] = f"exec {shlex.quote(str(Path(sys.executable).with_name('hf')))} download o/m --local-dir out/hf"
    found["image", SKOPEO] = f"exec skopeo copy --src-tls-verify=false docker://{large} oci:out/oci:v1"
    return found


def measured(commands: dict[Key, str], work: Path, rounds: int, environment: Mapping[str, str]) -> dict[Key, Figure]:
    figures: dict[Key, Figure] = {key: Figure() for key in commands}
    for number in range(rounds):
        for key in sorted(commands, key=lambda key: (list(commands).index(key) + number) % len(commands)):
            shutil.rmtree(work / "out", ignore_errors=True)
            (work / "out").mkdir()
            measure.run(figures[key], commands[key], work, environment)
            print(f"round {number + 1}: {key[0]:6} {key[1]:24} {figures[key].seconds[-1]:6.2f} s", file=sys.stderr, flush=True)
    shutil.rmtree(work / "out", ignore_errors=True)
    return figures


def page(figures: dict[Key, Figure], model: int, image: int, rounds: int) -> str:
    """Machine, table, and whether the promises are kept."""
    rows, verdicts = [], []
    for what, title in (("model", f"model, {model} MiB"), ("image", f"image, {image} MiB"), ("both", "both")):
        own = {who: figure for (item, who), figure in figures.items() if item == what}
        best, volatile = own[ON_DISK].median, min(own[TWO_STEPS].median, own[PIPED].median)
        for who, figure in sorted(own.items(), key=lambda item: item[1].median):
            memory = f"{max(figure.memory):.0f}" if who in (KIT, HF, SKOPEO) else ""
            cpu = statistics.median(figure.cpu)
            rows.append([title, who, f"{figure.median:.2f}", f"{figure.median / best:.2f}", f"{cpu:.2f}", memory])
        ratio, other, memory_used = own[KIT].median / best, own[KIT].median / volatile, max(own[KIT].memory)
        checks = [
            (f"at most 1.15 times the limit ({ratio:.2f})", ratio <= 1.15),
            (f"at most 1.15 times the faster curl that leaves its bytes in memory ({other:.2f})", other <= 1.15),
        ]
        checks += [(f"faster than {who}", own[KIT].median < own[who].median) for who in (HF, SKOPEO) if who in own]
        checks.append((f"less than 200 MiB of memory ({memory_used:.0f})", memory_used < 200))
        verdicts += [f"- {title}: {text}: {'kept' if kept else '**missed**'}" for text, kept in checks]
    head = ["what", "program", "seconds", "times the limit", "processor seconds", "memory, MiB"]
    conditions = f"{measure.machine()}; shared by servers and clients. Load at the end {measure.load()}. Medians of {rounds}."
    limits = (
        f"The limit is '{ON_DISK}', four transfers at a time: what offline-kit has fetched would survive a power cut, "
        "too. The other programs end while their bytes still wait in memory to be written."
    )
    return "\n".join([conditions, limits, "", measure.table(head, rows), *verdicts]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model-mib", type=int, default=2048)
    parser.add_argument("--image-mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=None, help="a folder on the disk to measure")
    parser.add_argument("--write", type=Path, default=None, help="a file for the page, beside stdout")
    options = parser.parse_args()
    if options.work:
        options.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=options.work) as folder:
        work = Path(folder)
        with world(work / "world", options.model_mib, options.image_mib) as where:
            home = {"HF_ENDPOINT": str(where["hub"]), "HF_HOME": str(work / "out/home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
            environment = {**home, "PYTHONPATH": str(Path.cwd())}
            figures = measured(contestants(work, where), work, options.rounds, environment)
        text = page(figures, options.model_mib, options.image_mib, options.rounds)
    print(text)
    if options.write:
        options.write.write_text(f"# Fetching, side by side\n\n`python -m benchmarks.fetch`. {text}")


if __name__ == "__main__":
    main()
