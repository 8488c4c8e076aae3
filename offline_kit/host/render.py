"""The small files of a bundle that do not follow from the lock alone: scripts, runtime, configuration, manual, SBOM.

Rules: pure but for reading the package's own files; the same lock, version, configuration and offline-kit give the same bytes;
nothing secret and nothing of the build machine is in them.
"""

from __future__ import annotations

from collections.abc import Mapping

from offline_kit.host import assets
from offline_kit.host.readme import readme
from offline_kit.host.sbom import sbom
from offline_kit.host.services import check_services
from offline_kit.runtime import compose, plan
from offline_kit.runtime.records import Settings, port_variable
from offline_kit.spec.lock import Lock


def render(lock: Lock, version: str, config: Mapping[str, bytes]) -> tuple[dict[str, bytes], frozenset[str]]:
    """Path -> content, and which paths can be executed. ``config``: the two files by name. Raises SpecError, DiskError."""
    settings = check_services(config, lock.models.keys(), lock.accelerator)
    texts, executables = assets.scripts()
    texts.update(assets.runtime())
    texts.update({f"config/{name}": content for name, content in config.items()})
    texts["deploy/compose.yaml"] = _compose(lock, version, settings).encode()
    texts[".env.example"] = _dotenv(settings).encode()
    texts["README.md"] = readme(lock, version, settings).encode()
    texts["sbom.cdx.json"] = sbom(lock, version)
    return texts, executables


def _compose(lock: Lock, version: str, settings: Settings) -> str:
    tags = {key: lock.images[key].tag(key) for key in ("engine", "gateway")}
    kit = compose.Kit(lock.name, version, tags["engine"], tags["gateway"])
    placed, _ = plan.place(settings)
    return compose.text(settings, placed, kit)


def _dotenv(settings: Settings) -> str:
    placed, _ = plan.place(settings)
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
        "# The key that clients send as 'Authorization: Bearer KEY'. Empty: install.sh makes one.",
        "VLLM_API_KEY=",
    ]
    return "\n".join(lines) + "\n"
