"""Prometheus, Grafana and the exporters: what watches the services, when .env says OFFLINE_KIT_WITH=monitoring.

Rules: a service is there only if the kit carries its image; exporters and engines are asked inside the internal network and
publish nothing; Prometheus is published where .env says, on the loopback by default, because it asks for no password;
Grafana is published as the gateway is, and its password lies in a file that only it can read. Nothing asks a network for
updates, plug-ins or news. Alert rules and dashboards are the operator's files in config/monitoring/.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Tuple

import yaml

from ..settings.model import Settings
from ..settings.replicas import engines
from . import networks
from .container import Kit, bind, common, digest, publish
from .gateway import METRICS

CONFIG = "/etc/offline-kit"
NOBODY = "65534:65534"
_PORTS = {"nginx-exporter": 9113, "node-exporter": 9100, "dcgm-exporter": 9400}
_JOBS = {"nginx-exporter": "gateway", "node-exporter": "host", "dcgm-exporter": "gpu"}
_GRAFANA = {
    "GF_PATHS_PROVISIONING": f"{CONFIG}/grafana",
    "GF_SECURITY_ADMIN_PASSWORD__FILE": f"{CONFIG}/secret/password",
    "GF_USERS_ALLOW_SIGN_UP": "false",
    "GF_ANALYTICS_REPORTING_ENABLED": "false",
    "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
    "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
    "GF_NEWS_NEWS_FEED_ENABLED": "false",
    "GF_PLUGINS_PREINSTALL_DISABLED": "true",
    "GF_PLUGINS_PLUGIN_ADMIN_ENABLED": "false",
    "GF_PLUGINS_PUBLIC_KEY_RETRIEVAL_DISABLED": "true",
    "GF_SECURITY_DISABLE_GRAVATAR": "true",
    "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH": f"{CONFIG}/grafana/boards/overview.json",
}


def services(settings: Settings, kit: Kit) -> Dict[str, Any]:
    """The Compose services, by name."""
    if settings.monitoring is None:
        return {}
    made: Dict[str, Callable[[Settings, Kit], Dict[str, Any]]] = {
        "nginx-exporter": _nginx_exporter,
        "node-exporter": _node_exporter,
        "dcgm-exporter": _dcgm_exporter,
        "prometheus": _prometheus,
        "grafana": _grafana,
    }
    return {name: make(settings, kit) for name, make in made.items() if _runs(name, settings, kit)}


def published(settings: Settings, kit: Kit) -> Dict[int, str]:
    """Published port -> service."""
    watch = settings.monitoring
    ports = [(watch.prometheus_port, "prometheus"), (watch.grafana_port, "grafana")] if watch else []
    return {port: name for port, name in ports if name in kit.images}


def files(settings: Settings, kit: Kit) -> Dict[str, str]:
    """Path below .state/ -> content, of what apply answers for monitoring. Grafana's password is written by the host."""
    return {"monitoring/prometheus/prometheus.yml": prometheus_yml(settings, kit)} if settings.monitoring else {}


def kit_metrics(kit: Kit, certificate_ends: Optional[int]) -> str:
    """What the gateway tells Prometheus about the kit: its version, and when the certificate of port 443 ends."""
    lines = ["# TYPE offline_kit_info gauge", f'offline_kit_info{{kit="{kit.name}",version="{kit.version}"}} 1']
    if certificate_ends is not None:
        lines.append("# TYPE offline_kit_certificate_not_after_seconds gauge")
        lines.append(f"offline_kit_certificate_not_after_seconds {certificate_ends}")
    return "\n".join(lines) + "\n"


def prometheus_yml(settings: Settings, kit: Kit) -> str:
    """What Prometheus asks, and where its rules are."""
    targets = [
        {
            "targets": [f"{engine.service}:8000"],
            "labels": {"service": engine.service, "model": engine.model.name, "type": engine.model.type},
        }
        for engine in engines(settings)
    ]
    jobs: List[Dict[str, Any]] = [
        {"job_name": "engine", "static_configs": targets},
        {"job_name": "kit", "metrics_path": "/kit", "static_configs": [_target("gateway", METRICS)]},
        {"job_name": "attest", "metrics_path": "/attest", "static_configs": [_target("gateway", METRICS)]},
        {"job_name": "prometheus", "static_configs": [{"targets": ["localhost:9090"], "labels": {"service": "prometheus"}}]},
    ]
    for name, job in _JOBS.items():
        if _runs(name, settings, kit):
            jobs.append({"job_name": job, "static_configs": [_target(name, _PORTS[name])]})
    data = {
        "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
        "rule_files": [f"{CONFIG}/rules/*.yml"],
        "scrape_configs": jobs,
    }
    text: str = yaml.safe_dump(data, sort_keys=False, width=120)
    return "# Written by offline-kit: do not edit. Alert rules are in config/monitoring/rules/.\n" + text


