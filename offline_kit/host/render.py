"""The small files of a bundle that do not follow from the lock alone: scripts, runtime, configuration, manual, SBOM.

Rules: pure but for reading the package's own files; the same lock, version, configuration and offline-kit give the same bytes;
nothing secret and nothing of the build machine is in them.
"""

from __future__ import annotations

from collections.abc import Mapping

from offline_kit.host import assets
from offline_kit.host.readme import readme, readme_zh
from offline_kit.host.sbom import sbom
from offline_kit.host.services import check_services
from offline_kit.runtime import compose, plan
from offline_kit.runtime.records import Monitoring, Settings, Web, port_variable
from offline_kit.runtime.replicas import spread
from offline_kit.spec.lock import Lock


def render(lock: Lock, version: str, config: Mapping[str, bytes]) -> tuple[dict[str, bytes], frozenset[str]]:
    """Path -> content, and which paths can be executed. ``config``: the two files by name. Raises SpecError, DiskError."""
    settings = check_services(config, lock.models.keys(), lock.accelerator)
    texts, executables = assets.scripts()
    texts.update(assets.runtime())
    texts.update({f"config/{name}": content for name, content in config.items()})
    texts["deploy/compose.yaml"] = _compose(lock, version, settings).encode()
    texts[".env.example"] = _dotenv(settings, lock).encode()
    texts.update(assets.monitoring() if "prometheus" in lock.images else {})
    texts["README.md"] = readme(lock, version, settings).encode()
    texts["README.zh.md"] = readme_zh(lock, version, settings).encode()
    texts["sbom.cdx.json"] = sbom(lock, version)
    return texts, executables


def _compose(lock: Lock, version: str, settings: Settings) -> str:
    kit = compose.Kit(lock.name, version, {key: lock.images[key].tag(key) for key in sorted(lock.images)})
    placed, _ = plan.place(spread(settings)[0])
    return compose.text(settings, placed, kit)


def _dotenv(settings: Settings, lock: Lock) -> str:
    placed, _ = plan.place(spread(settings)[0])
    gpus = sorted({gpu for gpus in placed.gpus.values() for gpu in gpus}, key=lambda gpu: (len(gpu), gpu))
    lines = [
        "# Settings of this installation. install.sh makes .env from this file; after an edit: scripts/deploy.sh restart",
        "",
        "# Published ports: the router (chat, embeddings, rerank by path), then one for each model.",
        f"VLLM_ROUTER_PORT={settings.router_port}",
        *(f"{port_variable(model.key)}={model.port}" for model in settings.models),
        "",
        "# The address that they are published on: 0.0.0.0 is every one of this host, 127.0.0.1 is this host only.",
        f"OFFLINE_KIT_BIND={settings.bind}",
        "",
        "# nvidia or cpu; on nvidia, the GPUs that engines may use, as nvidia-smi numbers them.",
        f"OFFLINE_KIT_DEVICE={settings.device}",
        f"CUDA_VISIBLE_DEVICES={','.join(gpus)}",
        "",
        "# Seconds that an engine may take to get healthy.",
        "OFFLINE_KIT_START_TIMEOUT=1800",
        "",
        "# The key that clients send as 'Authorization: Bearer KEY'. Empty: install.sh makes one. Further keys, for",
        "# each client its own: scripts/deploy.sh keys add NAME.",
        "VLLM_API_KEY=",
        "",
        "# Requests that one key may have running at once; more are refused with 429.",
        f"OFFLINE_KIT_KEY_LIMIT={settings.key_limit}",
        "",
        *_switches("prometheus" in lock.images, "grafana" in lock.images),
    ]
    return "\n".join(lines) + "\n"


def _switches(monitoring: bool, grafana: bool) -> list[str]:
    words = "nginx and monitoring, with a comma between" if monitoring else "nginx"
    lines = [
        f"# What runs beside engines and gateway: {words}. nginx: the router on these ports, too; HTTPS with the",
        "# certificate in .state/tls/server.crt and its key in .state/tls/server.key.",
        "OFFLINE_KIT_WITH=",
        f"OFFLINE_KIT_HTTP_PORT={Web.http_port}",
        f"OFFLINE_KIT_HTTPS_PORT={Web.https_port}",
    ]
    if monitoring:
        lines += ["# Prometheus asks for no password: it is published on this address only."]
        lines += [f"OFFLINE_KIT_MONITORING_BIND={Monitoring.bind}", f"PROMETHEUS_PORT={Monitoring.prometheus_port}"]
    if grafana:
        lines += ["# Grafana's user admin, at its first start. Empty: install.sh makes a password."]
        lines += [f"GRAFANA_PORT={Monitoring.grafana_port}", "GRAFANA_ADMIN_PASSWORD="]
    return lines
