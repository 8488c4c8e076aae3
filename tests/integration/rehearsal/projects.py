"""Projects that a rehearsal is tried on: the shipped demo's images with chat models from folders."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from tests.testbed import images


def entry(name: str, number: int, **arguments: Any) -> dict[str, Any]:
    return {
        "name": name, "path": f"/models/{name}", "type": "chat", "port": 8001 + number, "gpu_memory_utilization": 0.3,
        "max_model_len": arguments.pop("max_model_len", 256), "tensor_parallel_size": 1, "dtype": "bfloat16",
        "engine_args": arguments,
    }  # fmt: skip


def chats(folder: Path, demo: Path, models: dict[str, tuple[Path, dict[str, Any]]], image: str = images.ENGINE) -> Path:
    """A manifest in ``folder`` with the demo's images, and chat models from folders, each with engine arguments."""
    shutil.copytree(demo.parent.parent, folder, ignore=shutil.ignore_patterns("*.lock.json"))
    manifest = folder / "manifests/demo.yaml"
    lines = [line for line in manifest.read_text().replace(images.ENGINE, image).splitlines() if "hf://" not in line]
    at = lines.index("models:") + 1
    lines[at:at] = [f'  {name}: {{source: "dir://{place}"}}' for name, (place, _) in models.items()]
    manifest.write_text("\n".join(lines) + "\n")
    services = {name: entry(name, number, **arguments) for number, (name, (_, arguments)) in enumerate(models.items())}
    (folder / "config/demo/models.json").write_text(json.dumps({"models": services}))
    return manifest


def carry_code(manifest: Path, key: str, repository: str, folder: Path) -> None:
    """The code of ``repository``, from a folder, for the model ``key``."""
    text = manifest.read_text()
    manifest.write_text(text.replace("models:\n", f'models:\n  {key}-code: {{source: "dir://{folder}"}}\n', 1))
    services = manifest.parent.parent / "config/demo/models.json"
    content = json.loads(services.read_text())
    content["models"][key]["code"] = {repository: f"/models/{key}-code"}
    services.write_text(json.dumps(content))


def findings(said: str) -> dict[str, str]:
    """Model, or container, -> the lines that tell of it."""
    found: dict[str, str] = {}
    told = said.partition("what would not work on the host:\n")[2]
    for name, line in re.findall(r"^([a-z-]+): (.*)$", told, flags=re.M):
        found[name] = f"{found.get(name, '')}{line}\n"
    return found
