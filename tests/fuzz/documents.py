"""Documents changed at random: manifest, lock, bundle.json, models.json, vllm_config.yaml, .env, keys, lists, headers."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from offline_kit.bundle.format import parts, paths
from offline_kit.bundle.format.bundle_json import parse_contents
from offline_kit.bundle.format.entries import derived_texts
from offline_kit.bundle.read.observed import Evidence, Seen
from offline_kit.bundle.verify import checks
from offline_kit.common.digest import Digest
from offline_kit.common.errors import KitError
from offline_kit.host.target_check import plan_for
from offline_kit.runtime import apply
from offline_kit.runtime.gpu_plan import architecture, gpus, report, safetensors, tensor_table
from offline_kit.runtime.gpu_plan.evaluate import Image
from offline_kit.runtime.render import compose
from offline_kit.runtime.settings import load, placement
from offline_kit.runtime.settings.model import ConfigError
from offline_kit.runtime.settings.replicas import expand_replicas
from offline_kit.spec.lock import Lock, parse_lock
from offline_kit.spec.lock_facts import ModelFacts
from offline_kit.spec.lock_fit import check_names, stale
from offline_kit.spec.manifest import parse_manifest
from tests.fuzz.mutations import change_bytes, change_text, change_value
from tests.fuzz.worker import Subject
from tests.support.bundle_sample import Sample, make_sample
from tests.support.plan_samples import FIXTURES, record

MANIFEST: dict[str, Any] = {
    "apiVersion": "offline-kit/v1",
    "name": "kit",
    "platform": "linux/amd64",
    "accelerator": "nvidia",
    "images": {
        "engine": {"source": "docker://registry.example/team/engine:v1", "digest": "sha256:" + "1" * 64},
        "gateway": {"source": "docker-daemon://nginx:1", "insecure": False},
    },
    "models": {
        "chat": {"source": "hf://acme/chat", "revision": "main", "endpoint": "https://hub.example", "exclude": ["*.bin"]},
        "own": {"source": "dir://models/own", "sha256": {"a/b.safetensors": "2" * 64}, "allow_pickle": True},
    },
    "files": {"host/tool": {"source": "https://host.example/tool", "sha256": "3" * 64}},
    "services": "config/models.json",
    "engine_config": "config/vllm_config.yaml",
    "target": {"gpus": "2x48GiB"},
}
MANIFEST_TEXT = """# what goes into the bundle
apiVersion: offline-kit/v1
name: kit
images:
  engine: {source: "docker://registry.example/team/engine:v1"}
  gateway: &small
    source: 'docker://docker.io/library/nginx:1.27'
