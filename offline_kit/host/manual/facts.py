"""What the two manuals of a bundle tell: one table of facts, in no language, from its lock and its configuration.

Rules: every name, size, digest, port and example is that of this bundle; words belong to the templates. A folder of the
build machine says nothing on the host: such a source is None.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from offline_kit.common.units import size
from offline_kit.host import assets
from offline_kit.host.validate import Services
from offline_kit.runtime.settings.model import Model, Monitoring, Settings, Web, port_variable
from offline_kit.runtime.settings.replicas import engines_of
from offline_kit.runtime.settings.routes import PATHS, routes
from offline_kit.spec.lock import Lock, LockedModel

RULES = "config/monitoring/rules/alerts.yml"
_BODY = {
    "chat": '{"model": "@MODEL@", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 16}',
    "embedding": '{"model": "@MODEL@", "input": ["a first text", "a second text"]}',
    "rerank": '{"model": "@MODEL@", "query": "capital of France", "documents": ["Paris", "A cat sleeps.", "It rains."]}',
}


def facts(lock: Lock, version: str, services: Services) -> dict[str, Any]:
    """Name -> value for the templates. Raises DiskError."""
    settings = services.settings
    images_size = sum(blob.size for blob in lock.image_blobs().values())
    models_size = sum(model.size for model in lock.models.values())
    return {
        "name": lock.name,
        "version": version,
        "platform": lock.platform,
        "processor": lock.platform.removeprefix("linux/"),
        "accelerator": lock.accelerator,
        "size": {"all": size(images_size + models_size), "images": size(images_size), "models": size(models_size)},
        "images": {key: _image(lock, key) for key in sorted(lock.images)},
        "models": {key: _model(lock.models[key]) for key in sorted(lock.models)},
        "services": [_service(settings, model) for model in settings.models],
        "routes": {path: model.name for path, model in routes(settings).items()},
        "engines": _engines(services) if lock.accelerator == "nvidia" else [],
        "ports": {
            "router": settings.router_port,
            "http": Web.http_port,
            "https": Web.https_port,
            "prometheus": Monitoring.prometheus_port,
            "grafana": Monitoring.grafana_port,
        },
        "monitoring_bind": Monitoring.bind,
        "key_limit": settings.key_limit,
        "alerts": alerts(),
    }


def alerts() -> list[dict[str, str]]:
    """Name, meaning and action of every rule that a bundle carries: the alert's own words. Raises DiskError."""
    groups = yaml.safe_load(assets.monitoring()[RULES])["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    return [{"name": rule["alert"], **_texts(rule["annotations"])} for rule in rules]


def _texts(annotations: dict[str, str]) -> dict[str, str]:
    return {"meaning": _plain(annotations["summary"]), "action": _plain(annotations["action"])}


def _plain(text: str) -> str:
    # {{ $labels.service }} is a name that only a firing alert has.
    text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda match: match.group(1).upper(), text)
    return re.sub(r"\{\{ \$value[^}]*\}\}", "N", text).replace("|", "\\|")


def _image(lock: Lock, key: str) -> dict[str, str]:
    image = lock.images[key]
    total = sum({blob.digest: blob.size for blob in image.blobs()}.values())
    return {"source": image.reference or image.source, "size": size(total), "digest": str(image.manifest.digest)}


def _model(model: LockedModel) -> dict[str, Any]:
    source = None if model.source.startswith("dir://") else model.source
    return {"source": source, "files": len(model.files), "size": size(model.size), "commit": model.commit}


def _service(settings: Settings, model: Model) -> dict[str, Any]:
    path = PATHS[model.type][0]
    return {
        "name": model.name,
        "type": model.type,
        "port": model.port,
        "port_variable": port_variable(model.key),
        "context": model.max_model_len,
        "paths": PATHS[model.type],
        "example_path": path,
        # The first of a type answers on the router too; one example of each way is enough.
        "example_port": settings.router_port if routes(settings)[path] is model else model.port,
        "example_body": _BODY[model.type].replace("@MODEL@", model.name),
    }


def _engines(services: Services) -> list[dict[str, Any]]:
    """The GPUs of each engine as shipped, and its share of each."""
    return [
        {"service": engine.service, "gpus": services.placement.gpus[engine.key], "share": model.gpu_memory_utilization}
        for model in services.settings.models
        for engine in engines_of(model)
    ]
