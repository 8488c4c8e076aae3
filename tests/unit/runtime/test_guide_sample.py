"""The sample configuration of the well-known guide: read as it stands, refused for its arithmetic, with what would fit."""

from __future__ import annotations

import json

import pytest

from offline_kit.common.errors import SpecError
from offline_kit.host.validate import check_services
from offline_kit.runtime.gpu_plan.evaluate import Image, evaluate
from offline_kit.runtime.gpu_plan.suggest import apply, suggestions
from offline_kit.runtime.gpu_plan.vllm_version import Vllm
from offline_kit.runtime.settings import load
from offline_kit.runtime.settings.model import ConfigError, Monitoring, Web
from tests.data.guide_commands import DOTENV, MODELS_JSON
from tests.support.plan_samples import CHAT, cards, facts


def test_it_is_read_as_it_stands() -> None:
    """Its paths, its ports and its .env: HF_TOKEN, which a host without a network has no use for, is no mistake."""
    settings = load.load_settings(MODELS_JSON, "", DOTENV, folders=("chat", "embedding", "rerank"))
    assert [(model.key, model.folder, model.port) for model in settings.models] == [
        ("chat", "chat", 8001),
        ("embedding", "embedding", 8002),
        ("rerank", "rerank", 8003),
    ]
    assert settings.visible == ("0", "1") and settings.router_port == 8000
    assert (Monitoring.prometheus_port, Monitoring.grafana_port, Web.http_port) == (9090, 3000, 80)


@pytest.mark.parametrize(
    ("field", "value", "remedy"),
    [
        ("network_mode", "host", "networks without a way out"),
        ("deploy", {}, "'memory_limit'"),
        ("mem_limit", "32G", "memory_limit"),
    ],
)
def test_what_the_guide_writes_into_compose_is_named(field: str, value: object, remedy: str) -> None:
    data = json.loads(MODELS_JSON)
    data["models"]["chat"][field] = value
    with pytest.raises(ConfigError, match=rf"models\.chat\.{field}: unknown key -> .*{remedy}"):
        load.load_settings(json.dumps(data), "", DOTENV)


def test_its_memory_limit_is_a_field() -> None:
    data = json.loads(MODELS_JSON)
    data["models"]["chat"]["memory_limit"] = "32G"
    assert load.load_settings(json.dumps(data), "", DOTENV).models[0].memory_limit == "32G"


def test_it_is_refused_for_its_shares() -> None:
    with pytest.raises(SpecError) as caught:
        check_services(
            {"models.json": MODELS_JSON.encode(), "vllm_config.yaml": b""}, ["chat", "embedding", "rerank"], "nvidia"
        )
    assert "chat 0.8 + embedding 0.3 + rerank 0.2 = 1.30 of GPU 0, more than 0.95" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_the_plan_says_what_would_fit() -> None:
    settings = load.load_settings(MODELS_JSON, "", DOTENV)
    encoder = facts("bge-reranker-v2-m3")  # bge-m3 has the same architecture
    known = {"chat": facts(CHAT), "embedding": encoder, "rerank": encoder}
    image = Image(12, Vllm.parse("0.33.0"), ())
    verdict = evaluate(settings, known, cards("2x48GiB"), image)
    assert not verdict.fits and "= 1.30 of GPU 0" in str(verdict.mistakes[0])
    nearest = suggestions(verdict, known)[0]
    assert str(nearest).startswith("lowest utilizations: chat: gpu_memory_utilization 0.")
    assert evaluate(apply(settings, nearest.changes), known, cards("2x48GiB"), image).fits
