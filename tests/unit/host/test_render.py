"""What a bundle carries for the host, rendered from the shipped manifests."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Environment, meta

from offline_kit.common.digest import Digest
from offline_kit.common.errors import SpecError
from offline_kit.host import assets
from offline_kit.host.manual.facts import facts
from offline_kit.host.manual.readme import MANUALS, manuals
from offline_kit.host.render import Origin, render
from offline_kit.host.validate import check_services
from offline_kit.runtime.settings import load
from offline_kit.spec.lock import Blob, Layer, Lock, LockedFile, LockedImage, LockedModel
from offline_kit.spec.manifest import Manifest, parse_manifest
from offline_kit.spec.scan import RECORD

SHIPPED = ("knowflow", "default", "demo")


def shipped(name: str) -> tuple[Manifest, dict[str, bytes]]:
    path = assets.root() / "manifests" / f"{name}.yaml"
    manifest = parse_manifest(path.read_text(), str(path))
    files = {"models.json": manifest.services, "vllm_config.yaml": manifest.engine_config}
    files |= {"environment.yaml": manifest.environment} if manifest.environment else {}
    return manifest, {file: (path.parent / place).read_bytes() for file, place in files.items()}


def test_the_default_is_the_example_under_a_name_of_its_own() -> None:
    known, default = (shipped(name)[0] for name in ("knowflow", "default"))
    assert default.name == "vllm-offline" and default.model_copy(update={"name": known.name}) == known


def digest(text: str) -> Digest:
    return Digest.of(text.encode())


def lock_of(manifest: Manifest) -> Lock:
    """A lock with made-up digests, of the manifest's names."""
    images = {}
    for key, image in manifest.images.items():
        blob = Blob(digest=digest(key), size=3 << 30, media_type="x")
        layer = Layer(digest=digest("layer"), size=5 << 20, media_type="x", diff_id=digest("diff"))
        images[key] = LockedImage(
            spec_digest=digest("w"),
            source=image.source,
            reference=image.reference.tagged,
            manifest=blob,
            config=blob,
            layers=(layer,),
        )
    file = LockedFile(path="sub/config.json", size=2048, sha256=digest("file"))
    models = {
        key: LockedModel(spec_digest=digest("w"), source=model.source, endpoint=model.endpoint, commit="c" * 40, files=(file,))
        for key, model in manifest.models.items()
    }
    return Lock(
        name=manifest.name,
        platform=manifest.platform,
        accelerator=manifest.accelerator,
        images=images,
        models=models,
        config={},
    )


def rendered(manifest: Manifest, version: str, files: dict[str, bytes]) -> tuple[dict[str, bytes], frozenset[str]]:
    """The small files of a bundle of a shipped manifest."""
    services = check_services(files, manifest.models.keys(), manifest.accelerator)
    return render(lock_of(manifest), version, files, services, Origin(manifest.digest))


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_manifests_can_run(name: str) -> None:
    manifest, files = shipped(name)
    settings = check_services(files, manifest.models.keys(), manifest.accelerator).settings
    assert {model.folder for model in settings.models} == set(manifest.models)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_same_lock_gives_the_same_bytes(name: str) -> None:
    manifest, files = shipped(name)
    assert rendered(manifest, "v1.0.0", files) == rendered(manifest, "v1.0.0", files)


