"""The configuration that a bundle or kit carries: bundle.json and the files that say which engines run.

Rules: reads the head of a bundle up to these and no more; of an installed kit, what the operator made of them.
"""

from __future__ import annotations

from pathlib import Path

from offline_kit.bundle.format import paths
from offline_kit.bundle.format.bundle_json import Contents, parse_contents
from offline_kit.bundle.read.inspect import read_texts

FILES = ("models.json", "vllm_config.yaml")


def read_configuration(path: Path) -> tuple[Contents, dict[str, bytes]]:
    """bundle.json, and the configuration files by name. Raises BundleUnreadable, BundleDamaged and DiskError."""
    wanted = (paths.BUNDLE, *(f"{paths.CONFIG}/{name}" for name in FILES))
    texts = read_texts(path, wanted)
    contents = parse_contents(texts[paths.BUNDLE], f"{path}: {paths.BUNDLE}")
    return contents, {name: texts[f"{paths.CONFIG}/{name}"] for name in FILES}
