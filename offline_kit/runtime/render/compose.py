"""The Compose project of a kit: its engines, the gateway, and what .env switches on beside them.

Rules: nothing newer than Compose 2.0 (no ``name:``, no ``start_interval``, no ``gpus:``); images by the kit's own tag and never
pulled; engines are on an internal network and publish nothing; everything runs unprivileged, without capabilities, on a
read-only root (one exception, which says why); paths are relative to the kit (``--project-directory KIT``); the same input
gives the same text. What is written here must be named in ``scripts/lib/services/compose_table.sh``: the host refuses the rest.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List

from .. import parsers, serve
from ..settings.model import Model, Settings
from ..settings.placement import Placement, waits_for, world_size
from ..settings.replicas import Engine, engines
from ..settings.routes import needs_router
from . import gateway, monitoring, networks, plain_yaml
from .container import Kit, bind, common, digest, publish

__all__ = ["Kit", "digest", "groups", "project", "published", "text"]
HEADER = """\
# Written by offline-kit from config/models.json, config/vllm_config.yaml and .env: do not edit, edit those.
# By hand: docker compose -p PROJECT --project-directory KIT -f THIS-FILE ps
"""
# An internal bridge has no way out, yet the host has an address on it: engines could reach services of the host, and the host
# engines. Without that address only the gateway is on their network.
_INTERNAL = {"internal": True, "driver_opts": {"com.docker.network.bridge.inhibit_ipv4": "true"}}
_HEALTH = ["CMD", "python3", "-I", "-S", "/opt/offline-kit/runtime/healthcheck.py"]


def project(settings: Settings, placed: Placement, kit: Kit) -> Dict[str, Any]:
    """The Compose file as data. ``placed``: where the engines of ``settings``, replicas expanded, run."""
    services = {engine.service: _engine(engine, settings, placed, kit) for engine in engines(settings)}
    if needs_router(settings):
        services["router"] = _router(settings, kit)
    services["gateway"] = _gateway(settings, kit)
    services.update(monitoring.services(settings, kit))
    services.update(_switched_off(settings, kit))
    inside = [networks.INTERNAL, *networks.of_engines(settings)]
    return {"services": services, "networks": {**dict.fromkeys(inside, _INTERNAL), networks.EDGE: {}}}


def text(settings: Settings, placed: Placement, kit: Kit) -> str:
    """The Compose file as YAML."""
    # A dollar sign means a variable to Compose; none is meant here.
    data = json.loads(json.dumps(project(settings, placed, kit)).replace("$", "$$"))
    return HEADER + plain_yaml.text(data)


def groups(settings: Settings, placed: Placement, kit: Kit) -> List[List[str]]:
    """Services in the order of starting, side by side within a group: engines, gateway, monitoring."""
    order = [[f"engine-{key}" for key in group] for group in placed.order]
    front = [["router"]] if needs_router(settings) else []
    watch = list(monitoring.services(settings, kit))
    return [*order, *front, ["gateway"], *([watch] if watch else [])]


def published(settings: Settings, kit: Kit) -> Dict[int, str]:
    """Published port -> the service that answers there; the router's port is the first."""
    ports = {settings.router_port: "gateway", **{model.port: model.service for model in settings.models}}
    if settings.web:
        ports[settings.web.http_port] = "gateway"
        if kit.certificate:
            ports[settings.web.https_port] = "gateway"
    return {**ports, **monitoring.published(settings, kit)}


def _code(model: Model) -> List[str]:
    return [f"{name}={folder}" for name, folder in sorted(model.code.items())]


