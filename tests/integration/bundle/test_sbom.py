"""The bill of materials against what others say: CycloneDX's schema, and the package managers inside the engine image."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pip
import pytest

from offline_kit.common.progress import Silent
from offline_kit.host.sbom.cyclonedx import sbom
from offline_kit.intake.fetch import fetch
from offline_kit.intake.resolve import resolve
from offline_kit.intake.session import Session
from offline_kit.intake.sources.image_layers import contents_of
from offline_kit.intake.store.store import Store
from offline_kit.spec.image_contents import ImageContents
from offline_kit.spec.lock import Lock
from tests.support import intake_samples as parts
from tests.testbed.dockerd import Dockerd
from tests.testbed.fixtures import Testbed
from tests.unit.host import test_sbom as samples


@pytest.fixture
def validator() -> Iterator[Any]:
    with warnings.catch_warnings():  # what the validator imports is deprecated, not ours
        warnings.simplefilter("ignore")
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator

        yield JsonStrictValidator(SchemaVersion.V1_7)


def test_every_kind_of_component_is_valid(validator: Any) -> None:
    text = sbom(samples.lock(), "v1", {"engine": samples.HELD, "gateway": samples.HELD}, {"install.sh": b"x"}).decode()
    assert validator.validate_str(text) is None
    assert validator.validate_str(text.replace('"platform"', '"plattform"')) is not None


@pytest.fixture(scope="module")
def engine(testbed: Testbed, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lock, ImageContents]:
    """The real engine image as a build fetches it, and what its layers say."""
    work = tmp_path_factory.mktemp("sbom")
    with testbed.registry(work) as registry:
        names = {"engine": "offline-kit/engine-cpu:demo", "gateway": "offline-kit/gateway:demo"}
        images = {key: {"source": f"docker://{registry.host}/{name}"} for key, name in names.items()}
        manifest = parts.manifest(images=images)
        session = Session(Store(work / "store"), 4, progress=Silent())
        lock = resolve(manifest, work, {}, session)
        fetch(lock, manifest, work, session)
    return lock, contents_of(session.store, lock.images["engine"].layers, "engine")


def listed(document: Any, kind: str) -> set[tuple[str, str]]:
    """(name, version) of the packages of a kind (``deb``, ``pypi``) in the bill of materials, at every depth."""
    found: set[tuple[str, str]] = set()
    for component in document.get("components", ()):
        found |= listed(component, kind)
        if component.get("purl", "").startswith(f"pkg:{kind}/"):
            found.add((component["name"], component["version"]))
    return found


def test_the_packages_are_those_that_the_image_itself_prints(
    engine: tuple[Lock, ImageContents], validator: Any, testbed: Testbed, dockerd: Dockerd, tmp_path: Path
) -> None:
    """``dpkg-query -W`` and ``pip list`` inside the engine image; that has no pip of its own, so this machine's is mounted."""
    lock, held = engine
    text = sbom(lock, "v1", {"engine": held}, {}).decode()
    assert validator.validate_str(text) is None
    with testbed.registry(tmp_path) as registry:
        name = f"{registry.host}/offline-kit/engine-cpu:demo"
        dockerd.docker("pull", "--quiet", name)
        run = ("run", "--rm", "--network", "none")
        debian = dockerd.docker(*run, "--entrypoint", "dpkg-query", name, "-W", "-f", "${Package} ${Version}\n")
        own_pip = (
            "--volume",
            f"{Path(pip.__file__).parent}:/pip/pip:ro",
            "--env",
            "PYTHONPATH=/pip",
            "--entrypoint",
            "python3",
        )
        python = json.loads(
            dockerd.docker(*run, *own_pip, "--entrypoint", "python3", name, "-m", "pip", "list", "--format", "json")
        )
    document = json.loads(text)
    assert listed(document, "deb") == {tuple(line.split(" ")) for line in debian.splitlines()} != set()
    plain = {(re.sub(r"[-_.]+", "-", item["name"]).lower(), item["version"]) for item in python}
    assert listed(document, "pypi") == plain and ("vllm", "0.32.0+cpu") in plain
    assert "Qwen2ForCausalLM" in held.architectures and "hermes" in held.tool_parsers and held.whole
