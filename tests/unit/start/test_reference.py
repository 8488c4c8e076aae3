"""What is made from the program, or stands beside it in pages, says what the program is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import click
import pytest

from offline_kit.cli.main import cli
from offline_kit.spec.manifest import Manifest, parse_manifest
from reference.__main__ import MANIFEST, MANUAL
from reference.man_pages import man_pages
from reference.manifest_page import manifest_page
from tests.testbed.cache import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
MODEL = {"source": "dir:///data/m"}
WHOLE: dict[str, Any] = {
    "apiVersion": "offline-kit/v1",
    "name": "x",
    "images": {key: {"source": "docker://a.example/b:1"} for key in ("engine", "gateway")},
    "models": {"m": MODEL},
    "services": "models.json",
    "engine_config": "vllm_config.yaml",
}
PLACES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "ImageSpec": lambda one: {"images": {**WHOLE["images"], "engine": {**WHOLE["images"]["engine"], **one}}},
    "ModelSpec": lambda one: {"models": {"m": {**(MODEL if "revision" not in one else {"source": "hf://a/b"}), **one}}},
    "FileSpec": lambda one: {"files": {"f": {"source": "file://f", "sha256": "0" * 64, **one}}},
    "Target": lambda one: {"target": {"gpus": "L4", **one}},
    "Policy": lambda one: {"policy": {"signers": ["a.pub"], **one}},
    "Scanner": lambda one: {"scan": [{"name": "s", "command": ["s", "{path}"], **one}]},
}


def examples() -> Iterator[tuple[str, str, Any]]:
    schema = Manifest.model_json_schema()
    for name, definition in {"": schema, **schema["$defs"]}.items():
        for field, facts in definition["properties"].items():
            assert facts.get("description"), f"{name}.{field} says nothing of itself"
            yield name, field, facts["examples"][0]


def test_pages_are_those_of_the_program() -> None:
    """``make reference`` writes them anew."""
    assert MANIFEST.read_text() == manifest_page()
    assert {path.name: path.read_text() for path in MANUAL.iterdir()} == man_pages()


@pytest.mark.parametrize(("name", "field", "example"), list(examples()))
def test_every_example_is_accepted(name: str, field: str, example: Any) -> None:
    one = {field: example}
    if not name and field == "images":
        one = {field: {**WHOLE["images"], **example}}
    data = {**WHOLE, **(PLACES[name](one) if name else one)}
    parse_manifest(json.dumps(data), "example.yaml")


def commands() -> set[str]:
    context = click.Context(cli)
    return set(cli.list_commands(context))


def test_the_table_of_commands() -> None:
    table = README.partition("\n## Commands\n")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `([a-z]+)[^`]*` \| (.+) \|$", table, flags=re.M))
    assert set(rows) == commands()


def test_commands_and_options_in_pages_exist() -> None:
    """Every ``offline-kit COMMAND --option`` of the README and of docs/ is one that there is."""
    context = click.Context(cli)
    wrong = []
    for page in [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]:
        for line in page.read_text().splitlines():
            for command, rest in re.findall(r"offline-kit ([a-z]+)\b([^|`#'\"]*)", line if line.startswith("    ") else ""):
                found = cli.get_command(context, command) if command != "help" else cli
                if found is None:
                    wrong.append(f"{page.name}: {command}")
                    continue
                known = {name for one in found.params for name in (*one.opts, *one.secondary_opts)} | {"--help"}
                if not isinstance(found, click.Group):
                    wrong += [f"{page.name}: {command} {o}" for o in re.findall(r"(?<!\S)--[a-z-]+", rest) if o not in known]
    assert wrong == []
