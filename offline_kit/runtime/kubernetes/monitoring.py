"""What a Prometheus of the site asks, and the dashboard of the engines, for its operator's objects.

Rules: only where the site names the namespace of its Prometheus, since PodMonitor is no object of Kubernetes itself; labels are
those that the kit's own Prometheus gives, so that rules and dashboards serve both. Pure, standard library only.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

from ..settings.model import Settings
from .gateway import config_map
from .names import suffix
from .site import Target


def objects(target: Target, settings: Settings, dashboards: Mapping[str, str]) -> List[Dict[str, Any]]:
    """A PodMonitor for each model, and ConfigMaps with the ``dashboards`` (file name -> JSON)."""
    made = []
    for model in settings.models:
        told = {"job": "engine", "service": model.service, "model": model.name, "type": model.type}
        endpoint = {
            "port": "http",
            "path": "/metrics",
            "interval": "15s",
            "relabelings": [{"targetLabel": name, "replacement": value.replace("$", "$$")} for name, value in told.items()],
        }
        made.append(
            {
                "apiVersion": "monitoring.coreos.com/v1",
                "kind": "PodMonitor",
                "metadata": target.metadata(model.service, model.service),
                "spec": {
                    "selector": {"matchLabels": target.labels(model.service)},
                    "podMetricsEndpoints": [endpoint],
                },
            }
        )
    for name, text in sorted(dashboards.items()):
        boards = config_map(target, f"dashboard-{name.partition('.')[0]}-{suffix({name: text})}", "dashboards", {name: text})
        boards["metadata"]["labels"]["grafana_dashboard"] = "1"
        made.append(boards)
    return made
