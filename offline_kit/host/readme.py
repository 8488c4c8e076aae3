"""README.md of a bundle: the manual for whoever holds this very file, written from its lock.

Rules: every name, size, digest, port and example in it is that of this bundle; the text is a template, this file fills it in.
"""

from __future__ import annotations

from offline_kit.host import assets, chinese, watching
from offline_kit.runtime.paths import PATHS, routes
from offline_kit.runtime.records import Model, Settings, port_variable
from offline_kit.spec.lock import Lock

_UNITS = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
_BODY = {
    "chat": '{"model": "@MODEL@", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 16}',
    "embedding": '{"model": "@MODEL@", "input": ["a first text", "a second text"]}',
    "rerank": '{"model": "@MODEL@", "query": "capital of France", "documents": ["Paris", "A cat sleeps.", "It rains."]}',
}


def readme(lock: Lock, version: str, settings: Settings) -> str:
    """The text of README.md."""
    return _filled("README.md", _parts(lock, version, settings))


def readme_zh(lock: Lock, version: str, settings: Settings) -> str:
    """The text of README.zh.md: the same manual in Chinese."""
    parts = _parts(lock, version, settings)
    words = {
        "PORTS": chinese.ports(parts["PORTS"]),
        "NEEDS": chinese.needs(parts["NEEDS"]),
        "SWITCHES": chinese.settings(lock.images),
        "MONITORING": chinese.chapter(lock.images),
    }
    return _filled("README.zh.md", {**parts, **words})


def _parts(lock: Lock, version: str, settings: Settings) -> dict[str, str]:
    return {
        "NAME": lock.name,
        "VERSION": version,
        "TOP": f"{lock.name}-{version}",
        "PLATFORM": lock.platform,
        "ACCELERATOR": lock.accelerator,
        "ROUTER": str(settings.router_port),
        "IMAGES": "\n".join(_image_row(lock, key) for key in sorted(lock.images)),
        "MODELS": "\n".join(_model_row(lock, key) for key in sorted(lock.models)),
        "SERVICES": "\n".join(_service_row(model) for model in settings.models),
        "ROUTES": "\n".join(f"| `POST {path}` | {model.name} |" for path, model in routes(settings).items()),
        "EXAMPLES": "\n\n".join(_example(settings, model) for model in settings.models),
        "PORTS": "\n".join(f"| `{port_variable(m.key)}` | {m.port} | published port of {m.name} |" for m in settings.models),
        "NEEDS": _needs(lock),
        "SWITCHES": watching.settings(lock.images),
        "MONITORING": watching.chapter(lock.images),
    }


def _filled(template: str, parts: dict[str, str]) -> str:
    text = assets.template(template)
    for name, value in parts.items():
        text = text.replace(f"@{name}@", value)
    return text


def size(count: int) -> str:
    """Bytes for people: 1.5 GiB."""
    for unit, factor in _UNITS:
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} bytes"


def _image_row(lock: Lock, key: str) -> str:
    image = lock.images[key]
    total = sum({blob.digest: blob.size for blob in image.blobs()}.values())
    return f"| {key} | `{image.reference or image.source}` | {size(total)} | `{image.manifest.digest}` |"


def _model_row(lock: Lock, key: str) -> str:
    model = lock.models[key]
    return f"| {key} | `{model.source}` | {len(model.files)} | {size(model.size)} | `{model.commit or 'a local folder'}` |"


def _service_row(model: Model) -> str:
    paths = ", ".join(f"`{path}`" for path in PATHS[model.type])
    return f"| {model.port} | {model.name} | {model.type} | {model.max_model_len} | {paths} |"


def _example(settings: Settings, model: Model) -> str:
    body = _BODY[model.type].replace("@MODEL@", model.name)
    path = PATHS[model.type][0]
    # The first of a type answers on the router too; one example of each way is enough.
    port = settings.router_port if routes(settings)[path] is model else model.port
    lines = [
        f'    curl http://localhost:{port}{path} -H "Authorization: Bearer $KEY" \\',
        f"      -H 'Content-Type: application/json' -d '{body}'",
        f"    curl http://localhost:{model.port}/health",
    ]
    return "\n".join(lines)


def _needs(lock: Lock) -> str:
    images = sum(blob.size for blob in lock.image_blobs().values())
    models = sum(model.size for model in lock.models.values())
    processor = lock.platform.removeprefix("linux/")
    needs = [
        f"- Linux on {processor}; Docker Engine 20.10 or later with Compose 2.0 or later; no Python, no network",
        f"- disk: {size(images + models)} for this folder (images {size(images)}, models {size(models)}); beside it, where",
        "  Docker keeps its data, several times the images' size, because they lie there unpacked",
    ]
    if lock.accelerator == "nvidia":
        needs.append(
            "- the NVIDIA driver and the NVIDIA container toolkit, set up as a runtime of Docker; GPUs as planned below"
        )
    return "\n".join(needs)
