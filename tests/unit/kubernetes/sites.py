"""Kits and sites in many forms, as data: what the objects of Kubernetes are rendered from."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from offline_kit.runtime.kubernetes import engines, render
from offline_kit.runtime.kubernetes.site import Carried, Kit, Site, Target
from offline_kit.runtime.settings import load, placement, replicas
from offline_kit.runtime.settings.model import Settings
from tests.unit.runtime.test_config import entry

REGISTRY = "registry.site.example:5000/ai"
KEYS = '"~^[Bb]earer 0123456789abcdef$" "first";\n'
GIB = 1 << 30
CHAT = entry(name="chat", gpus=["0"])
EMBEDDING = entry(name="bge-m3", path="/models/embedding", type="embedding", port=8002, gpus=["1"])
RERANK = entry(name="bge-reranker", path="/models/rerank", type="rerank", port=8003, gpus=["2"])
SECOND = entry(name="small", path="/models/second", port=8004, gpus=["3"])


def without_gpus(model: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in model.items() if key != "gpus"}


@dataclass(frozen=True)
class Case:
    """One configuration: models.json, the device, and what the site says."""

    models: dict[str, dict[str, Any]]
    site: dict[str, Any] = field(default_factory=dict)
    device: str = "nvidia"
    engine_yaml: str = ""

    def settings(self) -> Settings:
        return load.load_settings(json.dumps({"models": self.models}), self.engine_yaml, device=self.device)

    def target(self) -> Target:
        folders = {model["path"].split("/")[2] for model in self.models.values()} | {"adapters"}
        files = (("config.json", 600, "1" * 64), ("model.safetensors", 60 * GIB, "2" * 64))
        models = {key: Carried(files, "sha256:" + "3" * 64) for key in sorted(folders)}
        images = {"engine": "sha256:" + "4" * 64, "gateway": "sha256:" + "5" * 64}
        kit = Kit("site_kit", "v1.0.0", "linux/amd64", images, models)
        site = Site(**{"registry": REGISTRY, "namespace": "models", **self.site})
        return Target(kit, site, KEYS)

    def objects(self) -> dict[str, list[dict[str, Any]]]:
        settings = self.settings()
        asked, mistakes = replicas.expand_replicas(settings)
        placed, more = placement.place(asked)
        assert mistakes + more == []
        engines.check_shared(placed.gpus)
        return render.objects(self.target(), settings, {"engine.json": '{\n "title": "Engine"\n}\n'})

    def texts(self) -> dict[str, str]:
        return render.files(self.objects())


HOSTPATH = {"weights": "hostpath", "host_path": "/srv/offline-kit/models"}
TWO = {"chat": entry(name="big", tensor_parallel_size=2, gpus=["0", "1"]), "small_one": SECOND}
CASES = {
    "one model, image volumes": Case({"chat": CHAT}),
    "one model, a claim": Case({"chat": CHAT}, {"weights": "pvc"}),
    "one model, a folder of the node": Case({"chat": CHAT}, HOSTPATH),
    "three types, image volumes": Case({"chat": CHAT, "embedding": EMBEDDING, "rerank": RERANK}),
    "three types, a claim of one class": Case(
        {"chat": CHAT, "embedding": EMBEDDING, "rerank": RERANK},
        {"weights": "pvc", "storage_class": "fast", "access_mode": "ReadWriteOnce", "pull_secret": "login", "insecure": True},
    ),
    "three types, folders, monitoring": Case(
        {"chat": CHAT, "embedding": EMBEDDING, "rerank": RERANK}, {**HOSTPATH, "monitoring": "monitoring"}
    ),
    "two of a type: a router": Case({"chat": CHAT, "small_one": SECOND}, {"monitoring": "observe"}),
    "tensor parallel": Case(TWO, {"runtime_class": "nvidia"}),
    "tensor parallel, a claim": Case(TWO, {"weights": "pvc"}),
    "replicas": Case({"chat": entry(name="chat", replicas=3, gpus=["0", "1", "2"])}, {"pull_secret": "login"}),
    "replicas of two, folders": Case(
        {"chat": entry(name="chat", replicas=2, tensor_parallel_size=2, gpus=["0", "1", "2", "3"])}, HOSTPATH
    ),
    "pipeline over common arguments": Case({"chat": entry(gpus=["0", "1"])}, engine_yaml="pipeline-parallel-size: 2\n"),
    "CPU": Case({"chat": without_gpus(CHAT)}, device="cpu"),
    "CPU, a claim, replicas, memory": Case(
        {"chat": entry(name="chat", replicas=2, memory_limit="24g"), "embedding": without_gpus(EMBEDDING)},
        {"weights": "pvc"},
        device="cpu",
    ),
    "CPU, folders, three types": Case(
        {name: without_gpus(model) for name, model in (("chat", CHAT), ("embedding", EMBEDDING), ("rerank", RERANK))},
        HOSTPATH,
        device="cpu",
    ),
    "arguments and variables that need care": Case(
        {
            "chat": entry(
                name="org/chat:1",
                gpus=["0"],
                engine_args={
                    "enable_lora": True,
                    "lora_modules": ["extra=/models/adapters/a"],
                    "hf_overrides": {"note": "$(HOME) 'a' $$"},
                },
                environment={"VLLM_LOGGING_LEVEL": "DEBUG"},
            )
        },
    ),
}
