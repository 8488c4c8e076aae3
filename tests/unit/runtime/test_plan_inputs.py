"""What the plan reads: GPUs as people and nvidia-smi name them, sizes, a kit on the host, its command, a manifest's target."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from offline_kit.common.digest import Digest
from offline_kit.common.errors import SpecError
from offline_kit.host.target_check import check_target, refused_numbers
from offline_kit.host.validate import check_services
from offline_kit.runtime import kit
from offline_kit.runtime.gpu_plan import gpus
from offline_kit.runtime.gpu_plan.evaluate import Image
from offline_kit.runtime.settings.model import Settings
from offline_kit.runtime.settings.sizes import parse_bytes
from offline_kit.spec.lock import Lock
from offline_kit.spec.manifest import Manifest
from tests.support.plan_samples import CHAT, record
from tests.testbed.cache import REPOSITORY

SMI = """\
index, name, memory.total [MiB], memory.free [MiB], compute_cap, driver_version
0, NVIDIA L40S, 46068 MiB, 45500 MiB, 8.9, 580.95.05
1, NVIDIA RTX A6000, 46068 MiB, 46000 MiB, [N/A], 535.183.01
2, Something New, 30000 MiB, [Not Supported], 12.1, 580.95.05
"""


@pytest.mark.parametrize(
    ("text", "count", "total", "usable"),
    [
        ("2x48GiB", 2, 49152, 49152),
        ("48", 1, 49152, 49152),
        ("2 x 24GB", 2, 24576, 24576),
        ("NVIDIA L40S:2", 2, 46068, 45455),
        ("2xL40S", 2, 46068, 45455),
        ("rtx a6000", 1, 49140, 48537),
        ("RTX A6000 (ECC on)", 1, 46068, 44685),
        ("H100 80GB HBM3:8", 8, 81559, 80998),
    ],
)
def test_gpus_by_name(text: str, count: int, total: int, usable: int) -> None:
    found = gpus.parse(text)
    assert [gpu.id for gpu in found] == [str(number) for number in range(count)]
    assert {(gpu.total, gpu.usable) for gpu in found} == {(total, usable)}


def test_several_kinds_and_what_is_none() -> None:
    assert [gpu.total for gpu in gpus.parse("1x24GiB,L4")] == [24576, 23034]
    for wrong in ("Voodoo 2", "0x24GiB", "65x24GiB", "100MiB", ""):
        with pytest.raises(ValueError, match=r"."):
            gpus.parse(wrong)


def test_what_nvidia_smi_prints() -> None:
    first, second, third = gpus.parse_csv(SMI)
    assert (first.usable, first.free, first.capability, first.driver) == (45455, 45500, (8, 9), 580)
    assert (second.name, second.usable, second.capability, second.driver) == ("NVIDIA RTX A6000", 44685, (8, 6), 535)
    assert (third.usable, third.free, third.capability) == (29100, None, (12, 1))
    bare = gpus.parse_csv("0, NVIDIA L4, 23034, 22500, 8.9, 570.1")[0]
    assert (bare.id, bare.free, bare.driver) == ("0", 22500, 570)
    with pytest.raises(ValueError, match="GPU 0 does not report its memory"):
        gpus.parse_csv("0, NVIDIA Unheard Of, [N/A], [N/A], 12.1, 580.1")
    with pytest.raises(ValueError, match="no GPU"):
        gpus.parse_csv("")


def test_the_table_is_sound() -> None:
    assert len({row.name for row in gpus.CARDS}) == len(gpus.CARDS)
    for row in gpus.CARDS:
        assert 0.96 * row.total < row.usable_bytes / 2**20 < row.total, row.name
    assert gpus.measured("0", 46068).usable == 44685, "of several cards with this memory, the one with least for CUDA"


def test_every_card_says_where_its_numbers_are_from() -> None:
    names = {row.name for row in gpus.CARDS}
    thread, file = r"[\w.-]+/[\w.-]+#[0-9]+", r"[\w.-]+/[\w.-]+:[\w./-]+"
    limits = r"on Colab|(?:card|form|edition) not named|data sheet size|not seen in nvidia-smi output"
    for row in gpus.CARDS:
        total, cuda = row.source.split("; ")
        assert (cuda == "not found") == (row.seen is None), row.name
        for place in re.sub(r" \([^)]*\)", "", f"{total}, {cuda}").split(", "):
            assert (
                re.fullmatch(f"{thread}|{file}|files|there|not found|{limits}", place) or place.removeprefix("as ") in names
            ), (row.name, place)


@pytest.mark.parametrize(("text", "size"), [("32M", 32 << 20), ("32m", 32_000_000), ("1.5GiB", 3 << 29), (7, 7), ("8kB", 8000)])
def test_sizes(text: Any, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A kit with one chat model whose facts bundle.json carries, and one that the operator added."""
    root = tmp_path / "kit"
    for folder in ("config", "deploy", "models/chat", "models/own"):
        (root / folder).mkdir(parents=True)
    shutil.copytree(REPOSITORY / "offline_kit/runtime", root / "runtime", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "deploy/kit.env").write_text("KIT_NAME=k\nKIT_VERSION=v1\nKIT_ACCELERATOR=nvidia\n")
    entry = json.loads((REPOSITORY / "config/models.json").read_text())["models"]["chat"]
    own = {**entry, "name": "own", "path": "own", "port": 8002, "gpu_memory_utilization": 0.1, "max_model_len": 64, "gpus": [0]}
    own["tensor_parallel_size"] = 1
    (root / "config/models.json").write_text(json.dumps({"models": {"chat": entry, "own": own}}))
    (root / "config/vllm_config.yaml").write_text("max_num_seqs: 64\n")
    recorded = record(CHAT)
    facts = {"config": recorded["config"], "tensors": recorded["tensors"]}
    (root / "bundle.json").write_text(json.dumps({"plan": {"models": {"chat": facts}, "cuda": "13.0.1"}}))
    small = {"model_type": "qwen2", "num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 64, "vocab_size": 64}
    (root / "models/own/config.json").write_text(json.dumps({**small, "torch_dtype": "bfloat16"}))
    head = json.dumps({"model.embed_tokens.weight": {"dtype": "BF16", "shape": [64, 64], "data_offsets": [0, 8192]}}).encode()
    (root / "models/own/model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + bytes(8192))
    return root


def ask(root: Path, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runtime.plan", "--kit", str(root), *words]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, input=stdin, check=False)


def test_the_command_on_the_host(host: Path) -> None:
    fits = ask(host, "--gpu-memory", "0=49140,1=49140")
    assert (fits.returncode, fits.stderr) == (
        0,
        "",
    ) and "chat  Qwen2.5-32B-Instruct on GPU 0,1, 0.8 of each: starts" in fits.stdout
    small = ask(host, "--gpu-memory", "0=24564,1=24564", "--json")
    reported = json.loads(small.stdout)
    assert small.returncode == 3 and reported["fits"] is False and reported["engines"]["own"]["fits"] is True
    assert {item["kind"] for item in reported["suggestions"]} >= {"smallest card"}
    assert ask(host, "--gpu-memory", "0=49140,1=49140", "--gpu-free", "0=20000,1=49000").returncode == 3
    what = "driver 550, the engine image's CUDA 13 needs 580"
    for name, code, word in (("NVIDIA RTX A6000", 3, "NO"), ("NVIDIA L40S", 0, "WARN")):
        two = "".join(f"{number}, {name}, 46068, 46000, 8.9, 550.1\n" for number in range(2))
        old = ask(host, "--gpu-file", "-", stdin=two)
        line = next(line for line in old.stdout.splitlines() if what in line)
        assert old.returncode == code and line.startswith(f"{word}: "), (
            "NVIDIA ships forward compatibility for data-centre cards"
        )
    assert ask(host, "--gpu", "2xH200").returncode == 0


def test_the_command_and_what_is_wrong(host: Path) -> None:
    assert ask(host).returncode == 2
    assert ask(host, "--gpu", "2xVoodoo").returncode == 2
    assert ask(host, "--gpu-file", "missing.csv").returncode == 1
    (host / "config/models.json").write_text("{}")
    assert ask(host, "--gpu", "2x48GiB").returncode == 3


def test_a_cpu_kit_needs_no_gpus(host: Path) -> None:
    (host / ".env").write_text("OFFLINE_KIT_DEVICE=cpu\n")
    done = ask(host)
    assert done.returncode == 0 and "there is no GPU plan" in done.stdout


def test_models_that_cannot_be_read_are_bounded_by_their_files(host: Path) -> None:
    (host / "models/own/model.safetensors").write_bytes(b"x" * 4096)
    assert [row["size"] for row in kit.facts_from_folder(host / "models/own")["tensors"]] == [4096]
    (host / "models/own/config.json").write_text("[1]")
    assert kit.facts_from_folder(host / "models/own")["config"] == {}
    assert kit.facts_from_folder(host / "models/none") == {"config": {}, "tensors": []}
    (host / "bundle.json").write_text("not JSON")
    assert kit.plan_of(host) == {}


def _project(target: str | None) -> tuple[Manifest, Lock, Settings]:
    data: dict[str, Any] = {
        "apiVersion": "offline-kit/v1", "name": "n", "models": {"chat": {"source": "hf://a/b"}}, "services": "m",
        "images": {key: {"source": "docker://r.io/x:1"} for key in ("engine", "gateway")}, "engine_config": "e",
    }  # fmt: skip
    manifest = Manifest.model_validate({**data, **({"target": {"gpus": target}} if target else {})})
    digest = str(Digest.of(b""))
    blob = {"digest": digest, "size": 1, "media_type": "x"}
    image: dict[str, Any] = {
        "wanted": digest,
        "source": "docker://r.io/x:1",
        "reference": None,
        "manifest": blob,
        "config": blob,
        "layers": [],
    }
    recorded = record(CHAT)
    model = {
        "wanted": digest, "source": "hf://a/b", "files": [],
        "facts": {"config": recorded["config"], "tensors": recorded["tensors"]},
    }  # fmt: skip
    lock = Lock.model_validate(
        {"name": "n", "platform": "linux/amd64", "accelerator": "nvidia", "models": {"chat": model}, "config": {},
         "images": {"engine": {**image, "environment": {"CUDA_VERSION": "13.0.1"}}, "gateway": image}}
    )  # fmt: skip
    entry = json.loads((REPOSITORY / "config/models.json").read_text())["models"]["chat"]
    config = {"models.json": json.dumps({"models": {"chat": entry}}).encode(), "vllm_config.yaml": b"max_num_seqs: 64\n"}
    return manifest, lock, check_services(config, ["chat"], "nvidia").settings


def test_a_target_is_refused_before_anything_is_fetched() -> None:
    for target in (None, "2x48GiB", "NVIDIA RTX A6000:2"):
        check_target(*_project(target))
    with pytest.raises(SpecError, match=r"30\.52 GiB weights \+ 4\.00 GiB KV cache") as refused:
        check_target(*_project("2x24GiB"))
    assert refused.value.exit_code == 3 and "what would start:" in str(refused.value)
    with pytest.raises(SpecError, match="neither a size such as 48GiB nor a known GPU"):
        check_target(*_project("2x Voodoo"))


def test_numbers_that_no_card_takes_are_known_without_a_target() -> None:
    _, lock, settings = _project(None)
    assert refused_numbers(lock, settings) == ()
    wrong = dataclasses.replace(settings.models[0], max_model_len=1_000_000, tensor_parallel_size=3)
    told = [str(mistake) for mistake in refused_numbers(lock, dataclasses.replace(settings, models=(wrong,)))]
    assert len(told) == 2 and "1000000 is more than the" in told[0] and "3 does not divide its" in told[1]
    tight = dataclasses.replace(settings.models[0], engine_args={"max-num-seqs": 300, "enable-chunked-prefill": True})
    assert refused_numbers(lock, dataclasses.replace(settings, models=(tight,))) == (), (
        "what depends on the card is left to plan"
    )


def test_the_shipped_configuration_fits_the_cards_that_it_names() -> None:
    """Qwen2.5-32B as published; bge-m3 as its one pickle file, of which the size is known; the reranker as published."""
    from offline_kit.host.target_check import cards, plan_for
    from offline_kit.project import open_project
    from offline_kit.spec.lock_facts import ModelFacts

    project = open_project(REPOSITORY / "manifests/knowflow.yaml")
    assert project.manifest.target is not None
    encoder = record("bge-reranker-v2-m3")
    pickle = [{"name": "pytorch_model.bin", "dtype": "whole-file", "shape": [], "size": 2_271_145_830, "count": 1}]
    models: dict[str, ModelFacts | None] = {
        "chat": ModelFacts.model_validate({key: record(CHAT)[key] for key in ("config", "tensors")}),
        "embedding": ModelFacts.model_validate({"config": encoder["config"], "tensors": pickle}),
        "rerank": ModelFacts.model_validate({key: encoder[key] for key in ("config", "tensors")}),
    }
    settings = project.services.settings
    verdict, _ = plan_for(settings, models, cards(project.manifest.target.gpus), Image(13))
    assert verdict.fits, verdict.mistakes
    assert not plan_for(settings, models, cards("2x40GiB"), Image(13))[0].fits


@pytest.mark.parametrize(
    ("text", "meant"),
    [("4090:2", "GeForce RTX 4090"), ("A6000", "NVIDIA RTX A6000"), ("9999", "neither")],
)
def test_a_name_cut_short_is_no_size(text: str, meant: str) -> None:
    with pytest.raises(ValueError, match="is neither a size") as refused:
        gpus.parse(text)
    assert meant in str(refused.value) and len(str(refused.value)) < 250
