"""What is read from vLLM's source, held against wheels of PyPI (tests/data/vllm-wheels.json has their names and digests).

Rules: the names in that file were got by executing the assignments of the wheels' modules, not by the readers under test; the
long test fetches those modules again, by range, and does both.
"""

from __future__ import annotations

import ast
import email
import io
import json
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import Any, Literal, get_args

import pytest

from benchmarks import plan_logs
from offline_kit.intake.images import contents
from offline_kit.intake.images.engine_facts import engine_facts
from offline_kit.intake.models.engine_findings import knows
from offline_kit.spec.lock_facts import EngineFacts
from tests.support import intake_samples as parts

WHEELS: dict[str, dict[str, Any]] = json.loads((Path(__file__).parents[3] / "data/vllm-wheels.json").read_text())
SITE = "usr/lib/python3.12/site-packages"
REGISTRY = "vllm/model_executor/models/registry.py"
QUANTIZATION = "vllm/model_executor/layers/quantization/__init__.py"
TOOLS, REASONING = "vllm/tool_parsers/__init__.py", "vllm/reasoning/__init__.py"


def facts(version: str) -> EngineFacts:
    wheel = WHEELS[version]
    names = ("architectures", "tool_parsers", "reasoning_parsers", "quantizations")
    return EngineFacts.model_validate({"packages": {"vllm": version}, "whole": True, **{name: wheel[name] for name in names}})


# Published architectures of the models in tests/data/plan-logs, and the first of the two wheels that has each.
PUBLISHED = {
    name
    for path in (plan_logs.FOLDER / "models").glob("*.json")
    for name in json.loads(path.read_text())["config"]["architectures"]
}


def test_the_models_of_public_start_logs_are_known_to_the_vllm_of_today() -> None:
    assert {name for name in PUBLISHED if not knows(facts("0.33.0"), name)} == set()
    assert len(PUBLISHED) > 12 and not knows(facts("0.33.0"), "QwenNextNextForCausalLM")


def test_what_the_two_wheels_differ_in() -> None:
    old, new = (set(WHEELS[version]["architectures"]) for version in WHEELS)
    assert len(old) == 376 and len(new) == 415 and len(new - old) > 30
    assert all(
        "gguf" not in wheel["quantizations"] and "bitsandbytes" not in wheel["quantizations"] for wheel in WHEELS.values()
    )


class Remote(io.RawIOBase):
    """A file on a server, read by range in pieces of one MiB."""

    def __init__(self, url: str) -> None:
        self._url, self._at, self._pieces = url, 0, dict[int, bytes]()
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=30) as reply:
            self._size = int(reply.headers["Content-Length"])

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        number, within = divmod(self._at, 1 << 20)
        if self._at >= self._size:
            return 0
        if number not in self._pieces:
            span = f"bytes={number << 20}-{min((number + 1) << 20, self._size) - 1}"
            request = urllib.request.Request(self._url, headers={"Range": span})
            with urllib.request.urlopen(request, timeout=60) as reply:
                assert reply.status == 206
                self._pieces[number] = reply.read()
        data = self._pieces[number][within : within + len(buffer)]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def executed(source: bytes) -> dict[str, Any]:
    """The names that a module's plain assignments make; those that need the rest of vLLM are left out."""
    found: dict[str, Any] = {"Literal": Literal, "get_args": get_args}
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            try:
                exec(compile(ast.Module([node], []), "vllm", "exec"), found)
            except (NameError, AttributeError, TypeError):
                continue
    return found


@pytest.mark.long
@pytest.mark.parametrize("version", WHEELS)
def test_a_wheel_of_pypi_is_read_as_it_executes(version: str) -> None:
    wheel = WHEELS[version]
    archive = zipfile.ZipFile(io.BufferedReader(Remote(wheel["source"]), 1 << 20))
    metadata = f"vllm-{version}.dist-info/METADATA"
    files = {name: archive.read(name) for name in (metadata, REGISTRY, TOOLS, REASONING, QUANTIZATION)}
    scan = contents.new_scan()
    scan.feed(parts.tar({f"{SITE}/{name}": data for name, data in files.items()}))
    made = engine_facts(contents.read_image([json.loads(json.dumps(contents.read_layer(scan)))]))
    assert made == facts(version).model_copy(
        update={"packages": {"vllm": email.message_from_bytes(files[metadata])["Version"]}}
    )
    assert set(made.architectures) == set(executed(files[REGISTRY])["_VLLM_MODELS"])
    assert set(made.tool_parsers) == set(executed(files[TOOLS])["_TOOL_PARSERS_TO_REGISTER"])
    assert set(made.reasoning_parsers) == set(executed(files[REASONING])["_REASONING_PARSERS_TO_REGISTER"])
    names = executed(files[QUANTIZATION])
    assert set(made.quantizations) == set(get_args(names["QuantizationMethods"])) - set(
        names["DEPRECATED_QUANTIZATION_METHODS"]
    )
