"""python -m tests.testbed COMMAND: the testbed for people and for the demo.

Rules: (1) data on stdout, as JSON, talk on stderr; (2) what runs in the foreground ends on TERM or Ctrl-C and takes
everything that it started with it; (3) exit code 0 done, 1 a real part is missing or failed, 2 wrong usage, 143 or
130 ended by TERM or Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.testbed import cache, compose, images, models
from tests.testbed.dockerd import Dockerd
from tests.testbed.process import TestbedError
from tests.testbed.servers.hub import Hub
from tests.testbed.servers.registry import Registry, clone


def prepare() -> dict[str, str]:
    """Makes whatever is absent from the cache; returns the paths of its entries."""
    with images.workshop() as shop:
        found = {"cache": cache.root(), "storage": images.storage(shop), "models": models.folder(shop)}
    return {name: str(path) for name, path in found.items()} | {"compose": str(compose.plugin())}


def prepare_real() -> str:
    """Makes the real models when they are absent; returns their path, empty where their packages cannot be had."""
    with images.workshop() as shop:
        return str(models.real_folder_if_any(shop) or "")


def hub_of_models(*folders: Path, port: int = 0) -> Hub:
    """A hub (not started) that has each model in the folders, as `offline-kit/tiny-chat` and so on."""
    hub = Hub(port=port)
    for model in (model for folder in folders for model in sorted(folder.iterdir())):
        hub.add(f"offline-kit/{model.name}", model)
    return hub


def _serve(registry_port: int, hub_port: int, forever: Callable[[], None]) -> None:
    paths, real = prepare(), prepare_real()
    with tempfile.TemporaryDirectory(prefix="offline-kit-registry-", dir=cache.root()) as work:
        storage = clone(Path(paths["storage"]), Path(work, "storage"))
        with (
            Registry(storage, Path(work), port=registry_port) as registry,
            hub_of_models(*(Path(folder) for folder in (paths["models"], real) if folder), port=hub_port) as hub,
        ):
            _print({
                "registry": registry.host,
                "hub": hub.url,
                "images": {name.split("/")[1].split(":")[0]: f"{registry.host}/{name}" for name in images.ALL},
                "models": {name: f"offline-kit/{name}" for name in (*models.NAMES, *(models.REAL_NAMES if real else ()))},
            })  # fmt: skip
            forever()


def _dockerd(folder: Path, airgap: bool, forever: Callable[[], None]) -> None:
    with Dockerd(folder, airgap=airgap) as dockerd:
        _print({"env": dockerd.env, "nsenter": dockerd.nsenter, "log": str(dockerd.log)})
        forever()


def _print(value: object) -> None:
    print(json.dumps(value), flush=True)


def _leave(number: int, frame: object) -> None:
    """Ends by an exception, so that everything started is stopped on the way out; further signals do not disturb that."""
    del frame
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.testbed", description="Real parts for tests and the demo.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("prepare", help="make what is absent from the cache; prints its paths")
    commands.add_parser("paths", help="the same as prepare")
    serve = commands.add_parser("serve", help="registry and hub in the foreground; one JSON line when ready")
    serve.add_argument("--registry-port", type=int, default=0, metavar="PORT", help="0 picks a free one")
    serve.add_argument("--hub-port", type=int, default=0, metavar="PORT", help="0 picks a free one")
    dockerd = commands.add_parser("dockerd", help="a throwaway dockerd in the foreground; one JSON line when ready")
    dockerd.add_argument("--dir", type=Path, required=True, metavar="FOLDER", help="everything of it lies here")
    dockerd.add_argument("--airgap", action="store_true", help="in a network namespace that has only a loopback")
    return parser


def main() -> int:
    """Runs one command; the exit code."""
    options = _parser().parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    try:
        if options.command == "serve":
            _serve(options.registry_port, options.hub_port, signal.pause)
        elif options.command == "dockerd":
            _dockerd(options.dir, options.airgap, signal.pause)
        else:
            _print(prepare() | {"real": prepare_real()})
    except TestbedError as error:
        print(f"testbed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
