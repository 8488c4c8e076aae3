"""Prometheus, Grafana and the exporters: what watches the services, when .env says OFFLINE_KIT_WITH=monitoring.

Rules: a service is there only if the kit carries its image; exporters and engines are asked inside the internal network and
publish nothing; Prometheus is published where .env says, on the loopback by default, because it asks for no password;
Grafana is published as the gateway is, and its password lies in a file that only it can read. Nothing asks a network for
updates, plug-ins or news. Alert rules and dashboards are the operator's files in config/monitoring/.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Tuple

import yaml

from .container import Kit, bind, common, digest
from .gateway import METRICS
from .records import Settings
from .replicas import engines

CONFIG = "/etc/offline-kit"
HOST = "/host"
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


def folders(settings: Settings, kit: Kit) -> List[str]:
    """Folders below .state/ that services of monitoring write into."""
    return [name for name in ("prometheus", "grafana") if settings.monitoring and name in kit.images]


def files(settings: Settings, kit: Kit) -> Dict[str, str]:
    """Path below the kit -> content, of what apply writes for monitoring."""
    if settings.monitoring is None:
        return {}
    result = {".state/monitoring/prometheus/prometheus.yml": prometheus_yml(settings, kit)}
    if "grafana" in kit.images:
        result[".state/monitoring/grafana/password"] = settings.monitoring.password
    return result


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


def _port(bind_to: str, port: int, inside: int) -> str:
    return f"{f'[{bind_to}]' if ':' in bind_to else bind_to}:{port}:{inside}"


def _exporter(kit: Kit, name: str, command: Tuple[str, ...]) -> Dict[str, Any]:
    service = common(kit, name)
    service.update({"command": list(command), "networks": ["internal"]})
    return service


def _nginx_exporter(settings: Settings, kit: Kit) -> Dict[str, Any]:
    return _exporter(kit, "nginx-exporter", (f"--nginx.scrape-uri=http://gateway:{METRICS}/stub_status",))


def _node_exporter(settings: Settings, kit: Kit) -> Dict[str, Any]:
    collectors = ("cpu", "diskstats", "filesystem", "loadavg", "meminfo", "stat", "time", "uname", "vmstat")
    where = (f"--path.rootfs={HOST}", f"--path.procfs={HOST}/proc", f"--path.sysfs={HOST}/sys")
    chosen = ("--collector.disable-defaults", *(f"--collector.{name}" for name in collectors))
    service = _exporter(kit, "node-exporter", (*where, *chosen))
    # Read-only, and as a user that can read what everybody may: sizes of file systems are asked at their mount points.
    service["volumes"] = [bind("/", HOST)]
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
    service = common(kit, "prometheus")
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
            "networks": ["internal", "edge"],
            "ports": [_port(settings.monitoring.bind, settings.monitoring.prometheus_port, 9090)],
            "stop_grace_period": "30s",
        }
    )
    service["labels"]["offline-kit.arguments"] = digest([prometheus_yml(settings, kit), kit.watched])
    return service


def _grafana(settings: Settings, kit: Kit) -> Dict[str, Any]:
    assert settings.monitoring is not None
    service = common(kit, "grafana")
    service.update(
        {
            "environment": _GRAFANA,
            "volumes": [
                bind("./config/monitoring/grafana", f"{CONFIG}/grafana"),
                bind("./.state/monitoring/grafana", f"{CONFIG}/secret"),
                bind("./.state/grafana", "/var/lib/grafana", read_only=False),
            ],
            "tmpfs": ["/tmp:mode=1777"],
            "networks": ["internal", "edge"],
            "ports": [_port(settings.bind, settings.monitoring.grafana_port, 3000)],
            "stop_grace_period": "30s",
        }
    )
    service["labels"]["offline-kit.arguments"] = digest([_GRAFANA, kit.watched])
    return service