def test_what_is_carried() -> None:
    manifest, files = shipped("knowflow")
    texts, executables = rendered(manifest, "v1.0.0", files)
    for path in ("install.sh", "scripts/deploy.sh", "scripts/lib/core/common.sh", "runtime/serve.py", "runtime/__init__.py"):
        assert path in texts
    assert (
        "install.sh" in executables and "scripts/deploy.sh" in executables and "scripts/lib/core/common.sh" not in executables
    )
    assert executables <= texts.keys()
    assert {"deploy.sh", "compose.yaml"} <= texts.keys() and "deploy.sh" in executables
    assert not {"scripts/build.sh", "scripts/build_offline_package.sh", "scripts/top/deploy.sh"} & texts.keys()
    assert texts["config/models.json"] == files["models.json"]
    assert texts["config/environment.yaml"] == files["environment.yaml"]
    assert not [path for path in texts if path.startswith(("/", "deploy/kit.env", "images/", "models/")) or ".." in path]
    compose = yaml.safe_load(texts["deploy/compose.yaml"])
    tag = f"localhost/offline-kit/engine:{digest('engine').short}"
    assert compose["services"]["engine-chat"]["image"] == tag


def test_the_example_of_dotenv_is_right_and_has_no_secret() -> None:
    for name in SHIPPED:
        manifest, files = shipped(name)
        text = rendered(manifest, "v1", files)[0][".env.example"].decode()
        settings = load.load_settings(files["models.json"].decode(), "", text, device="wrong")
        assert (settings.device, settings.api_key) == (manifest.accelerator, "")
        assert settings.visible == (() if name == "demo" else ("0", "1"))


def test_the_readme_is_about_this_bundle() -> None:
    manifest, files = shipped("knowflow")
    text = rendered(manifest, "v1.2.3", files)[0]["README.md"].decode()
    for part in (
        "# knowflow-offline v1.2.3",
        "tar -xzf knowflow-offline-v1.2.3.tar.gz",
        "vllm/vllm-openai:v0.33.0",
        str(digest("engine")),
        "| chat | `hf://Qwen/Qwen2.5-32B-Instruct` | 1 | 2.0 KiB |",
        "curl http://localhost:8000/health",
        "curl http://localhost:8000/v1/embeddings",
        "curl http://localhost:8003/health",
        '"model": "bge-reranker-v2-m3"',
        "| `VLLM_CHAT_PORT` | 8001 |",
        "NVIDIA container toolkit",
    ):
        assert part in text, part
    assert "@" not in text
    assert "NVIDIA container toolkit" not in rendered(shipped("demo")[0], "v1", shipped("demo")[1])[0]["README.md"].decode()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda model: model.update(path="/models/caht"), "there is no model 'caht' in the kit -> did you mean 'chat'?"),
        (lambda model: model.update(prot=1), "models.chat.prot: unknown key -> did you mean 'port'?"),
        (lambda model: model.update(gpu_memory_utilization=0.9), "= 1.00 of GPU 0, more than 0.95"),
    ],
)
def test_a_configuration_that_cannot_run_is_refused_before_anything_is_fetched(change: Any, what: str) -> None:
    manifest, files = shipped("knowflow")
    data = json.loads(files["models.json"])
    change(data["models"]["chat"])
    with pytest.raises(SpecError) as caught:
        check_services({**files, "models.json": json.dumps(data).encode()}, manifest.models.keys(), "nvidia")
    assert what in str(caught.value)


def test_text_that_is_not_utf_8() -> None:
    with pytest.raises(SpecError, match=r"config/models\.json, line 2: is not UTF-8 text"):
        check_services({"models.json": b'{"models":\n"\xff"}', "vllm_config.yaml": b""}, [], "cpu")


def test_the_starter_is_what_is_shipped() -> None:
    files = assets.starter_files()
    assert set(files) == set(assets.STARTER)
    assert files["config/models.json"] == Path(assets.root(), "config/models.json").read_bytes()


