"""What bash and Python both read, alike to the last line: .env, kit.env, models.json, keys, SHA256SUMS, delta/needs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from offline_kit.bundle import delta, unpack
from offline_kit.bundle.format import paths
from offline_kit.bundle.format.bundle_json import Base, Need
from offline_kit.bundle.read.observed import Evidence, Seen
from offline_kit.bundle.verify import checks
from offline_kit.common.digest import Digest
from offline_kit.runtime.settings import api_keys
from offline_kit.runtime.settings.model import Mistake
from offline_kit.runtime.settings.parse import dotenv, models_json
from tests.support.bundle_sample import make_sample
from tests.testbed.cache import REPOSITORY

LIB = REPOSITORY / "scripts/lib"
TABLE = [line.split("\t") for line in (REPOSITORY / "tests/data/dotenv.tsv").read_text("utf-8").splitlines() if line[0] != "#"]
SUM = "0" * 64


def bash(library: str, script: str, *arguments: str | Path) -> str:
    """What ``script`` prints after it has sourced a library."""
    command = ["bash", "-c", f'. "$0"; {script}', str(LIB / library), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8").stdout


@pytest.mark.parametrize(("line", "value"), TABLE)
def test_a_line_of_dotenv(line: str, value: str, tmp_path: Path) -> None:
    text, expected = json.loads(line), json.loads(value)
    assert dotenv(text + "\n", []).get("A") == expected
    (tmp_path / ".env").write_bytes(text.encode() + b"\n")
    said = bash("core/common.sh", 'if value_of "$1" A; then printf "=%s" "$REPLY"; fi', tmp_path / ".env")
    assert said == ("" if expected is None else f"={expected}")


def test_a_file_of_settings_that_begins_with_a_mark_of_the_byte_order(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("\ufeffVLLM_ROUTER_PORT=8100\nA=1\n")
    assert bash("kit/settings.sh", 'env_check "$1"; env_keys "$1"', tmp_path / ".env") == "VLLM_ROUTER_PORT\nA\n"
    script = """KIT=$1 STATE=$1/.state; mkdir "$STATE"; cp "$1/.env" "$1/.env.example"; env_write 2>/dev/null; cat "$1/.env" """
    assert bash("kit/settings.sh", script, tmp_path).startswith("VLLM_ROUTER_PORT=8100\nA=1\n")


MODELS: list[dict[str, Any]] = [
    {"chat": {"port": 8001, "gpu_memory_utilization": 0.5, "gpus": [0, 1], "name": "a b"}},
    {"chat": {"engine_args": {"port": 1, "gpus": [9]}, "port": 8001}, "rerank": {"port": 8003}},
    {"chat": {"name": 'with "quotes" and \\ and /', "port": 8001}},
    {"chat": {"name": "braces { } [ ] : , inside", "port": 8001}},
    {"chat": {"gpus": ["GPU-1", "MIG-2"], "port": 8001, "lora": [{"name": "x", "port": 7}]}},
    {"chat": {"gpus": "auto", "replicas": 2, "memory_limit": "8g"}},
    {"chat": {"gpus": [], "enabled": True, "nothing": None, "port": -1}},
    {},
]


@pytest.mark.parametrize("models", MODELS)
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("escaped", [False, True])
def test_plain_fields_of_models_json(models: dict[str, Any], indent: int | None, escaped: bool, tmp_path: Path) -> None:
    text = json.dumps({"note": {"models": {"port": 1}}, "models": models}, indent=indent)
    text = text.replace("/", "\\/") if escaped else text
    expected = set()
    for key, entry in models_json(text, []).items():
        for field, value in entry.items():
            if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict) for item in value)):
                continue
            shown = (
                ",".join(map(str, value)) if isinstance(value, list) else value if isinstance(value, str) else json.dumps(value)
            )
            expected.add((key, field, shown))
    (tmp_path / "config").mkdir()
    (tmp_path / "config/models.json").write_text(text)
    said = bash("checks/models.sh", "KIT=$1; model_fields", tmp_path)
    found = {tuple(line.split("\t")) for line in said.splitlines()}
    assert expected <= found and all(field == "lora" for _, field, _ in found - expected)


def test_a_models_json_of_one_long_line(tmp_path: Path) -> None:
    """The shell reads a line through a window: wherever its end falls, inside of whatever, the values are the same."""
    (tmp_path / "config").mkdir()
    entry = {"name": "a" * 60 + '"\\', "port": 12345678, "list": [1, "two", 3.5], "long": "x" * 5000, "last": True}
    expected = ["a" * 60 + '"\\', "12345678", "1,two,3.5", "x" * 5000, "true"]
    for pad in range(1960, 2110, 3):
        (tmp_path / "config/models.json").write_text(f"{' ' * pad}{json.dumps({'models': {'chat': entry}})}")
        said = bash("checks/models.sh", "KIT=$1; model_fields", tmp_path)
        assert [line.split("\t")[2] for line in said.splitlines()] == expected, pad


def test_a_models_json_of_megabytes_is_read_in_no_time(tmp_path: Path) -> None:
    """Once a token, the whole rest was copied: minutes for what a hostile kit may hold. The limit is generous: seconds."""
    (tmp_path / "config").mkdir()
    for text in ("[1," * 700_000, '{"a":"' * 300_000, '"' + "x" * 2_000_000, "[" * 2_000_000):
        (tmp_path / "config/models.json").write_text(text)
        command = ["bash", "-c", '. "$0/scripts/lib/checks/models.sh"; KIT=$1; model_fields', str(REPOSITORY), str(tmp_path)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)


SUMS = {
    "one": (f"{SUM}  a\n", True),
    "two": (f"{SUM}  a\n{SUM}  b/c d\n", True),
    "in byte order": (f"{SUM}  B\n{SUM}  a\n{SUM}  é\n", True),
    "a path of many parts": (f"{SUM}  a/b/c/d.e-f_g\n", True),
    "no line end": (f"{SUM}  a", False),
    "capitals": (f"{'A' * 64}  a\n", False),
    "one blank": (f"{SUM} a\n", False),
    "a star": (f"{SUM} *a\n", False),
    "three blanks": (f"{SUM}   a\n", True),
    "short": (f"{SUM[1:]}  a\n", False),
    "long": (f"{SUM}0  a\n", False),
    "no path": (f"{SUM}  \n", False),
    "an empty line": (f"{SUM}  a\n\n", False),
    "not sorted": (f"{SUM}  b\n{SUM}  a\n", False),
    "twice": (f"{SUM}  a\n{SUM}  a\n", False),
    "itself": (f"{SUM}  SHA256SUMS\n", False),
    "the host's settings": (f"{SUM}  .env\n", False),
    "the host's state": (f"{SUM}  .state/keys\n", False),
    "absolute": (f"{SUM}  /etc/passwd\n", False),
    "upwards": (f"{SUM}  a/../b\n", False),
    "upwards at once": (f"{SUM}  ../b\n", False),
    "here": (f"{SUM}  ./a\n", False),
    "doubled slash": (f"{SUM}  a//b\n", False),
    "a folder": (f"{SUM}  a/\n", False),
    "an option": (f"{SUM}  -a\n", False),
    "a home": (f"{SUM}  ~a\n", False),
    "a tab": (f"{SUM}  a\tb\n", False),
    "a carriage return": (f"{SUM}  a\r\n", False),
    "a backslash": (f"{SUM}  a\\b\n", False),
    "delete": (f"{SUM}  a\x7f\n", False),
    "escaped by coreutils": (f"\\{SUM}  a\\nb\n", False),
}


@pytest.mark.parametrize("name", SUMS)
def test_a_list_of_sums_is_one_for_all_three_readers(name: str, tmp_path: Path) -> None:
    text, good = SUMS[name]
    data = text.encode()
    inventory = unpack.Inventory()
    inventory.read_sums(data)
    evidence = Evidence("kit")
    evidence.files["SHA256SUMS"] = Seen(len(data), 0o644, Digest.of(data), data, None)
    checks.read_sums(evidence)
    (tmp_path / "SHA256SUMS").write_bytes(data)
    said = bash("kit/checksums.sh", "KIT=$1; sums_shape", tmp_path)
    assert (not inventory.findings, not evidence.findings, not said) == (good, good, good)


KEY = "k" * 16
KEYS = {
    "one": f"a {KEY}\n",
    "two, a comment, an empty line": f"# added 2026-01-01 a\na {KEY}\n\n  # no key\nb-2.c {KEY}2\n",
    "blanks around": f"  a\t {KEY} \t\n",
    "a line of Windows": f"a {KEY}\r\n# other\r\n\r\nb {KEY}2\r\n",
    "no line end": f"a {KEY}",
    "every character": f"a {KEY}._~+/=-\n",
}


@pytest.mark.parametrize("name", KEYS)
def test_a_file_of_keys(name: str, tmp_path: Path) -> None:
    mistakes: list[Mistake] = []
    pairs = api_keys.parse(KEYS[name], "", mistakes)
    assert pairs and not mistakes
    (tmp_path / "keys").write_bytes(KEYS[name].encode())
    said = bash("verbs/keys.sh", "STATE=$1; key_lines", tmp_path)
    assert tuple(tuple(line.split()) for line in said.splitlines()) == pairs
    for key, value in pairs:
        assert bash("verbs/keys.sh", 'STATE=$1; key_of "$2"; printf %s "$REPLY"', tmp_path, key) == value


@pytest.mark.parametrize("blank", ["\u00a0", "\u2003", "\x0b", "\x0c", "\x85", "\u2028"])
def test_what_is_no_blank_for_the_scripts_is_none_for_the_engine_image(blank: str) -> None:
    mistakes: list[Mistake] = []
    assert api_keys.parse(f"a{blank}{KEY}\n", "", mistakes) == () and len(mistakes) == 1


def test_what_a_kit_says_of_itself(tmp_path: Path) -> None:
    (text,) = [entry.content for entry in make_sample(tmp_path / "store").entries() if entry.path == paths.KIT_ENV]
    assert text is not None
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy/kit.env").write_bytes(text)
    script = 'open_kit "$1"; for name in "${!KIT_FACT[@]}"; do printf "%s=%s\\n" "$name" "${KIT_FACT[$name]}"; done'
    said = bash("core/common.sh", script, tmp_path / "deploy/kit.env")
    mistakes: list[Mistake] = []
    facts = dotenv(text.decode(), mistakes)
    assert dict(line.split("=", 1) for line in said.splitlines()) == facts and not mistakes and "KIT_NAME" in facts


@pytest.mark.parametrize(
    ("here", "there", "good"),
    [
        ("models/chat/a b.json", "models/old/a b.json", True),
        ("images/blobs/sha256/" + SUM, "images/blobs/sha256/" + SUM, True),
        ("files/x", "files/y", True),
        ("README.md", "README.md", False),
        ("models/chat/x", "../x", False),
        ("models/chat/x", "/etc/passwd", False),
        ("models/chat/x", "models/../x", False),
    ],
)
def test_what_a_delta_takes_from_its_base(here: str, there: str, good: bool, tmp_path: Path) -> None:
    """What the builder writes is what the host reads; what may not be taken, neither does."""
    need = Need.model_construct(size=7, sha256=Digest(SUM), at=there)
    text = delta.needs_text(Base.model_construct(name="kit", version="v1", lock=Digest(SUM), needs={here: need}))
    (tmp_path / "delta").mkdir()
    (tmp_path / "delta/needs").write_bytes(text)
    (tmp_path / "SHA256SUMS").write_text(f"{SUM}  {here}\n")
    script = 'KIT=$1 WORK=$1; (base_list) 2>/dev/null || { printf refused; exit 0; }; cat "$1/needs"'
    said = bash("kit/delta.sh", script, tmp_path)
    assert said == (f"{SUM}\t7\t{there}\t{here}\n" if good else "refused")
    assert unpack.paths_in(text) == [here]
    try:
        Need.model_validate(need.model_dump())
    except ValidationError:
        assert not good
    else:
        assert paths.is_payload(here) == good