def _target(service: str, port: int) -> Dict[str, Any]:
    return {"targets": [f"{service}:{port}"], "labels": {"service": service}}


def _runs(name: str, settings: Settings, kit: Kit) -> bool:
    return name in kit.images and (name != "dcgm-exporter" or settings.device == "nvidia")


def _exporter(kit: Kit, name: str, command: Tuple[str, ...]) -> Dict[str, Any]:
    service = common(kit, name, "1g")
    service.update({"command": list(command), "networks": [networks.INTERNAL]})
    return service


def _nginx_exporter(settings: Settings, kit: Kit) -> Dict[str, Any]:
    return _exporter(kit, "nginx-exporter", (f"--nginx.scrape-uri=http://gateway:{METRICS}/stub_status",))


def _node_exporter(settings: Settings, kit: Kit) -> Dict[str, Any]:
    collectors = ("cpu", "diskstats", "filesystem", "loadavg", "meminfo", "stat", "time", "uname", "vmstat")
    chosen = ("--collector.disable-defaults", *(f"--collector.{name}" for name in collectors))
    service = _exporter(kit, "node-exporter", chosen)
    # As nobody, never as the operator, whose keys and sockets it could reach. Of the host it sees no folder but one of the
    # kit, for the size of its disk (Docker's own it sees at /etc/hosts); what /proc counts is the host's in any container.
    service["user"] = NOBODY
    service["volumes"] = [bind("./deploy", "/kit")]
    return service


def _dcgm_exporter(settings: Settings, kit: Kit) -> Dict[str, Any]:
    service = _exporter(kit, "dcgm-exporter", ())
    # As NVIDIA documents it: its host engine refuses to run as another user than root or without SYS_ADMIN.
    for name in ("user", "read_only", "cap_drop", "security_opt", "command"):
        del service[name]
    devices = {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    service.update({"cap_add": ["SYS_ADMIN"], "deploy": {"resources": {"reservations": {"devices": [devices]}}}})
    return service


def _prometheus(settings: Settings, kit: Kit) -> Dict[str, Any]:
    assert settings.monitoring is not None
    service = common(kit, "prometheus", "4g", pids=4096)
    service.update(
        {
            "command": [
                f"--config.file={CONFIG}/prometheus/prometheus.yml",
                "--storage.tsdb.path=/prometheus",
                "--storage.tsdb.retention.time=30d",
                "--storage.tsdb.retention.size=10GB",
            ],
            "volumes": [
                bind("./.state/monitoring/prometheus", f"{CONFIG}/prometheus"),
                bind("./config/monitoring/rules", f"{CONFIG}/rules"),
                bind("./.state/prometheus", "/prometheus", read_only=False),
            ],
            "networks": [networks.INTERNAL, *networks.of_engines(settings), networks.EDGE],
            "ports": [publish(settings.monitoring.bind, settings.monitoring.prometheus_port, 9090)],
            "stop_grace_period": "30s",
        }
    )
    service["labels"]["offline-kit.arguments"] = digest([prometheus_yml(settings, kit), kit.watched])
    return service


def _grafana(settings: Settings, kit: Kit) -> Dict[str, Any]:
    assert settings.monitoring is not None
    service = common(kit, "grafana", "2g", pids=4096)
    service.update(
        {
            "environment": _GRAFANA,
            "volumes": [
                bind("./config/monitoring/grafana", f"{CONFIG}/grafana"),
                bind("./.state/monitoring/grafana", f"{CONFIG}/secret"),
                bind("./.state/grafana", "/var/lib/grafana", read_only=False),
            ],
            "tmpfs": ["/tmp:mode=1777,size=256m"],
            "networks": [networks.INTERNAL, networks.EDGE],
            "ports": [publish(settings.address(settings.monitoring.grafana_port), settings.monitoring.grafana_port, 3000)],
            "stop_grace_period": "30s",
        }
    )
    service["labels"]["offline-kit.arguments"] = digest([_GRAFANA, kit.watched])
    return service
