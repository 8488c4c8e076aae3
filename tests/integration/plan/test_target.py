"""A manifest that names its GPUs, through the whole command line: what cannot run there is refused before any weights come."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from offline_kit.common.digest import Digest
from tests.conftest import Kit
from tests.support import intake_samples as parts
from tests.support.projects.demo import MODELS, Project, write_project
from tests.testbed.servers.hub import Hub
from tests.testbed.servers.registry import Registry

# So wide that the trial run of 1,024 tokens alone takes more than 0.3 of 1 GiB, by the least bound.
CHAT = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 4, "hidden_size": 4096, "intermediate_size": 131072, "vocab_size": 512,
    "max_position_embeddings": 256, "torch_dtype": "bfloat16",
}  # fmt: skip
ENCODER = {**CHAT, "architectures": ["BertModel"], "model_type": "bert", "torch_dtype": "float32"}
LONG = 200 << 10  # bytes of a header: more than the first question asks for, so that this one cannot bring weights along


def weights(tensors: dict[str, bytes]) -> tuple[bytes, int]:
    """A safetensors file whose header is padded to LONG bytes, as the format allows, and where its tensors begin."""
    file = parts.safetensors(tensors)
    end = 8 + int.from_bytes(file[:8], "little")
    return LONG.to_bytes(8, "little") + file[8:end].ljust(LONG) + file[end:], 8 + LONG


SITE = "usr/lib/python3/dist-packages"
VLLM = {f"{SITE}/vllm-0.29.0.dist-info/METADATA": b"Metadata-Version: 2.4\nName: vllm\nVersion: 0.29.0\n"}


def knowing(*architectures: str) -> dict[str, bytes]:
    """The files of a vLLM whose registry has these."""
    rows = "".join(f'    "{name}": ("module", "{name}"),\n' for name in architectures)
    registry = f"_TEXT_GENERATION_MODELS = {{\n{rows}}}\n_VLLM_MODELS = {{**_TEXT_GENERATION_MODELS}}\n".encode()
    return {**VLLM, f"{SITE}/vllm/model_executor/models/registry.py": registry}


FILES = {key: weights({key: bytes([number]) * (3 << 20)}) for number, key in enumerate(MODELS)}
HEADERS = sum(begin for _, begin in FILES.values())


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    work = tmp_path_factory.mktemp("registry")
    with Registry(work / "storage", work) as running:
        known = knowing("Qwen2ForCausalLM", "BertModel")
        for name, tag, files in (("engine", "v1", known), ("engine", "old", knowing("QwenForCausalLM")), ("gateway", "v1", {})):
            parts.push(running.url, name, tag, parts.image("gzip", content=f"{name} {tag}", files=files))
        yield running


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub() as hub:
        for key in MODELS:
            config = json.dumps(CHAT if key == "chat" else ENCODER).encode()
            hub.add(f"o/{key}", parts.write(tmp_path / key, {"config.json": config, "model.safetensors": FILES[key][0]}))
        yield hub


@pytest.fixture
def project(tmp_path: Path, registry: Registry, hub: Hub, offline_kit: Kit) -> Project:
    """For one GPU of 1 GiB, of which each of three engines asks for 0.3."""
    written = write_project(tmp_path / "project", registry, hub, accelerator="nvidia", target={"gpus": "1x1GiB"})
    parts.write(written, {"config/demo/vllm_config.yaml": b"max_num_seqs: 4\n"})
    return Project(written, offline_kit)


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_what_cannot_run_on_its_target_is_refused_before_any_weights_come(project: Project, hub: Hub) -> None:
    done = project.build()
    assert done.returncode == 3 and done.stdout == "", done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("offline-kit: ")]
    assert errors == ["offline-kit: target: the bundle cannot run on 1x1GiB"] and "Traceback" not in done.stderr
    sums = re.findall(r"NO: config/models\.json: models\.(\w+)\.gpu_memory_utilization: 0\.3 of GPU 0 \(1,024 MiB usable\) is "
                      r"0\.30 GiB, but .* weights \+ .* overhead = \d\.\d\d GiB to \d\.\d\d GiB -> ", done.stderr)  # fmt: skip
    assert sums == list(MODELS), done.stderr
    assert "-> change the configuration, or 'target' in the manifest" in done.stderr
    assert hub.sent("*.safetensors") == HEADERS, "the headers and not a byte after them"
    assert not list(project.folder.rglob("*.tar.gz*")) and not list(project.folder.rglob("demo-v1*"))
    kept = {path.name for path in (project.folder / "store").rglob("*")}
    assert kept.isdisjoint({Digest.of(data).hex for data, _ in FILES.values()})

    hub.log.clear()
    again = project.build("--locked")
    assert again.returncode == 3 and hub.log == [], "the lock knows enough"
    shown = project.kit("plan", project.manifest, "--store", project.folder / "store")
    assert shown.returncode == 3 and hub.log == [] and f"{shown.stdout.strip()}" in done.stderr


def test_a_length_that_the_model_was_not_made_for_is_told_without_a_target(project: Project) -> None:
    manifest = json.loads(project.manifest.read_text())
    del manifest["target"]
    project.manifest.write_text(json.dumps(manifest))
    (config,) = project.folder.rglob("models.json")
    models = json.loads(config.read_text())["models"]
    change(config, models={**models, "chat": {**models["chat"], "max_model_len": 1 << 20}})
    done = project.build()
    assert done.returncode == 0, done.stderr
    assert "warning: config/models.json: models.chat.max_model_len: 1048576 is more than the" in done.stderr


def test_the_same_for_a_larger_gpu_is_built(project: Project, hub: Hub) -> None:
    change(project.manifest, target={"gpus": "1x16GiB"})
    done = project.build()
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{project.bundle}\n" and project.bundle.exists()
    assert hub.sent("*.safetensors") == HEADERS + sum(len(data) for data, _ in FILES.values())
    shown = project.kit("plan", project.bundle, "--gpu", "1x16GiB")
    assert shown.returncode == 0 and shown.stdout.endswith("\nstarts\n")
    assert "vLLM of the engine image: 0.29\n" in shown.stdout, "read from the image's own layers"
    lock = json.loads(project.manifest.with_suffix(".lock.json").read_text())
    engine = lock["images"]["engine"]["engine"]
    assert engine["packages"] == {"vllm": "0.29.0"} and engine["architectures"] == ["BertModel", "Qwen2ForCausalLM"]
    shown = project.kit("inspect", project.bundle)
    assert "  engine: vLLM 0.29.0, CUDA 12.8.1, 2 architectures, 0 tool-call and 0 reasoning parsers\n" in shown.stdout
    told = json.loads(project.kit("inspect", project.bundle, "--engine").stdout)
    assert told["facts"] == engine and told["cuda"] == "12.8.1"
    assert project.build("--locked").returncode == 0, "the lock that was completed is the one that is taken"
    assert project.kit("plan", project.bundle, "--gpu", "1x1GiB").returncode == 3


@pytest.mark.parametrize("locked", [False, True])
def test_a_model_that_the_vllm_of_the_image_does_not_know_is_refused_when_its_layers_are_there(
    project: Project, hub: Hub, locked: bool
) -> None:
    """vllm/model_executor/models/registry.py of the image; model_impl is the way round it."""
    images = json.loads(project.manifest.read_text())["images"]
    old = {**images, "engine": json.loads(json.dumps(images["engine"]).replace(":v1", ":old"))}
    change(project.manifest, target={"gpus": "1x16GiB"}, images=old)
    if locked:
        assert project.kit("lock", "--manifest", project.manifest, "--store", project.folder / "store").returncode == 0
    done = project.build(*(["--locked"] if locked else []))
    assert done.returncode == 3 and "Traceback" not in done.stderr and not project.bundle.exists()
    assert "chat: vLLM 0.29.0 of the engine image does not know the architecture Qwen2ForCausalLM" in done.stderr
    assert "use a newer engine image, or a model of QwenForCausalLM" in done.stderr and "model_impl" in done.stderr
    assert hub.sent("*.safetensors") == HEADERS, "the image was read before any weights came"
    again = project.kit("lock", "--manifest", project.manifest, "--store", project.folder / "store")
    assert again.returncode == 3 and "does not know the architecture" in again.stderr, "its layers were read before"


def test_a_lock_reads_the_engine_image_when_it_is_told_to(project: Project, hub: Hub) -> None:
    change(project.manifest, target={"gpus": "1x16GiB"})
    words = ("lock", "--manifest", project.manifest, "--store", project.folder / "store")
    done = project.kit(*words)
    assert done.returncode == 0 and re.search(r"what the engine image holds was not read \(\d+ B to fetch\)", done.stderr)
    done = project.kit(*words, "--read-engine")
    assert done.returncode == 0 and "was not read" not in done.stderr, done.stderr
    engine = json.loads(project.manifest.with_suffix(".lock.json").read_text())["images"]["engine"]["engine"]
    assert engine["architectures"] == ["BertModel", "Qwen2ForCausalLM"] and engine["whole"] is True
    assert hub.sent("*.safetensors") == HEADERS, "and no weights"
    done = project.kit(*words)
    assert done.returncode == 0 and "was not read" not in done.stderr, "its layers are in the store"


def test_a_driver_that_is_too_old_for_the_image_is_refused_before_anything_is_fetched(project: Project, hub: Hub) -> None:
    change(project.manifest, target={"gpus": "1x16GiB", "driver": 470})
    done = project.build()
    assert done.returncode == 3 and "has driver 470, the engine image's CUDA 12 needs 525" in done.stderr
    assert hub.sent("*.safetensors") == HEADERS


def test_a_target_that_nobody_can_read(project: Project, hub: Hub) -> None:
    change(project.manifest, target={"gpus": "2x Voodoo"})
    for done in (project.build(), project.kit("plan", project.manifest, "--store", project.folder / "store")):
        assert done.returncode == 3 and "'Voodoo' is neither a size such as 48GiB nor a known GPU" in done.stderr
    assert hub.sent("*.safetensors") <= HEADERS


@pytest.mark.parametrize(("replicas", "where", "engines"), [(1, "1x16GiB", 3), (2, "2x16GiB", 6)])
def test_the_plan_places_automatic_engines(project: Project, hub: Hub, replicas: int, where: str, engines: int) -> None:
    path = project.folder / "config/demo/models.json"
    models = json.loads(path.read_text())["models"]
    change(path, models={key: {**model, "gpus": "auto", "replicas": replicas} for key, model in models.items()})
    done = project.kit("plan", project.manifest, "--gpu", where, "--json", "--store", project.folder / "store")
    assert done.returncode == 0, done.stdout + done.stderr
    reported = json.loads(done.stdout)
    assert len(reported["engines"]) == engines and all(
        engine["gpus"] and engine["fits"] for engine in reported["engines"].values()
    )
    assert [gpu["load"] for gpu in reported["gpus"]] == [0.9] * replicas, "never more than 0.95"
    assert hub.sent("*.safetensors") == HEADERS


def test_what_is_wrong_with_the_options_is_said_before_a_hub_is_asked(project: Project, hub: Hub) -> None:
    def refused(*words: str | Path) -> str:
        done = project.kit("plan", project.manifest, *words, "--store", project.folder / "store")
        assert done.returncode in (2, 3) and hub.log == [] and done.stdout == "", done.stderr
        return f"{done.returncode} {done.stderr}"

    assert re.search(r"^2 .*'Voodoo' is neither a size .* -> write it like 2x48GiB", refused("--gpu", "2xVoodoo"), re.DOTALL)
    assert refused("--gpu", "").startswith("2 "), "an empty name is not the target"
    assert "leave one out" in refused("--gpu", "2x48GiB", "--gpu-file", "smi.csv")
    missing = project.folder / "smi.csv"
    assert refused("--gpu-file", missing).startswith(f"3 offline-kit: {missing}: cannot be read: No such file or directory -> ")
    missing.write_text("index, name, memory.total [MiB]\n0, NVIDIA Unheard Of, [N/A]\n")
    assert "GPU 0 does not report its memory" in refused("--gpu-file", missing)
    gone = project.kit("plan", project.folder / "none.yaml", "--gpu", "2x48GiB")
    assert gone.returncode == 3 and "none.yaml: no such file (manifest)" in gone.stderr
