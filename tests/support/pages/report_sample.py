"""A bundle that has something for every part of a report: facts of real models, packages, scans, a rehearsal, a signature."""

from __future__ import annotations

import json
import random
from pathlib import Path

from offline_kit.bundle.signature.keys import generate_key_pair
from offline_kit.bundle.signature.sign import sign
from offline_kit.bundle.signature.signers import open_signer
from offline_kit.common.digest import Digest
from offline_kit.host.sbom.cyclonedx import sbom
from offline_kit.spec.image_contents import ImageContents, Package
from offline_kit.spec.lock import Lock, LockedFile
from offline_kit.spec.lock_facts import EngineFacts, ModelCard, ModelFacts, ModelNeeds
from offline_kit.spec.manifest import canonical
from offline_kit.spec.rehearsal import RECORD as REHEARSAL
from offline_kit.spec.rehearsal import RehearsalRecord, summarize
from offline_kit.spec.scan import RECORD as SCAN
from offline_kit.spec.scan import ScanRecord
from tests.support.bundle_sample import Sample, make_sample, safetensors
from tests.support.plan_samples import record

MODELS = {
    "chat": {"name": "Qwen2.5-32B-Instruct", "path": "chat", "type": "chat", "port": 8001, "gpu_memory_utilization": 0.8,
             "max_model_len": 32768, "tensor_parallel_size": 2, "dtype": "bfloat16"},
    "embedding": {"name": "bge-large-en-v1.5", "path": "embedding", "type": "embedding", "port": 8002,
                  "gpu_memory_utilization": 0.1,
                  "max_model_len": 512, "tensor_parallel_size": 1, "dtype": "float16", "gpus": [0]},
}  # fmt: skip


def randbytes(count: int) -> bytes:
    return random.Random(count).randbytes(count)


def packages(count: int, hostile: str = "") -> ImageContents:
    """An image with ``count`` packages, one of them named ``hostile``."""
    licences = ("MIT", "Apache-2.0", "BSD-3-Clause", "LGPL-2.1+", "")
    found: list[Package] = [
        {"kind": "pypi", "name": f"package-{number}", "version": f"1.{number}", "licences": [licences[number % 5]]}
        for number in range(count)
    ]
    if hostile:
        found.append({"kind": "deb", "name": hostile, "version": hostile, "licences": [hostile]})
    return ImageContents(tuple(found), {"ID": "debian", "VERSION_ID": "12"})


def report_sample(folder: Path, *, hostile: str = "", files: int = 0, count: int = 300) -> Sample:
    """The sample with its blobs in ``folder``; ``hostile``: a text that stands wherever a text can, ``files``: further ones of
    a model, ``count``: packages of the engine image."""
    sample = make_sample(folder, weights=600_000)
    for key, name in (("chat", "Qwen2.5-32B-Instruct"), ("embedding", "bge-large-en-v1.5")):
        shards = {f"model-0000{number}-of-00004.safetensors": safetensors(200_000 + number, number) for number in range(1, 5)}
        sample.model(key, {"config.json": b"{}", "tokenizer.json": b"{}" * 4000, **(shards if key == "chat" else {})})
        card = ModelCard(licence="other", licence_name=hostile or "apache-2.0", task=hostile)
        needs = ModelNeeds(architectures=(hostile or "Qwen2ForCausalLM",), quantization=hostile)
        facts = ModelFacts(config=record(name)["config"], tensors=record(name)["tensors"])
        sample.models[key] = sample.models[key].model_copy(update={"card": card, "needs": needs, "facts": facts})
    sample.image("gateway", "registry.example:5000/nginx:1", {"etc/base": b"shared by both\n"}, {"usr/lib": randbytes(150_000)})
    sample.image("engine", "test/engine:v1", {"etc/base": b"shared by both\n"}, {"usr/cuda": randbytes(250_000)})
    if files:
        one = Digest.of(b"")
        sample.put(b"")
        more = tuple(LockedFile(path=f"many/{number:06}.json", size=0, sha256=one) for number in range(files))
        sample.models["chat"] = sample.models["chat"].model_copy(update={"files": (*sample.models["chat"].files, *more)})
    if hostile:
        path = hostile.replace("/", "")
        chat = sample.models["chat"]
        named = LockedFile(path=path, size=12, sha256=sample.put(b"twelve bytes"))
        sample.models["chat"] = chat.model_copy(update={"source": f"hf://{hostile}", "files": (*chat.files, named)})
        sample.images["gateway"] = sample.images["gateway"].model_copy(update={"created": hostile})
        sample.extra(path, b"further")
    engine = EngineFacts(packages={"vllm": "0.32.0", "torch": "2.13.0+cu130"}, whole=True)
    sample.images["engine"] = sample.images["engine"].model_copy(update={"engine": engine})
    sample.texts["config/models.json"] = json.dumps({"models": MODELS}).encode()
    lock = gpu_lock(sample)
    digest = Digest.of(lock.text().encode())
    steps = {key: {"configuration": hostile or "read", "tokenizer": "read"} for key in MODELS}
    rehearsal = RehearsalRecord(
        lock=digest, engine=lock.images["engine"].config.digest, models=steps, summary=hostile or summarize(2, "0.32.0")
    )
    words = {f"models/{key}/{file.path}": {"clamav": "clean"} for key, model in lock.models.items() for file in model.files}
    words[next(iter(words))] = {"clamav": hostile or "not scanned: larger than 4000 bytes"}
    scan = ScanRecord(lock=digest, scanners={"clamav": hostile or "ClamAV 1.4.6/27000"}, files=words)
    sample.texts[REHEARSAL] = canonical(rehearsal.model_dump(mode="json")).encode()
    sample.texts[SCAN] = canonical(scan.model_dump(mode="json")).encode()
    sample.texts["sbom.cdx.json"] = sbom(lock, "v1.0.0", {"engine": packages(count, hostile)}, {})
    return sample


class GpuSample(Sample):
    """The sample for GPUs."""

    def lock(self, name: str = "kit") -> Lock:
        return gpu_lock(self)


def gpu_lock(sample: Sample) -> Lock:
    return Sample.lock(sample).model_copy(update={"accelerator": "nvidia"})


def pack_report_sample(folder: Path, *, hostile: str = "", files: int = 0, count: int = 300, signed: bool = True) -> Path:
    """The bundle in ``folder``, signed by ``folder/release.key``."""
    made = report_sample(folder / "blobs", hostile=hostile, files=files, count=count)
    sample = GpuSample(made.folder, made.texts, made.images, made.models, made.extras, made.executables)
    bundle = sample.pack(folder / "kit-v1.0.0.tar.gz")
    if signed:
        generate_key_pair(folder / "release.key", folder / "release.pub", None)
        sign(bundle, open_signer(str(folder / "release.key"), None, lambda path: None))
    return bundle
