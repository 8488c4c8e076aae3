"""Code of another repository, where transformers looks for it offline; the reader is huggingface_hub itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError

from offline_kit.runtime import code_repositories
from offline_kit.runtime.settings import load
from offline_kit.runtime.settings.model import ConfigError, Model
from tests.unit.runtime.test_config import entry

COMMIT = "c" * 40


def model(code: Any, **arguments: Any) -> Model:
    return load.load_settings(json.dumps({"models": {"m": entry(code=code, engine_args=arguments)}}), "").model("m")


def find(cache: Path, file: str, revision: str = "main") -> Path:
    """Where the hub's client has it, without a network: what transformers calls."""
    return Path(hf_hub_download("acme/code", file, revision=revision, cache_dir=cache, local_files_only=True))


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / "models/acme-code/sub").mkdir(parents=True)
    (tmp_path / "models/acme-code/modeling_x.py").write_text("A = 1\n")
    (tmp_path / "models/acme-code/sub/more.py").write_text("B = 1\n")
    return tmp_path / "models"


@pytest.mark.parametrize("revision", ["main", "v1.2", COMMIT])
def test_it_is_found_by_every_name_that_is_asked_for(models: Path, tmp_path: Path, revision: str) -> None:
    served = model({"acme/code": "/models/acme-code"}, code_revision=revision)
    for _ in range(2):  # an engine that starts again
        code_repositories.provide(served, tmp_path / "hub", models)
        found = find(tmp_path / "hub", "modeling_x.py", revision)
        assert found.read_text() == "A = 1\n" and len(found.parent.name) == 40
        assert found.parent.name == COMMIT or revision != COMMIT
        assert find(tmp_path / "hub", "sub/more.py").read_text() == "B = 1\n"
    with pytest.raises(LocalEntryNotFoundError):
        find(tmp_path / "hub", "gone.py", revision)


def test_changed_code_has_another_name(models: Path, tmp_path: Path) -> None:
    served = model({"acme/code": "acme-code"})
    code_repositories.provide(served, tmp_path / "hub", models)
    before = find(tmp_path / "hub", "modeling_x.py").parent.name
    (models / "acme-code/sub/more.py").write_text("B = 2\n")
    code_repositories.provide(served, tmp_path / "hub", models)
    assert find(tmp_path / "hub", "modeling_x.py").parent.name != before


def test_what_is_not_there_or_leads_out_is_refused(models: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="has no Python files"):
        code_repositories.provide(model({"acme/code": "gone"}), tmp_path / "hub", models)
    code_repositories.provide(model({"acme/code": "acme-code"}, code_revision="../../../x"), tmp_path / "hub", models)
    assert not (tmp_path / "x").exists() and sorted(path.name for path in tmp_path.iterdir()) == ["hub", "models"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ([], 'models.m.code: [] is not usable -> give an object, for example {"OWNER/NAME": "/models/KEY"}'),
        ({"code": "/models/a"}, "models.m.code.code: is not the name of a repository -> write it as auto_map"),
        ({"a/../b": "/models/a"}, "models.m.code.a/../b: is not the name of a repository"),
        ({"a/b--c": "/models/a"}, "models.m.code.a/b--c: is not the name of a repository"),
        ({"a/b": "/etc"}, "models.m.code.a/b: '/etc' is not a folder below models/"),
        ({"a/b": "../x"}, "models.m.code.a/b: '../x' is not a folder below models/"),
        ({"a/b": 1}, "models.m.code.a/b: is no folder -> write it like /models/code"),
    ],
)
def test_mistakes(code: Any, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        model(code)
    (line,) = str(error.value).splitlines()
    assert said in line and " -> " in line
