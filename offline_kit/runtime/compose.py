"""The Compose project of a kit: one engine a model, and the gateway.

Rules: nothing newer than Compose 2.0 (no ``name:``, no ``start_interval``, no ``gpus:``); images by the kit's own tag and never
pulled; engines are on an internal network and publish nothing; everything runs unprivileged, without capabilities, on a
read-only root; paths are relative to the kit (``--project-directory KIT``); the same input gives the same text.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Dict, List

import yaml

from . import gateway, serve
from .plan import Plan, waits_for, world_size
from .records import Model, Settings

HEADER = """\
# Written by offline-kit from config/models.json, config/vllm_config.yaml and .env: do not edit, edit those.
# By hand: docker compose -p PROJECT --project-directory KIT -f THIS-FILE ps
"""
# An internal bridge has no way out, yet the host has an address on it: engines could reach services of the host, and the host
# engines. Without that address only the gateway is on their network.
_INTERNAL = {"internal": True, "driver_opts": {"com.docker.network.bridge.inhibit_ipv4": "true"}}
_HEALTH = ["CMD", "python3", "-I", "-S", "/opt/offline-kit/runtime/health.py"]


@dataclass(frozen=True)
class Kit:
    """What the bundle says about itself, and whom its services run as."""

    name: str
    version: str
    engine_image: str
    gateway_image: str
    user: str = "10001:10001"


def project(settings: Settings, plan: Plan, kit: Kit) -> Dict[str, Any]:
    """The Compose file as data."""
    services = {model.service: _engine(model, settings, plan, kit) for model in settings.models}
    services["gateway"] = _gateway(settings, kit)
    return {"services": services, "networks": {"internal": _INTERNAL, "edge": {}}}


def text(settings: Settings, plan: Plan, kit: Kit) -> str:
    """The Compose file as YAML."""
    # A dollar sign means a variable to Compose; none is meant here.
    data = json.loads(json.dumps(project(settings, plan, kit)).replace("$", "$$"))
    body: str = yaml.safe_dump(data, sort_keys=False, default_flow_style=False, width=120, allow_unicode=True)
    return HEADER + body


def published(settings: Settings) -> Dict[int, str]:
    """Published port -> the service that answers there."""
    return {settings.router_port: "gateway", **{model.port: model.service for model in settings.models}}


def _common(image: str, kit: Kit) -> Dict[str, Any]:
    return {
        "image": image,
        "pull_policy": "never",
        "user": kit.user,
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "restart": "unless-stopped",
        # Without this, an unknown name is asked of the host's name servers, which an air gap answers with a long silence.
        "dns": ["127.0.0.1"],
        "logging": {"driver": "json-file", "options": {"max-size": "50m", "max-file": "5"}},
        "labels": {"offline-kit.kit": kit.name, "offline-kit.version": kit.version},
    }


def _bind(source: str, target: str, *, read_only: bool = True) -> Dict[str, Any]:
    return {"type": "bind", "source": source, "target": target, "read_only": read_only}


def _engine(model: Model, settings: Settings, plan: Plan, kit: Kit) -> Dict[str, Any]:
    service = _common(kit.engine_image, kit)
    service.update(
        {
            "entrypoint": ["python3", "-m", "runtime.serve", model.key],
            "working_dir": "/",
            "environment": {"PYTHONPATH": "/opt/offline-kit", "OFFLINE_KIT_DEVICE": settings.device},
            "volumes": [
                _bind("./models", "/models"),
                _bind("./runtime", "/opt/offline-kit/runtime"),
                _bind("./config", serve.CONFIG),
                _bind(f"./.state/cache/{model.key}", serve.CACHE, read_only=False),
            ],
            # Compilers build here and load what they built.
            "tmpfs": ["/tmp:exec,mode=1777"],
            "networks": ["internal"],
            "healthcheck": {
                "test": _HEALTH,
                "interval": "5s",
                "timeout": "5s",
                "retries": 3,
                # Tens of gigabytes may come from a slow disk, and kernels may be compiled, before the first answer.
                "start_period": "600s" if settings.device == "cpu" else "3600s",
            },
            "stop_grace_period": "30s",
        }
    )
    # An edit of the configuration that changes the command makes Compose recreate this engine, and no other.
    arguments = json.dumps(serve.argv(settings, model.key))
    service["labels"]["offline-kit.arguments"] = hashlib.sha256(arguments.encode("utf-8")).hexdigest()[:12]
    if model.memory_limit:
        service["mem_limit"] = model.memory_limit
    before = waits_for(plan, model.key)
    if before:
        service["depends_on"] = {settings.model(key).service: {"condition": "service_healthy"} for key in before}
    if settings.device == "nvidia":
        devices = {"driver": "nvidia", "device_ids": list(plan.gpus[model.key]), "capabilities": ["gpu"]}
        service["deploy"] = {"resources": {"reservations": {"devices": [devices]}}}
    if world_size(model, settings) > 1:
        # The processes of one engine exchange tensors through shared memory; it is taken only as it is used.
        service["shm_size"] = "16gb"
    return service


def _gateway(settings: Settings, kit: Kit) -> Dict[str, Any]:
    service = _common(kit.gateway_image, kit)
    inside = gateway.container_ports(settings)
    bind = f"[{settings.bind}]" if ":" in settings.bind else settings.bind
    ports: List[str] = [f"{bind}:{settings.router_port}:{gateway.ROUTER}"]
    ports += [f"{bind}:{model.port}:{inside[model.key]}" for model in settings.models]
    service.update(
        {
            # Not the image's own entrypoint: it writes into /etc. No health check: no HTTP client is sure to be in there.
            "entrypoint": ["nginx", "-e", "stderr", "-c", "/etc/offline-kit/nginx.conf", "-g", "daemon off;"],
            "volumes": [_bind("./.state/gateway", "/etc/offline-kit")],
            "tmpfs": ["/tmp:mode=1777"],
            "networks": ["internal", "edge"],
            "ports": ports,
            "stop_signal": "SIGQUIT",
            "stop_grace_period": "30s",
        }
    )
    return service
