"""The files of a new project as text: a manifest with comments, models.json and vllm_config.yaml.

Rules: what is written is read back by the readers that ``lock`` and ``build`` use before any file is there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from offline_kit.cli.start.wanted import WantedModel
from offline_kit.host.assets import starter_files
from offline_kit.spec.document import decode_text
from offline_kit.spec.manifest import Accelerator, parse_manifest

ENGINE_YAML = """\
# vLLM arguments common to all engines, as 'vllm serve' takes them, with _ or with -. What config/models.json says of one
# model wins: its fields, and its engine_args. true gives --flag, false --no-flag, null leaves vLLM's default.
max_num_seqs: 64
"""
MONITORING = ("prometheus", "grafana", "node-exporter", "nginx-exporter", "dcgm-exporter")


def default_images() -> dict[str, str]:
    """The images of the shipped manifest: key -> source."""
    name = "manifests/knowflow.yaml"
    shipped = parse_manifest(decode_text(starter_files()[name], name), name)
    return {key: image.source for key, image in shipped.images.items()}


def manifest_text(
    name: str, accelerator: Accelerator, images: Mapping[str, str], models: Sequence[WantedModel], gpus: str | None
) -> str:
    """The manifest, with comments that say what can be added."""
    lines = [
        "# yaml-language-server: $schema=manifest.schema.json",
        "# What is carried. Each model here has an entry of the same key in config/models.json, which says how it is served.",
        "apiVersion: offline-kit/v1",
        f"name: {json.dumps(name)}",
        "platform: linux/amd64",
        f"accelerator: {accelerator}",
        "",
        "# An internal registry: docker://HOST:PORT/REPOSITORY:TAG; one that speaks plain HTTP: add insecure: true.",
        "images:",
        *[f"  {key}: {{source: {json.dumps(source)}}}" for key, source in images.items()],
        "",
        "# dir:///PATH for a folder, hf://OWNER/NAME or modelscope://OWNER/NAME for a hub; revision: a commit, tag or branch;",
        '# endpoint: the URL of an internal hub; exclude: ["onnx/*"] leaves files out.',
        "models:",
        *[f"  {model.key}: {{source: {json.dumps(model.source, ensure_ascii=False)}}}" for model in models],
        "",
        "services: ../config/models.json",
        "engine_config: ../config/vllm_config.yaml",
    ]
    if gpus:
        lines += ["", "# The host that this is for: what cannot run there is refused before any weights are fetched."]
        lines += [f"target: {{gpus: {json.dumps(gpus)}}}"]
    return "\n".join(lines) + "\n"