models:
  chat: {source: hf://acme/chat, revision: main, include: ["*.json", "*.safetensors"]}
services: config/models.json
engine_config: config/vllm_config.yaml
"""
MODEL = {
    "name": "m",
    "path": "/models/chat",
    "type": "chat",
    "port": 8001,
    "gpu_memory_utilization": 0.4,
    "max_model_len": 4096,
}
MODELS: dict[str, Any] = {
    "models": {
        "chat": {**MODEL, "tensor_parallel_size": 2, "dtype": "auto", "gpus": [0, 1], "memory_limit": "24g"},
        "rerank": {
            **{
                **MODEL,
                "name": "r",
                "type": "rerank",
                "port": 8002,
                "tensor_parallel_size": 1,
                "dtype": "float16",
                "replicas": 2,
            },
            "engine_args": {"max_num_seqs": 8, "lora_modules": ["a=/models/chat/a", "b=/models/chat/b"]},
            "gpus": "auto",
        },
    }
}
ENGINE = """# for all
max_num_seqs: 8
enable_prefix_caching: true
x: {a: [1, b], c: 0.5, d: &d [a, 1]}
y: *d
kv_cache_dtype: 'fp8'
"""
DOTENV = (
    "VLLM_API_KEY=abcdefghijklmnopqrstuvwx\nOFFLINE_KIT_WITH=nginx,monitoring\nGRAFANA_ADMIN_PASSWORD='1234567890ab'\n"
    "OFFLINE_KIT_BIND=0.0.0.0\nCUDA_VISIBLE_DEVICES=0,1\nVLLM_CHAT_PORT=8101\nexport OFFLINE_KIT_DEVICE=nvidia # x\n"
    "OFFLINE_KIT_KEY_LIMIT=64\n"
)
KEYS = "# added 2026-01-01 by ops\nbob aaaaaaaaaaaaaaaaaaaaaaaaaaaa\neve bbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\n"
TENSORS: dict[str, Any] = {
    "__metadata__": {"format": "pt"},
    "model.layers.0.w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
    "model.layers.1.w": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [16, 20]},
}
CARDS = {gpu.id: gpu for gpu in gpus.parse("2x48GiB")}


class Documents:
    """One function for each kind of document: it changes a valid one and has it read as the product does."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        sample: Sample = make_sample(folder / "blobs")
        self._config = {name: sample.texts[f"config/{name}"] for name in ("models.json", "vllm_config.yaml")}
        self._lock = sample.lock()
        texts = derived_texts(self._lock, "v1", "test", 9)
        self._lock_data, self._contents = json.loads(self._lock.text()), json.loads(texts[paths.BUNDLE])
        self._manifest = parse_manifest(json.dumps(MANIFEST), "m")

    def manifest(self, random: Random) -> None:
        parse_manifest(json.dumps(change_value(random, MANIFEST)), "m.yaml")

    def manifest_text(self, random: Random) -> None:
        parse_manifest(change_text(random, MANIFEST_TEXT), "m.yaml")

    def lock(self, random: Random) -> None:
        self._use(parse_lock(json.dumps(change_value(random, self._lock_data)), "m.lock.json"))

    def lock_text(self, random: Random) -> None:
        self._use(parse_lock(change_text(random, self._lock.text()), "m.lock.json"))

    def _use(self, lock: Lock) -> None:
        assert parse_lock(lock.text(), "again") == lock
        stale(lock, self._manifest, self._config)
        check_names(lock)
        derived_texts(lock, "v1", "test", 9)

    def contents(self, random: Random) -> None:
        contents = parse_contents(json.dumps(change_value(random, self._contents)).encode(), "bundle.json")
        assert parse_contents(contents.text().encode(), "again") == contents

    def models(self, random: Random) -> None:
        _serve(json.dumps(change_value(random, MODELS)), ENGINE, DOTENV, KEYS)

    def models_text(self, random: Random) -> None:
        _serve(change_text(random, json.dumps(MODELS, indent=1)), ENGINE, DOTENV, KEYS)

    def engine(self, random: Random) -> None:
        _serve(json.dumps(MODELS), change_text(random, ENGINE), DOTENV, KEYS)

    def dotenv(self, random: Random) -> None:
        _serve(json.dumps(MODELS), ENGINE, change_text(random, DOTENV), KEYS)

    def keys(self, random: Random) -> None:
        _serve(json.dumps(MODELS), ENGINE, DOTENV, change_text(random, KEYS))

    def list_of_parts(self, random: Random) -> None:
        listed = [{"name": f"a.tar.gz.00{number}", "size": number, "sha256": "0" * 64} for number in (1, 2)]
        valid = {"parts_format": 1, "name": "a.tar.gz", "size": 3, "sha256": "0" * 64, "parts": listed}
        place = self._folder / "a.parts.json"
        place.write_text(json.dumps(change_value(random, valid)))
        parts.locate(place)

    def sums(self, random: Random) -> None:
        text = change_text(
            random, "".join(f"{digit * 64}  {path}\n" for digit, path in zip("012", ("a/b", "c", "é"), strict=True))
        )
        data = text.encode("utf-8", "surrogatepass")
        evidence = Evidence("bundle")
        evidence.files[paths.SUMS] = Seen(len(data), 0o644, Digest.of(data), data, None)
        checks.read_sums(evidence)

    def header(self, random: Random) -> None:
        text = json.dumps(change_value(random, TENSORS)).encode()
        head = change_bytes(random, len(text).to_bytes(8, "little") + text) if random.random() < 0.3 else _headed(text)
        size = len(head) + random.choice((0, 20, 20, 1 << 40))
        if safetensors.fault(head, size) is None:
            tensor_table.rows([safetensors.parse(head, size)])

    def facts(self, random: Random) -> None:
        """What a hub says of a model, as it comes into the lock, and then into a plan."""
        data = change_value(random, record(random.choice(FIXTURES)))
        if not isinstance(data.get("config"), dict):
            return
        data = json.loads(json.dumps({"config": architecture.subset(data["config"]), "tensors": data.get("tensors")}))
        lock = change_lock(self._lock_data, data)
        facts: ModelFacts | None = parse_lock(json.dumps(lock), "m.lock.json").models["chat"].facts
        settings = load.load_settings(json.dumps(MODELS), ENGINE)
        verdict, found = plan_for(settings, {"chat": facts}, CARDS, Image(cuda=12))
        report.lines(verdict, found)
        json.dumps(report.as_json(verdict, found))


def change_lock(lock: dict[str, Any], facts: Any) -> dict[str, Any]:
    """The lock with these facts of its model ``chat``."""
    return {**lock, "models": {**lock["models"], "chat": {**lock["models"]["chat"], "facts": facts}}}


def _headed(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text


def _serve(models: str, engine: str, dotenv: str, keys: str) -> None:
    """From a configuration to every file that the services run with. Raises ConfigError."""
    images = {"engine": "e:1", "gateway": "g:1", "prometheus": "p:1", "grafana": "r:1"}
    settings = load.load_settings(models, engine, dotenv, folders=["chat"], named_keys=keys, images=images)
    asked, mistakes = expand_replicas(settings)
    placed, more = placement.place(asked)
    if mistakes := mistakes or more:
        raise ConfigError(mistakes)
    kit = compose.Kit("kit", "v1", images, "10001:10001")
    for text in apply.files(settings, placed, kit).values():
        assert "\x1b" not in text
        text.encode()


@contextlib.contextmanager
def opened() -> Iterator[Subject]:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        documents = Documents(Path(folder))
        kinds: list[Callable[[Random], None]] = [
            *(documents.manifest, documents.manifest_text, documents.lock, documents.lock_text, documents.contents),
            *(documents.models, documents.models_text, documents.engine, documents.dotenv, documents.keys),
            *(documents.list_of_parts, documents.sums, documents.header, documents.facts),
        ]

        def subject(random: Random) -> str:
            kind = random.choice(kinds)
            try:
                kind(random)
            except (KitError, ConfigError) as error:
                assert str(error)
                assert not isinstance(error, KitError) or error.exit_code != 1
                return f"{kind.__name__} refused"
            return f"{kind.__name__} read"

        yield subject
