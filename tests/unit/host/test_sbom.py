"""Bill of materials and provenance: valid by their schemas, the same bytes again, whole, and cheap for very many files."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from offline_kit.cli.main import cli
from offline_kit.common.digest import Digest
from offline_kit.host.provenance import provenance
from offline_kit.host.sbom import licences
from offline_kit.host.sbom.cyclonedx import sbom
from offline_kit.spec.image_contents import ImageContents, Package
from offline_kit.spec.lock import Blob, Layer, Lock, LockedExtra, LockedFile, LockedImage, LockedModel, LockedText
from offline_kit.spec.lock_facts import ModelCard, ModelFacts, ModelNeeds, Tensors
from tests.support.bundle_sample import VERSION, make_sample

SPEC = Digest.of(b"spec")
PACKAGES: tuple[Package, ...] = (
    {
        "kind": "deb",
        "name": "libc6",
        "version": "2.36-9+deb12u14",
        "architecture": "amd64",
        "source": "glibc",
        "licences": ["LGPL-2.1+", "GPL-2"],
    },
    {"kind": "pypi", "name": "torch", "version": "2.13.0+cpu", "licences": ["BSD-3-Clause AND (MIT OR Apache-2.0)"]},
    {"kind": "pypi", "name": "bare", "version": "2"},
    {"kind": "pypi", "name": "odd", "version": "1", "licences": ["Somebody's own licence"]},
    {"kind": "apk", "name": "musl", "version": "1.2.5-r0", "architecture": "x86_64", "licences": ["MIT"]},
    {"kind": "rpm", "name": "bash", "version": "5.1-9", "architecture": "x86_64", "licences": ["GPLv3+"]},
)
HELD = ImageContents(PACKAGES, {"ID": "debian", "VERSION_ID": "12"}, unread=("var/lib/rpm/Packages",), whole=False)


def model(**more: Any) -> LockedModel:
    files = tuple(LockedFile(path=path, size=3, sha256=Digest.of(path.encode())) for path in ("config.json", "sub/größe.bin"))
    table = (Tensors(name="layers.*.w", dtype="BF16", shape=(64, 128), size=16384, count=4, layers="0-3"),)
    fields: dict[str, Any] = {
        "spec_digest": SPEC,
        "source": "hf://Qwen/Qwen2.5-7B",
        "commit": "c" * 40,
        "files": files,
        "facts": ModelFacts(config={}, tensors=table),
        "needs": ModelNeeds(architectures=("Qwen2ForCausalLM",), model_type="qwen2"),
        "card": ModelCard(licence="apache-2.0", base_models=("Qwen/Base",), datasets=("c4",), task="text-generation"),
    }
    return LockedModel(**{**fields, **more})


def lock(**models: LockedModel) -> Lock:
    blob = Blob(digest=Digest.of(b"manifest"), size=3, media_type="x")
    layer = Layer(digest=Digest.of(b"layer"), size=5, media_type="x", diff_id=Digest.of(b"diff"))
    told = {"CUDA_VERSION": "13.0", "org.opencontainers.image.licenses": "Apache-2.0"}
    image = LockedImage(
        spec_digest=SPEC,
        source="docker://r.example/Vllm/engine:v1".lower(),
        reference="r.example/vllm/engine:v1",
        manifest=blob,
        config=blob,
        layers=(layer,),
        environment=told,
    )
    extras = {
        "tool": LockedExtra(spec_digest=SPEC, source="https://e.example/tool", size=1, sha256=SPEC),
        "own": LockedExtra(spec_digest=SPEC, source="file:///home/somebody/own", size=1, sha256=SPEC),
    }
    return Lock(
        name="kit",
        platform="linux/amd64",
        accelerator="cpu",
        images={"engine": image, "gateway": image},
        models=models or {"chat": model()},
        files=extras,
        config={"models.json": LockedText(size=1, sha256=SPEC)},
    )


def bom(held: Lock, contents: ImageContents = HELD) -> dict[str, Any]:
    text = sbom(held, "v1", {"engine": contents}, {"install.sh": b"x", "scripts/deploy.sh": b"y"})
    content: dict[str, Any] = json.loads(text)
    return content


def part(content: dict[str, Any], reference: str) -> dict[str, Any]:
    every = [item for top in content["components"] for item in (top, *top.get("components", []))]
    (found,) = [item for item in every if item["bom-ref"] == reference]
    return dict(found)


def test_every_part_has_a_reference_of_its_own() -> None:
    references = [item["bom-ref"] for top in bom(lock())["components"] for item in (top, *top.get("components", []))]
    assert len(references) == len(set(references)) == 16


def test_the_same_lock_gives_the_same_bytes_and_no_time() -> None:
    first = sbom(lock(), "v1", {"engine": HELD}, {})
    assert first == sbom(lock(), "v1", {"engine": HELD}, {}) != sbom(lock(), "v2", {"engine": HELD}, {})
    assert "timestamp" not in json.loads(first)["metadata"]
    assert first.count(b"\n") == 16, "a component a line"


def test_images_with_their_packages() -> None:
    content = bom(lock())
    engine = part(content, "images.engine")
    assert engine["type"] == "container" and engine["purl"].startswith("pkg:oci/engine@sha256")
    told = {item["name"]: item["value"] for item in engine["properties"]}
    assert told["offline-kit:packages-not-read"] == "var/lib/rpm/Packages" and told["offline-kit:packages"] == "incomplete"
    assert told["offline-kit:layer"] == str(Digest.of(b"diff")) and engine["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    libc = next(item for item in engine["components"] if item["name"] == "libc6")
    assert libc["purl"] == "pkg:deb/debian/libc6@2.36-9%2Bdeb12u14?arch=amd64&distro=debian-12"
    assert libc["licenses"] == [{"license": {"id": "GPL-2.0-only"}}, {"license": {"id": "LGPL-2.1-or-later"}}]
    assert len(engine["components"]) == len(PACKAGES) and "components" not in part(content, "images.gateway")


def test_models_with_their_cards() -> None:
    content = bom(
        lock(chat=model(), mine=model(source="dir:///home/somebody/mine", commit=None, card=None, facts=None, needs=None))
    )
    chat, mine = part(content, "models.chat"), part(content, "models.mine")
    assert chat["purl"].startswith("pkg:huggingface/Qwen/Qwen2.5-7B@cccc") and chat["version"] == "c" * 40
    assert chat["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    parameters = chat["modelCard"]["modelParameters"]
    assert parameters["modelArchitecture"] == "Qwen2ForCausalLM" and parameters["datasets"] == [
        {"name": "c4", "type": "dataset"}
    ]
    assert chat["pedigree"]["ancestors"][0]["name"] == "Qwen/Base"
    assert {"name": "offline-kit:parameters", "value": str(64 * 128 * 4)} in chat["properties"]
    assert part(content, "models.chat/sub/größe.bin")["hashes"][0]["content"] == Digest.of("sub/größe.bin".encode()).hex
    assert mine["name"] == "mine" and "licenses" not in mine
    assert part(content, "files.tool")["externalReferences"][0]["url"] == "https://e.example/tool"
    assert "somebody" not in json.dumps(content), "a place on the build machine"
    assert part(content, "kit/scripts/deploy.sh")["hashes"][0]["content"] == Digest.of(b"y").hex
    assert content["dependencies"][0]["dependsOn"] == sorted(item["bom-ref"] for item in content["components"])


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("Expat", {"license": {"id": "MIT"}}),
        ("apache-2.0", {"license": {"id": "Apache-2.0"}}),
        ("GPL-2+", {"license": {"id": "GPL-2.0-or-later"}}),
        ("LGPL-2.1", {"license": {"id": "LGPL-2.1-only"}}),
        ("GPL-2+ with OpenSSL exception", {"license": {"name": "GPL-2+ with OpenSSL exception"}}),
        ("MIT OR Apache-2.0", {"expression": "MIT OR Apache-2.0"}),
        ("mine OR yours", {"license": {"name": "mine OR yours"}}),
        ("llama3.1", {"license": {"name": "llama3.1"}}),
    ],
)
def test_names_of_licences(name: str, entry: dict[str, Any]) -> None:
    assert licences.entries([name]) == [entry]
    assert licences.entries(["", name, name]) == [entry]


def test_a_licence_of_its_own_has_its_name() -> None:
    card = ModelCard(licence="other", licence_name="tongyi-qianwen")
    assert part(bom(lock(chat=model(card=card))), "models.chat")["licenses"] == [{"license": {"name": "tongyi-qianwen"}}]


def test_very_many_files_cost_little() -> None:
    """In a process of its own, so that its memory is its own."""
    program = """
        from tests.fuzz.memory import peak_kib
        from tests.unit.host import test_sbom as t
        digest = t.Digest.of(b"x")
        files = tuple(t.LockedFile.model_construct(path=f"f{n // 500}/{n}.json", size=1, sha256=digest) for n in range(20_000))
        held = t.lock(chat=t.model(files=files))
        held.text()
        base = peak_kib()
        text = t.sbom(held, "v1", {"engine": t.HELD}, {})
        print(peak_kib() - base, len(text))
    """
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)], cwd=root, capture_output=True, text=True, check=True
    )
    kibibytes, length = done.stdout.split()
    assert int(length) > 20_000 * 100
    assert int(kibibytes) < 150 << 10


def test_provenance_names_what_it_was_made_from() -> None:
    held = lock(chat=model(), mine=model(source="dir:///home/somebody/mine", commit=None))
    statement = json.loads(provenance(held, "v1", Digest.of(b"manifest")))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["subject"] == [{"digest": {"sha256": Digest.of(held.text().encode()).hex}, "name": "kit-v1/lock.json"}]
    definition = statement["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["manifest"] == {"sha256": Digest.of(b"manifest").hex}
    made = {item["name"]: item for item in definition["resolvedDependencies"]}
    assert made["models.chat"]["digest"]["gitCommit"] == "c" * 40 and made["models.chat"]["uri"] == "hf://Qwen/Qwen2.5-7B"
    assert set(made["models.mine"]) == {"name", "digest"} and made["images.engine"]["uri"].startswith("docker://r.example")
    assert set(made) >= {"files/tool", "config/models.json"} and "somebody" not in json.dumps(statement)
    assert provenance(held, "v1", Digest.of(b"manifest")) == provenance(held, "v1", Digest.of(b"manifest"))


def said(*arguments: str | Path, code: int = 0) -> str:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], obj={})
    assert result.exit_code == code, result.output
    return result.output


def test_inspect_shows_licences_bill_and_provenance(tmp_path: Path) -> None:
    sample = make_sample(tmp_path / "blobs")
    sample.texts["sbom.cdx.json"] = sbom(lock(), "v1", {"engine": HELD}, {})
    sample.texts["provenance.intoto.json"] = provenance(lock(), "v1", SPEC)
    bundle = sample.pack(tmp_path / f"kit-{VERSION}.tar.gz")
    text = said("inspect", bundle, "--licences")
    assert "Apache-2.0 (3)\n    images.engine r.example/vllm/engine v1\n    images.gateway" in text
    assert "\n    models.chat Qwen/Qwen2.5-7B ccc" in text
    assert "(no licence named) (1)\n    images.engine pypi bare 2" in text
    assert "GPL-2.0-only (1)\n    images.engine deb libc6 2.36-9+deb12u14" in text
    found = json.loads(said("inspect", bundle, "--licences", "--json"))
    assert found["MIT"] == ["images.engine apk musl 1.2.5-r0"]
    assert json.loads(said("inspect", bundle, "--sbom")) == json.loads(sample.texts["sbom.cdx.json"])
    assert json.loads(said("inspect", bundle, "--provenance"))["subject"][0]["name"] == "kit-v1/lock.json"
    said("inspect", bundle, "--sbom", "--licences", code=2)
