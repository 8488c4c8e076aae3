"""Who may speak to whom: nobody, but for what is named here.

Rules: every pod of the namespace is denied both ways; the gateway is asked by everyone and asks engines, the router and the
cluster's names; engines and the router answer the gateway (and engines Prometheus, where it is named) and ask nobody; the Job
that brings weights asks the registry's port and names. Pure, standard library only.
"""

from __future__ import annotations

from typing import Any, Dict, List

from .. import serve
from ..render import gateway
from ..settings.model import Settings
from ..settings.routes import needs_router
from .site import Target

# Some clusters have their name servers' pods listen on a port above 1024.
_NAMES: Dict[str, Any] = {
    "to": [{"namespaceSelector": {}}],
    "ports": [{"protocol": kind, "port": number} for number in (53, 5353) for kind in ("UDP", "TCP")],
}


def objects(target: Target, settings: Settings) -> List[Dict[str, Any]]:
    """The policies of the namespace."""
    behind = [model.service for model in settings.models] + (["router"] if needs_router(settings) else [])
    chosen: Dict[str, Any] = {"matchExpressions": [{"key": "app.kubernetes.io/component", "operator": "In", "values": behind}]}
    http = [{"protocol": "TCP", "port": serve.PORT}]
    listens = [gateway.ROUTER, *gateway.container_ports(settings).values()]
    asked: List[Dict[str, Any]] = [{"from": [{"podSelector": {"matchLabels": target.labels("gateway")}}], "ports": http}]
    if target.site.monitoring:
        there = {"matchLabels": {"kubernetes.io/metadata.name": target.site.monitoring}}
        asked.append({"from": [{"namespaceSelector": there}], "ports": http})
    made: List[Dict[str, Any]] = [
        _policy(target, "default-deny", {}, {"policyTypes": ["Ingress", "Egress"]}),
        _policy(
            target,
            "gateway",
            {"matchLabels": target.labels("gateway")},
            {
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"ports": [{"protocol": "TCP", "port": number} for number in listens]}],
                "egress": [{"to": [{"podSelector": chosen}], "ports": http}, _NAMES],
            },
        ),
        _policy(target, "engines", chosen, {"policyTypes": ["Ingress"], "ingress": asked}),
    ]
    if target.site.weights == "pvc":
        out = {"ports": [{"protocol": "TCP", "port": registry_port(target)}]}
        chosen = {"matchLabels": target.labels("weights")}
        made.append(_policy(target, "weights", chosen, {"policyTypes": ["Egress"], "egress": [out, _NAMES]}))
    return made


def registry_port(target: Target) -> int:
    """The port of the registry: the one that is named, or that of its protocol."""
    number = target.site.registry.partition("/")[0].rpartition(":")[2]
    return int(number) if number.isdigit() else (80 if target.site.insecure else 443)


def _policy(target: Target, name: str, chosen: Dict[str, Any], rules: Dict[str, Any]) -> Dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": target.metadata(name, name),
        "spec": {"podSelector": chosen, **rules},
    }