def _engine(engine: Engine, settings: Settings, placed: Placement, kit: Kit) -> Dict[str, Any]:
    model = engine.model
    # Weights pass through memory, however many gigabytes they are: without a memory_limit it is most of what the host has.
    service = common(kit, "engine", model.memory_limit or kit.memory, pids=32768)
    service.update(
        {
            "entrypoint": ["python3", "-m", "runtime.serve", model.key],
            "working_dir": "/",
            "environment": {
                "PYTHONPATH": "/opt/offline-kit",
                "OFFLINE_KIT_DEVICE": settings.device,
                **parsers.to_container(model),
                **dict(sorted({**settings.environment, **model.environment}.items())),
            },
            "volumes": [
                bind("./models", "/models"),
                bind("./models", "/app/models"),  # where other guides' images have them
                bind("./runtime", "/opt/offline-kit/runtime"),
                bind("./config", serve.CONFIG),
                bind(f"./.state/cache/{engine.key}", serve.CACHE, read_only=False),
            ],
            # Compilers build here and load what they built.
            "tmpfs": ["/tmp:exec,mode=1777"],
            "networks": [networks.of_model(model, settings)],
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
    service["labels"]["offline-kit.arguments"] = digest([*serve.argv(settings, model.key), *_code(model)])
    service["labels"]["offline-kit.model"] = model.name
    before = waits_for(placed, engine.key)
    if before:
        service["depends_on"] = {f"engine-{key}": {"condition": "service_healthy"} for key in before}
    if settings.device == "nvidia":
        devices = {"driver": "nvidia", "device_ids": list(placed.gpus[engine.key]), "capabilities": ["gpu"]}
        service["deploy"] = {"resources": {"reservations": {"devices": [devices]}}}
    if world_size(model, settings) > 1:
        # The processes of one engine exchange tensors through shared memory; it is taken only as it is used.
        service["shm_size"] = "16gb"
    return service


def _switched_off(settings: Settings, kit: Kit) -> Dict[str, Any]:
    """For each feature that is off, a service behind a profile of its name, which no engine creates: it says what to do.

    ``docker compose --profile monitoring up -d`` would otherwise start nothing, and say nothing.
    """
    off = {"monitoring": settings.monitoring is None, "nginx": settings.web is None}
    return {f"{name}-off": _refusal(name, kit) for name in off if off[name]}


def _refusal(name: str, kit: Kit) -> Dict[str, Any]:
    service = common(kit, "gateway", "1g")
    # Docker's own error has it: "the working directory '...' is invalid".
    words = f"{name} is switched off: run ./install.sh --with {name}"
    service.update({"profiles": [name], "working_dir": words, "networks": [networks.INTERNAL]})
    return service


def _router(settings: Settings, kit: Kit) -> Dict[str, Any]:
    service = common(kit, "engine", "1g", pids=1024)
    service.update(
        {
            "entrypoint": ["python3", "-m", "runtime.router"],
            "working_dir": "/",
            # The engine image asks for all GPUs where the NVIDIA runtime is Docker's default; this needs none.
            "environment": {"PYTHONPATH": "/opt/offline-kit", "NVIDIA_VISIBLE_DEVICES": "void"},
            "volumes": [bind("./runtime", "/opt/offline-kit/runtime"), bind("./config", serve.CONFIG)],
            "networks": [networks.INTERNAL],
            "healthcheck": {"test": _HEALTH, "interval": "5s", "timeout": "5s", "retries": 3, "start_period": "60s"},
            "stop_grace_period": "1s",
        }
    )
    service["labels"]["offline-kit.arguments"] = digest([[m.key, m.type, m.name, *m.adapters] for m in settings.models])
    return service


def _gateway(settings: Settings, kit: Kit) -> Dict[str, Any]:
    service = common(kit, "gateway", "4g")
    listens = gateway.container_ports(settings)
    inside = {model.port: listens[model.key] for model in settings.models}
    inside[settings.router_port] = gateway.ROUTER
    if settings.web:
        inside.update({settings.web.http_port: gateway.ROUTER, settings.web.https_port: gateway.TLS})
    ports = [port for port, name in published(settings, kit).items() if port in inside]
    service.update(
        {
            # Not the image's own entrypoint: it writes into /etc. No health check: no HTTP client is sure to be in there.
            "entrypoint": ["nginx", "-e", "stderr", "-c", "/etc/offline-kit/nginx.conf", "-g", "daemon off;"],
            "volumes": [bind("./.state/gateway", "/etc/offline-kit"), bind("./deploy/page", gateway.PAGE)],
            "tmpfs": ["/tmp:mode=1777,size=2g"],
            "networks": [networks.INTERNAL, *networks.of_engines(settings), networks.EDGE],
            "ports": [publish(settings.address(port), port, inside[port]) for port in ports],
            "stop_signal": "SIGQUIT",
            "stop_grace_period": "30s",
        }
    )
    return service
