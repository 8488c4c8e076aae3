"""The three tiny models, written once by make_tiny_models.py inside the CPU engine image and kept in the cache.

Rules: (1) torch is not asked of the machine: the image that will serve the models also writes them; (2) the key is
the script and the engine's packages, so a rebuilt image with the same packages keeps the models.
"""

from __future__ import annotations

from pathlib import Path

from tests.testbed import cache, images
from tests.testbed.servers.registry import Registry

SCRIPT = Path(__file__).with_name("make_tiny_models.py")
NAMES = ("tiny-chat", "tiny-embed", "tiny-rerank")


def folder(shop: images.Workshop) -> Path:
    """The folder that holds one folder for each of NAMES; made when absent, which needs the engine image."""

    def make(target: Path) -> None:
        stored = images.engine(shop)
        docker = shop.dockerd.docker
        if not docker("images", "--quiet", images.ENGINE):
            with Registry(stored, shop.dockerd.folder / "registry") as registry:
                docker("pull", "--quiet", f"{registry.host}/{images.ENGINE}")
                docker("tag", f"{registry.host}/{images.ENGINE}", images.ENGINE)
        binds = ("--volume", f"{SCRIPT.parent}:/testbed:ro", "--volume", f"{target}:/models")
        entry = ("--entrypoint", "python3", images.ENGINE, "/testbed/make_tiny_models.py", "/models")
        docker("run", "--rm", "--pull", "never", "--network", "none", *binds, *entry)

    return cache.entry("models", cache.key_of(SCRIPT, images.REQUIREMENTS), make)
