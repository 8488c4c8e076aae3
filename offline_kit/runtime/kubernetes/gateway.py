"""The gateway, and the router that it asks, as Deployments behind Services.

Rules: the gateway's configuration is that of Compose but for addresses, which are those of Services and stay; keys come from a
Secret and are in no ConfigMap; what a ConfigMap holds is in its name, so that a change makes new pods and an undo finds the
earlier one. Pure, standard library only.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Tuple

from .. import serve
from ..render import gateway
from ..settings.model import Settings
from . import pods
from .engines import disruption, models_json, port
from .names import suffix
from .site import Target, files_of

KEYS = "gateway-keys"
FOLDER = "/etc/offline-kit"
_PORT = "http"


def objects(target: Target, settings: Settings) -> List[Dict[str, Any]]:
    """ConfigMap, Service, Deployment and budget of the gateway."""
    # The page at / is files of a kit's folder, which is not here.
    conf = gateway.nginx_conf(dataclasses.replace(settings, page=False), gateway.NginxPlace(resolver=""))
    rest = conf.partition("\n")[2]
    contents = {"nginx.conf": f"# Written by 'offline-kit render kubernetes': do not edit, render it again.\n{rest}"}
    contents.update({f"models/{name}": text for name, text in gateway.model_lists(settings).items()})
    data, items = files_of(contents)
    name = f"gateway-{suffix(data)}"
    inside = gateway.container_ports(settings)
    listens = {"http": gateway.ROUTER, **{f"model-{index}": inside[m.key] for index, m in enumerate(settings.models)}}
    served = pods.container(
        "gateway",
        target.image("gateway"),
        command=["nginx", "-e", "stderr", "-c", f"{FOLDER}/nginx.conf", "-g", "daemon off;"],
        ports=[{"name": title, "containerPort": number, "protocol": "TCP"} for title, number in listens.items()],
        resources={"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "4Gi"}},
        readinessProbe={"httpGet": {"path": "/health", "port": _PORT}, "periodSeconds": 5, "timeoutSeconds": 5},
        livenessProbe={"tcpSocket": {"port": _PORT}, "periodSeconds": 15, "failureThreshold": 4, "timeoutSeconds": 5},
        # Others hear of its end before it takes no more connections.
        lifecycle={"preStop": {"sleep": {"seconds": 5}}},
        volumeMounts=[pods.mount("configuration", FOLDER), pods.mount("tmp", "/tmp", read_only=False)],
    )
    sources: List[Dict[str, Any]] = [
        {"configMap": {"name": name, "items": items}},
        {"secret": {"name": KEYS, "items": [{"key": "keys.conf", "path": "keys.conf"}]}},
    ]
    configuration = {"name": "configuration", "projected": {"defaultMode": 0o440, "sources": sources}}
    volumes = [configuration, pods.scratch("tmp", limit="2Gi")]
    pod = pods.template(target, "gateway", [served], volumes, terminationGracePeriodSeconds=60, **_apart(target, "gateway"))
    ports = [port("http", settings.router_port, _PORT)]
    ports += [port(f"model-{index}", model.port, f"model-{index}") for index, model in enumerate(settings.models)]
    return [
        config_map(target, name, "gateway", data),
        service(target, "gateway", ports),
        _deployment(target, "gateway", pod),
        *disruption(target, "gateway"),
    ]


def router(target: Target, settings: Settings, code: Tuple[str, List[Dict[str, str]]]) -> List[Dict[str, Any]]:
    """ConfigMap, Service, Deployment and budget of the router."""
    data = {"models.json": models_json(settings)}
    name = f"router-{suffix(data)}"
    asked = pods.container(
        "router",
        target.image("engine"),
        command=["python3", "-m", "runtime.router"],
        workingDir="/",
        env=pods.variables({"PYTHONPATH": pods.CODE, "NVIDIA_VISIBLE_DEVICES": "void"}),
        ports=[{"name": _PORT, "containerPort": serve.PORT, "protocol": "TCP"}],
        resources={"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
        readinessProbe={"httpGet": {"path": "/health", "port": _PORT}, "periodSeconds": 5, "timeoutSeconds": 5},
        livenessProbe={"tcpSocket": {"port": _PORT}, "periodSeconds": 15, "failureThreshold": 4, "timeoutSeconds": 5},
        volumeMounts=[pods.mount("code", f"{pods.CODE}/runtime"), pods.mount("configuration", serve.CONFIG)],
    )
    volumes = [pods.code_volume(*code), {"name": "configuration", "configMap": {"name": name}}]
    pod = pods.template(
        target, "router", [asked], volumes, terminationGracePeriodSeconds=10, **pods.no_names(), **_apart(target, "router")
    )
    return [
        config_map(target, name, "router", data),
        service(target, "router", [port(_PORT, serve.PORT, _PORT)]),
        _deployment(target, "router", pod),
        *disruption(target, "router"),
    ]


def secret(target: Target) -> Dict[str, Any]:
    """The keys of clients, as nginx reads them."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": target.metadata(KEYS, "gateway"),
        "type": "Opaque",
        "stringData": {"keys.conf": target.keys},
    }


def config_map(target: Target, name: str, component: str, data: Dict[str, str]) -> Dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": target.metadata(name, component), "data": data}


def service(target: Target, name: str, ports: List[Dict[str, Any]]) -> Dict[str, Any]:
    """The Service of the component ``name``."""
    spec = {"selector": target.labels(name), "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": target.metadata(name, name), "spec": spec}


def _deployment(target: Target, name: str, pod: Dict[str, Any]) -> Dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": target.metadata(name, name),
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": target.labels(name)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": pod,
        },
    }


def _apart(target: Target, name: str) -> Dict[str, Any]:
    """On different nodes, where there are some."""
    term = {"labelSelector": {"matchLabels": target.labels(name)}, "topologyKey": "kubernetes.io/hostname"}
    wanted = {"weight": 100, "podAffinityTerm": term}
    return {"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [wanted]}}}
