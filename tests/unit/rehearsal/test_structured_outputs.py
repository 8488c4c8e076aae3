"""Which backends of structured outputs an image has: a vllm of the test's own, of whose backends some do not work."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from offline_kit.runtime.rehearsal.structured_outputs import try_backends
from tests.support import intake_samples as parts

TYPES = b"class StructuredOutputOptions:\n    JSON = 'json'\n"
BACKEND = """
{first}
class {name}:
    def __init__(self, config, tokenizer, vocab_size):
        self.size = vocab_size
    def compile_grammar(self, kind, text):
        assert kind == "json" and "integer" in text
        return self
    def allocate_token_bitmask(self, sequences):
        return [0] * sequences
    def fill_bitmask(self, mask, index):
        {fill}
"""
CLASSES = {
    "xgrammar": ("backend_xgrammar", "XgrammarBackend"),
    "guidance": ("backend_guidance", "GuidanceBackend"),
    "outlines": ("backend_outlines", "OutlinesBackend"),
}


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that Python finds the image's vllm in."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "vllm"]:
        del sys.modules[name]


def write(folder: Path, **faults: str) -> None:
    """A vllm with three backends; ``faults``: backend -> the line that is wrong in it."""
    files = {f"vllm/{path}__init__.py": b"" for path in ("", "v1/", "v1/structured_output/")}
    files["vllm/v1/structured_output/backend_types.py"] = TYPES
    for key, (module, name) in CLASSES.items():
        fault = faults.get(key, "")
        first, fill = (fault, "pass") if fault.startswith("import") else ("", fault or "mask[index] = 1")
        files[f"vllm/v1/structured_output/{module}.py"] = BACKEND.format(first=first, name=name, fill=fill).encode()
    parts.write(folder, files)


def config(backend: str = "auto", field: str = "structured_outputs_config") -> Any:
    return SimpleNamespace(**{field: SimpleNamespace(backend=backend)}, model_config=SimpleNamespace(get_vocab_size=lambda: 9))


def test_all_that_are_there_are_told(image: Path) -> None:
    write(image)
    assert try_backends(config(), None) == "xgrammar, guidance, outlines"
    assert try_backends(config("outlines"), None) == "outlines"
    assert try_backends(config("guidance:no-fallback", "decoding_config"), None) == "guidance"


def test_one_that_vllm_does_not_choose_first_is_said_not_to_work(image: Path) -> None:
    write(image, outlines="import no_such_package", guidance="raise ValueError('no such decoder')")
    outlines = "not outlines (ModuleNotFoundError: No module named 'no_such_package')"
    assert try_backends(config(), None) == f"xgrammar; not guidance (ValueError: no such decoder); {outlines}"


@pytest.mark.parametrize("backend", ["auto", "xgrammar"])
def test_one_that_it_may_use_is_a_finding(image: Path, backend: str) -> None:
    write(image, xgrammar="raise OSError('no C++ compiler')")
    with pytest.raises(RuntimeError, match=r"^structured outputs: xgrammar: OSError: no C\+\+ compiler$"):
        try_backends(config(backend), None)
    assert try_backends(config("guidance"), None) == "guidance", "what is not used does not matter"


def test_a_vllm_of_another_form_is_not_called_tried(image: Path) -> None:
    assert try_backends(config(), None).startswith("not tried: ")