def test_monitoring_is_told_of_and_carried_where_there_are_images_for_it() -> None:
    manifest, files = shipped("knowflow")
    texts, _ = rendered(manifest, "v1", files)
    assert {"config/monitoring/rules/alerts.yml", "config/monitoring/grafana/boards/gpu.json"} <= texts.keys()
    text = texts["README.md"].decode()
    for part in ("| EngineDown | SERVICE (MODEL) does not answer |", "the GPUs", "GRAFANA_ADMIN_PASSWORD", "`PROMETHEUS_PORT`"):
        assert part in text, part
    assert "{{" not in text and "GRAFANA_ADMIN_PASSWORD=\n" in texts[".env.example"].decode()
    manifest, files = shipped("demo")
    texts, _ = rendered(manifest, "v1", files)
    assert not [path for path in texts if path.startswith("config/monitoring")]
    assert "carries no images for monitoring" in texts["README.md"].decode()
    assert "PROMETHEUS" not in texts[".env.example"].decode() + texts["README.md"].decode()


def commands(text: str) -> list[str]:
    """The lines of all code blocks, without what a comment says."""
    return [re.sub(r"\s+# .*", "", line) for line in text.splitlines() if line.startswith("    ")]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_chinese_manual_has_the_same_commands_and_facts(name: str) -> None:
    manifest, files = shipped(name)
    texts, _ = rendered(manifest, "v1.2.3", files)
    english, chinese = (texts[path].decode() for path in ("README.md", "README.zh.md"))
    assert commands(english) == commands(chinese) and len(commands(english)) > 30
    assert "@" not in chinese
    assert [line.count("|") for line in english.splitlines() if line.startswith("|")] == [
        line.count("|") for line in chinese.splitlines() if line.startswith("|")
    ]
    codes = [re.findall(r"^\| `?([A-Z_]{4,}|[0-9]+)`? \|", text, flags=re.M) for text in (english, chinese)]
    assert codes[0] == codes[1]
    for part in ("published port", "Docker keeps", "Linux on"):
        assert part in english and part not in chinese


def test_both_manuals_tell_all_facts() -> None:
    """What one language tells, the other does too, and nothing is computed for neither."""
    manifest, files = shipped("knowflow")
    services = check_services(files, manifest.models.keys(), manifest.accelerator)
    known = {*facts(lock_of(manifest), "v1", services), "scanned"}
    for name in MANUALS:
        assert meta.find_undeclared_variables(Environment().parse(assets.template(name))) == known


@pytest.mark.parametrize(("manual", "folder"), [("README.md", "a local folder"), ("README.zh.md", "本地文件夹")])
def test_a_folder_of_the_build_machine_is_not_named(manual: str, folder: str) -> None:
    manifest, files = shipped("knowflow")
    services = check_services(files, manifest.models.keys(), manifest.accelerator)
    lock = lock_of(manifest)
    local = lock.models["chat"].model_copy(update={"source": "dir:///data/secret", "commit": None})
    text = manuals(lock.model_copy(update={"models": {**lock.models, "chat": local}}), "v1", services)[manual]
    assert f"| chat | {folder} | 1 | 2.0 KiB | - |" in text and "/data/" not in text


@pytest.mark.parametrize("manual", MANUALS)
def test_the_record_of_scanners_is_named_where_there_is_one(manual: str) -> None:
    manifest, files = shipped("knowflow")
    services = check_services(files, manifest.models.keys(), manifest.accelerator)
    told = [manuals(lock_of(manifest), "v1", services, scanned=scanned)[manual] for scanned in (True, False)]
    assert [RECORD in text for text in told] == [True, False]


@pytest.mark.parametrize("manual", MANUALS)
def test_the_gpus_of_every_engine_are_told(manual: str) -> None:
    manifest, files = shipped("knowflow")
    data = json.loads(files["models.json"])
    data["models"]["chat"].update(gpu_memory_utilization=0.7)
    data["models"]["embedding"].update(replicas=2, gpus=[0, 1])
    services = check_services({**files, "models.json": json.dumps(data).encode()}, manifest.models.keys(), "nvidia")
    text = manuals(lock_of(manifest), "v1", services)[manual]
    for row in ("| `engine-chat` | 0, 1 | 0.7 |", "| `engine-embedding` | 0 | 0.1 |", "| `engine-embedding-2` | 1 | 0.1 |"):
        assert row in text
