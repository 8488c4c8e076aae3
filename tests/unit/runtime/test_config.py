"""Mistakes in models.json, vllm_config.yaml and .env: each is one line that names file, field and remedy; all at once."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from offline_kit.runtime.settings import load as config
from offline_kit.runtime.settings.model import ConfigError, Settings

RUNTIME = Path(config.__file__).parents[1]
KEY = "0123456789abcdef0123"


def entry(**changes: Any) -> dict[str, Any]:
    """A good model; a change to None takes a field away."""
    fields: dict[str, Any] = {
        "name": "m",
        "path": "/models/chat",
        "type": "chat",
        "port": 8001,
        "gpu_memory_utilization": 0.5,
        "max_model_len": 128,
        "tensor_parallel_size": 1,
        "dtype": "auto",
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not None}


def load(yaml: str = "", env: str = "", folders: tuple[str, ...] = ("chat", "embedding"), **models: Any) -> Settings:
    return config.load_settings(json.dumps({"models": models}), yaml, env, folders=folders)


def mistakes(*arguments: Any, **models: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(*arguments, **models)
    return [str(mistake) for mistake in caught.value.mistakes]


def test_a_good_configuration() -> None:
    settings = load("max_num_seqs: 8\n", f"VLLM_CHAT_PORT=80\nVLLM_API_KEY='{KEY}'\nCUDA_VISIBLE_DEVICES=2,3\n", chat=entry())
    model = settings.model("chat")
    assert (model.port, model.path, model.folder, model.service) == (80, "/models/chat", "chat", "engine-chat")
    assert (settings.router_port, settings.visible, settings.api_key, settings.bind) == (8000, ("2", "3"), KEY, "0.0.0.0")
    assert settings.common == {"max-num-seqs": 8}
    with pytest.raises(KeyError):
        settings.model("other")


@pytest.mark.parametrize("path", ["/models/chat", "models/chat", "chat", "/models/chat/"])
def test_a_path_has_one_meaning(path: str) -> None:
    assert load(chat=entry(path=path)).model("chat").path == "/models/chat"


@pytest.mark.parametrize(
    "path", ["../etc", "/models/../etc", "/etc/passwd", "/models/", "", "chat/../x", "a//b", "-x", "a b", "a$b", "."]
)
def test_a_path_stays_below_the_models(path: str) -> None:
    assert [line for line in mistakes(chat=entry(path=path)) if "models.chat.path" in line]


def test_every_mistake_is_reported_at_once() -> None:
    found = mistakes(
        "a: 1\na: 2\nhost: x\n", "VLLM_CHAT_PROT=1\nnonsense\n", chat=entry(nam="x", name=None, port=True, dtype="")
    )
    for part in (
        "config/vllm_config.yaml, line 2: a: is given twice",
        "config/vllm_config.yaml: host: cannot be set here",
        ".env: VLLM_CHAT_PROT: unknown key -> did you mean 'VLLM_CHAT_PORT'?",
        ".env, line 2: not a KEY=value line",
        "config/models.json: models.chat.nam: unknown key -> did you mean 'name'?",
        "config/models.json: models.chat.name: is missing",
        "config/models.json: models.chat.port: True is not usable",
        "config/models.json: models.chat.dtype: '' is not usable",
    ):
        assert [line for line in found if line.startswith(part)], (part, found)
    assert all("\n" not in line for line in found)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('{"models": {\n  "chat": {,}}}', "config/models.json, line 2: not valid JSON"),
        ("[]", "config/models.json: models: an object"),
        ('{"models": {}}', "config/models.json: models: an object"),
        ('{"models": {"a": 1}, "x": 2}', "config/models.json: x: unknown key"),
        ('{"models": {"a": 1}}', "config/models.json: models.a: is not an object"),
        ('{"models": {"a": 1, "a": 2}}', "config/models.json: a: is given twice"),
        ('{"models": {"A b": {}}}', "config/models.json: models.A b: 'A b' cannot be the key of a model"),
        ('{"models": {"router": {}}}', "config/models.json: models.router: 'router' cannot be the key"),
    ],
)
def test_models_json_of_the_wrong_form(text: str, where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load_settings(text, "")
    assert [line for line in str(caught.value).splitlines() if line.startswith(where)], str(caught.value)


@pytest.mark.parametrize(
    ("text", "where"), [("a: [1", "line 1: not valid YAML"), ("- a", ": not a mapping"), ("a: !!python/x y", "not valid")]
)
def test_yaml_of_the_wrong_form(text: str, where: str) -> None:
    assert [line for line in mistakes(text, chat=entry()) if where in line]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("gpu_memory_utilization", 0),
        ("gpu_memory_utilization", 1.01),
        ("gpu_memory_utilization", "0.5"),
        ("gpu_memory_utilization", True),
        ("tensor_parallel_size", 0),
        ("tensor_parallel_size", 1.5),
        ("max_model_len", -1),
        ("port", 0),
        ("port", 65536),
        ("port", "8001"),
        ("type", "generate"),
        ("type", []),
        ("name", "has space"),
        ("name", "dollar$"),
        ("gpus", []),
        ("gpus", [0, 0]),
        ("gpus", ["first"]),
        ("memory_limit", "lots"),
        ("engine_args", []),
        ("dtype", "--x"),
    ],
)
def test_a_field_out_of_bounds(field: str, value: Any) -> None:
    found = mistakes(chat=entry(**{field: value}))
    assert [
        line.startswith(f"config/models.json: models.chat.{field}: {value!r} is not usable -> give ") for line in found
    ] == [True]


@pytest.mark.parametrize(
    "name", ["host", "port", "model", "served_model_name", "served-model-name", "api_key", "config", "ssl_keyfile"]
)
def test_arguments_that_belong_to_the_kit(name: str) -> None:
    assert "cannot be set here" in mistakes(chat=entry(engine_args={name: "x"}))[0]
    assert "cannot be set here" in mistakes(f"{name}: x", chat=entry())[0]


def test_engine_arguments_have_one_place_and_one_spelling() -> None:
    assert "set the field 'dtype'" in mistakes(chat=entry(engine_args={"dtype": "auto"}))[0]
    assert "given twice" in mistakes(chat=entry(engine_args={"max-num-seqs": 1, "max_num_seqs": 2}))[0]
    assert "not the name of a vLLM argument" in mistakes(chat=entry(engine_args={"--x; rm": 1}))[0]
    assert "a list with a list or nothing in it" in mistakes(chat=entry(engine_args={"x": [[]]}))[0]
    assert "a list with a list or nothing in it" in mistakes(chat=entry(engine_args={"x": [None]}))[0]


def test_models_beside_each_other() -> None:
    assert "8000 is already used by the router" in mistakes(chat=entry(port=8000))[0]
    two: dict[str, Any] = {"chat": entry(), "other": entry(name="n")}
    assert "models.other.port: 8001 is already used by the model 'chat'" in mistakes(**two)[0]
    assert load(env="VLLM_OTHER_PORT=8009", **two).model("other").port == 8009
    assert "'m' is already the name of 'chat'" in mistakes(chat=entry(), other=entry(port=8002))[0]
    twins: dict[str, Any] = {"a-b": entry(), "a_b": entry(name="n", port=8002)}
    assert "shares the variable VLLM_A_B_PORT with 'a-b'" in mistakes(**twins)[0]


def test_a_model_that_the_kit_does_not_have() -> None:
    found = mistakes(chat=entry(path="/models/embeding"))
    assert found == [
        "config/models.json: models.chat.path: there is no model 'embeding' in the kit -> did you mean 'embedding'?"
    ]


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("VLLM_ROUTER_PORT=0", "VLLM_ROUTER_PORT"),
        ("VLLM_CHAT_PORT=x", "VLLM_CHAT_PORT"),
        ("CUDA_VISIBLE_DEVICES=0,0", "CUDA_VISIBLE_DEVICES"),
        ("CUDA_VISIBLE_DEVICES=all", "CUDA_VISIBLE_DEVICES"),
        ("OFFLINE_KIT_DEVICE=rocm", "OFFLINE_KIT_DEVICE"),
        ("OFFLINE_KIT_BIND=localhost", "OFFLINE_KIT_BIND"),
        ("VLLM_API_KEY=short", "VLLM_API_KEY"),
        ('VLLM_API_KEY=with"quote;and{braces}0123', "VLLM_API_KEY"),
        ("VLLM_API_KEY=a\nVLLM_API_KEY=b", "VLLM_API_KEY"),
    ],
)
def test_mistakes_in_dotenv(line: str, field: str) -> None:
    assert [found for found in mistakes("", line, chat=entry()) if found.startswith(".env") and f"{field}: " in found]


def test_dotenv_as_people_write_it() -> None:
    text = f"# a comment\n\nexport VLLM_ROUTER_PORT = 1\nCOMPOSE_ANSI=never\nVLLM_API_KEY={KEY} # mine\nCUDA_VISIBLE_DEVICES=\n"
    assert ".env, line 3" in mistakes("", text, chat=entry())[0]
    settings = load(env=text.replace(" = ", "="), chat=entry())
    assert (settings.router_port, settings.api_key, settings.visible) == (1, KEY, ())


def test_a_mark_of_the_byte_order_is_no_mistake() -> None:
    """As some editors begin a file with it."""
    models = "\ufeff" + json.dumps({"models": {"chat": entry()}})
    settings = config.load_settings(models, "\ufeffmax_num_seqs: 4\n", f"\ufeffVLLM_ROUTER_PORT=8100\r\nVLLM_API_KEY={KEY}\r\n")
    assert (settings.router_port, settings.api_key, dict(settings.common)) == (8100, KEY, {"max-num-seqs": 4})


def test_a_key_is_needed_on_the_host() -> None:
    with pytest.raises(ConfigError, match="VLLM_API_KEY: is empty"):
        config.load_settings(json.dumps({"models": {"chat": entry()}}), "", "VLLM_API_KEY=\n", need_key=True)


@pytest.mark.parametrize("path", sorted(RUNTIME.rglob("*.py")), ids=lambda path: path.name)
def test_the_runtime_is_python_3_8_and_imports_only_itself(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            assert node.module and not node.module.startswith("offline_kit")
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("removeprefix", "removesuffix", "is_relative_to", "hardlink_to", "with_stem")


@pytest.mark.parametrize("path", ["chat", "chat/", "models/chat", "/models/chat", "/models/chat/", "/app/models/chat"])
def test_a_folder_of_models_however_it_is_written(path: str) -> None:
    """As other guides write it, too: in the container, /models and /app/models are the same folder."""
    assert load(chat=entry(path=path)).models[0].folder == "chat"


@pytest.mark.parametrize("path", ["/chat", "/app/chat", "/app/models/", "/srv/models/chat", "../models/chat", "//models/chat"])
def test_what_is_no_folder_of_models(path: str) -> None:
    assert "is not a folder below models/" in mistakes("", "", chat=entry(path=path))[0]
