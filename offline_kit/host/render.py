"""The small files of a bundle that do not follow from the lock alone: scripts, runtime, manuals, SBOM, provenance.

Rules: pure but for reading the package's own files; the same lock, version, configuration and offline-kit give the same bytes;
nothing secret and nothing of the build machine is in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from offline_kit.common.digest import Digest
from offline_kit.host import assets
from offline_kit.host.manual.readme import manuals
from offline_kit.host.provenance import PROVENANCE, provenance
from offline_kit.host.sbom.cyclonedx import sbom
from offline_kit.host.sbom.summary import SBOM
from offline_kit.host.validate import Services
from offline_kit.runtime.parsers import with_parsers
from offline_kit.runtime.render import compose
from offline_kit.runtime.settings.model import Monitoring, Web, port_variable
from offline_kit.spec import rehearsal, scan
from offline_kit.spec.image_contents import ImageContents
from offline_kit.spec.lock import Lock
from offline_kit.spec.manifest import canonical
from offline_kit.spec.parsers import parsers_of
from offline_kit.spec.rehearsal import RehearsalRecord
from offline_kit.spec.scan import ScanRecord


@dataclass(frozen=True)
class Origin:
    """Where a bundle comes from: the ``manifest`` by digest, what each image holds, what scanners said, what was tried out."""

    manifest: Digest
    contents: Mapping[str, ImageContents] = field(default_factory=dict)
    scan: ScanRecord | None = None
    rehearsal: RehearsalRecord | None = None


def render(
    lock: Lock, version: str, config: Mapping[str, bytes], services: Services, origin: Origin
) -> tuple[dict[str, bytes], frozenset[str]]:
    """Path -> content, and which paths can be executed. Raises DiskError.

    ``config``: the configuration files by name, ``services``: what they say.
    """
    texts, executables = assets.scripts()
    texts.update(assets.runtime())
    texts.update({f"config/{name}": content for name, content in config.items()})
    texts["deploy/compose.yaml"] = _compose(lock, version, services).encode()
    texts.update(assets.page())
    texts["compose.yaml"] = assets.template("compose.yaml").encode()
    texts[".env.example"] = _dotenv(services, lock).encode()
    texts.update(assets.monitoring() if "prometheus" in lock.images else {})
    pages = manuals(lock, version, services, scanned=origin.scan is not None)
    texts.update({name: text.encode() for name, text in pages.items()})
    texts[PROVENANCE] = provenance(lock, version, origin.manifest)
    if origin.scan is not None:
        texts[scan.RECORD] = canonical(origin.scan.model_dump(mode="json")).encode()
    if origin.rehearsal is not None:
        texts[rehearsal.RECORD] = canonical(origin.rehearsal.model_dump(mode="json")).encode()
    texts[SBOM] = sbom(lock, version, origin.contents, texts)
    return texts, executables


def _compose(lock: Lock, version: str, services: Services) -> str:
    kit = compose.Kit(lock.name, version, {key: lock.images[key].tag(key) for key in sorted(lock.images)})
    return compose.text(with_parsers(services.settings, parsers_of(lock)), services.placement, kit)


def _dotenv(services: Services, lock: Lock) -> str:
    settings = services.settings
    gpus = sorted({gpu for gpus in services.placement.gpus.values() for gpu in gpus}, key=lambda gpu: (len(gpu), gpu))
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
        "# no: the gateway has no page at /. It shows models and examples to whoever has a key.",
        "OFFLINE_KIT_PAGE=yes",
        "",
        "# install.sh adds COMPOSE_FILE and COMPOSE_PROJECT_NAME, by which the plain 'docker compose' means this kit.",
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
        "# yes: whatever is not encrypted is published on 127.0.0.1 alone; needs nginx and a certificate.",
        "OFFLINE_KIT_TLS_ONLY=",
    ]
    if monitoring:
        lines += ["# Prometheus asks for no password: it is published on this address only."]
        lines += [f"OFFLINE_KIT_MONITORING_BIND={Monitoring.bind}", f"PROMETHEUS_PORT={Monitoring.prometheus_port}"]
    if grafana:
        lines += ["# Grafana's user admin, at its first start. Empty: install.sh makes a password."]
        lines += [f"GRAFANA_PORT={Monitoring.grafana_port}", "GRAFANA_ADMIN_PASSWORD="]
    return lines
