"""What .env, .state/keys and replicas may say, what comes of it, and what is refused."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from offline_kit.runtime.router import decide, model_of
from offline_kit.runtime.settings import api_keys
from offline_kit.runtime.settings import load as config
from offline_kit.runtime.settings.model import ConfigError, Mistake, Settings
from offline_kit.runtime.settings.placement import place
from offline_kit.runtime.settings.replicas import engines, expand_replicas
from offline_kit.runtime.settings.routes import needs_router, routes
from tests.unit.runtime.test_apply import ENV, compose, kit, models_of, run, write_models
from tests.unit.runtime.test_config import KEY, entry

__all__ = ["kit"]
NAMED = "key-of-a-team-0123456789"
FACTS = "KIT_IMAGES=engine,gateway,prometheus,grafana,node-exporter\n" + "".join(
    f"KIT_IMAGE_{key}=localhost/offline-kit/{key}:3\n" for key in ("prometheus", "grafana", "node_exporter")
)


def load(env: str = "", *, models: dict[str, Any] | None = None, **more: Any) -> Settings:
    models = models or {"chat": entry()}
    return config.load_settings(json.dumps({"models": models}), "", f"{ENV}{env}", **more)


def mistakes(*arguments: Any, **more: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(*arguments, **more)
    return str(caught.value)


def test_named_keys_come_after_the_default() -> None:
    settings = load(named_keys=f"# of May\n\nteam-a {NAMED}\n  team-b\t{NAMED}2\n")
    assert settings.keys == (("default", KEY), ("team-a", NAMED), ("team-b", f"{NAMED}2"))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("team-a\n", ".state/keys, line 1: is not a name and a key"),
        (f"\nteam a {NAMED}\n", ".state/keys, line 2: is not a name and a key"),
        (f"default {NAMED}\n", "'default' cannot be the name of a key"),
        (f'te"am {NAMED}\n', "cannot be the name of a key"),
        ("team-a short\n", "team-a: the key is too short"),
        (f"team-a {NAMED}\nteam-a {NAMED}2\n", "line 2: team-a: is given twice"),
        (f"team-a {NAMED}\nteam-b {NAMED}\n", "line 2: team-b: has the same key as 'team-a'"),
        (f"team-a {KEY}\n", "has the same key as 'default'"),
    ],
)
def test_keys_that_cannot_be_used(text: str, what: str) -> None:
    found: list[Mistake] = []
    api_keys.parse(text, KEY, found)
    assert len(found) == 1 and what in str(found[0])
    assert NAMED not in str(found[0]) and KEY not in str(found[0])


def test_what_is_off_asks_for_nothing() -> None:
    settings = load("PROMETHEUS_PORT=wrong\n", images=["engine", "gateway"], need_key=True)
    assert (settings.web, settings.monitoring) == (None, None)


def test_what_is_on() -> None:
    ports = "OFFLINE_KIT_HTTP_PORT=8080\nGRAFANA_PORT=3001\n"
    settings = load(f"OFFLINE_KIT_WITH=monitoring, nginx\n{ports}GRAFANA_ADMIN_PASSWORD=long-enough\n")
    assert settings.web and (settings.web.http_port, settings.web.https_port) == (8080, 443)
    assert settings.monitoring and (settings.monitoring.prometheus_port, settings.monitoring.grafana_port) == (9090, 3001)
    assert settings.monitoring.bind == "127.0.0.1"


@pytest.mark.parametrize(
    ("env", "what"),
    [
        ("OFFLINE_KIT_WITH=grafana\n", "OFFLINE_KIT_WITH: 'grafana' is not known -> use words of monitoring, nginx"),
        ("OFFLINE_KIT_WITH=monitoring\n", "this kit does not carry"),
        (
            "OFFLINE_KIT_WITH=nginx\nOFFLINE_KIT_HTTPS_PORT=80\n",
            "HTTPS_PORT: 80 is already used by OFFLINE_KIT_HTTP_PORT",
        ),
        ("OFFLINE_KIT_WITH=nginx\nVLLM_CHAT_PORT=80\n", "80 is already used by OFFLINE_KIT_HTTP_PORT"),
        ("OFFLINE_KIT_WITH=nginx\nOFFLINE_KIT_HTTP_PORT=99999\n", "'99999' is not a port"),
        ("OFFLINE_KIT_TLS_ONLY=yes\n", "OFFLINE_KIT_TLS_ONLY: nothing is encrypted without nginx"),
        ("OFFLINE_KIT_WITH=nginx\nOFFLINE_KIT_TLS_ONLY=on\n", "OFFLINE_KIT_TLS_ONLY: 'on' is not known"),
        ("OFFLINE_KIT_KEY_LIMIT=0\n", "OFFLINE_KIT_KEY_LIMIT: '0' is not a number that fits"),
    ],
)
def test_options_that_cannot_work(env: str, what: str) -> None:
    assert what in mistakes(env, images=["engine", "gateway"])


def test_a_password_is_asked_for_only_where_there_is_a_grafana() -> None:
    on = "OFFLINE_KIT_WITH=monitoring\n"
    assert "GRAFANA_ADMIN_PASSWORD: is empty" in mistakes(on, images=["prometheus", "grafana"], need_key=True)
    assert "too short" in mistakes(f"{on}GRAFANA_ADMIN_PASSWORD=abc\n", images=["prometheus", "grafana"], need_key=True)
    assert load(on, images=["prometheus"], need_key=True).monitoring
    assert "is not an IP address" in mistakes(f"{on}OFFLINE_KIT_MONITORING_BIND=here\n", images=["prometheus"])


def replicated(count: int, **more: Any) -> dict[str, Any]:
    return {"chat": entry(replicas=count, **more), "small": entry(name="small", port=8002, gpu_memory_utilization=0.1)}


def test_each_engine_of_a_model_has_gpus_of_its_own() -> None:
    settings = load(models=replicated(2, tensor_parallel_size=2))
    asked, wrong = expand_replicas(settings)
    placed, misplaced = place(asked)
    assert not wrong and not misplaced
    assert placed.gpus == {"chat": ("0", "1"), "chat-2": ("2", "3"), "small": ("0",)}
    assert placed.order == (("chat", "chat-2"), ("small",))
    assert [engine.service for engine in engines(settings)] == ["engine-chat", "engine-chat-2", "engine-small"]


def test_engines_that_find_no_gpus() -> None:
    settings = load("CUDA_VISIBLE_DEVICES=0,1,2\n", models=replicated(2, tensor_parallel_size=2))
    assert "2 engines of 2 GPUs each take 4, but there are 3" in str(expand_replicas(settings)[1][0])
    settings = load(models=replicated(2, gpus=[0]))
    assert "2 engines of 1 GPUs each take 2, but there are 1" in str(expand_replicas(settings)[1][0])
    named = expand_replicas(load(models=replicated(2, gpus=[4, 2])))[0]
    assert [model.gpus for model in named.models][:2] == [("4",), ("2",)]


def test_on_a_cpu_there_are_simply_more_of_them() -> None:
    asked, wrong = expand_replicas(load("OFFLINE_KIT_DEVICE=cpu\n", models=replicated(3)))
    assert not wrong and place(asked)[0].order == (("chat", "chat-2", "chat-3", "small"),)


def test_a_name_that_two_engines_would_have() -> None:
    models = {"chat": entry(replicas=2), "chat-2": entry(name="other", port=8002)}
    assert "models.chat-2: is also the name of an engine of 'chat'" in mistakes(models=models)
    assert "replicas: 0 is not usable" in mistakes(models={"chat": entry(replicas=0)})


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b'{"model": "a"}', "a"),
        (b'{"messages": [{"content": "x"}], "model":"a"}', "a"),
        (b'{\n "model"\t:\r\n "a" }', "a"),
        (b'{"model": "a", "model": "b"}', "b"),
        (b'{"x": "\\"model\\": \\"b\\"", "model": "a"}', "a"),
        (b'{"x": "ends with a backslash \\\\", "model": "a"}', "a"),
        (b'{"x": {"model": "b"}, "y": [{"model": "c"}]}', None),
        (b'[{"model": "a"}]', None),
        (b'{"m\\u006fdel": "\\u00e4"}', "\u00e4"),
        ('{"model": "\u6a21\u578b"}'.encode(), "\u6a21\u578b"),
        (b'{"model": null}', None),
        (b'{"model": 7, "x": "y"}', None),
        (b'{"model": "a", "model": {"x": 1}}', None),
        (b'{"model"}', None),
        (b'{"model": "never ends', None),
        (b'{"x": "model"}', None),
        (b"", None),
        (b"garbage }]}", None),
        (b'{"model": "' + b"x" * 5000 + b'"}', None),
    ],
)
def test_the_name_in_a_request(body: bytes, name: str | None) -> None:
    assert model_of(body) == name


def test_the_name_is_found_behind_large_content() -> None:
    large = json.dumps({"messages": [{"content": '{"model": "x"} \\ ' * 200_000}], "model": "a"}).encode()
    assert model_of(large) == json.loads(large)["model"]


def test_who_answers_which_path() -> None:
    models = {"a": entry(name="one"), "b": entry(name="two", port=8002), "e": entry(name="vec", type="embedding", port=8003)}
    settings = load(models=models)
    assert needs_router(settings) and not needs_router(load())
    assert {path: model.key for path, model in routes(settings).items()}["/v1/completions"] == "a"
    assert decide(settings, "/v1/completions", b'{"model": "two"}') == ("engine-b", "")
    assert decide(settings, "/v1/completions", b"{}") == ("engine-a", "")
    assert decide(settings, "/v1/completions", b'{"model": "vec"}')[0] is None
    assert decide(settings, "/metrics", b"{}") == (None, "there is nothing at this path")


def everything(kit: Path) -> None:
    """Switches all on in the kit of the tests of apply."""
    (kit / "deploy/kit.env").write_text((kit / "deploy/kit.env").read_text() + FACTS)
    (kit / ".env").write_text(f"{ENV}OFFLINE_KIT_WITH=monitoring,nginx\nGRAFANA_ADMIN_PASSWORD=very-secret-word\n")
    (kit / "config/monitoring/rules").mkdir(parents=True)
    (kit / "config/monitoring/rules/alerts.yml").write_text("groups: []\n")


def certificate(kit: Path, name: str = "a") -> None:
    folder = kit / ".state/tls"
    folder.mkdir(parents=True, exist_ok=True)
    where = ["-keyout", str(folder / "server.key"), "-out", str(folder / "server.crt"), "-subj", f"/CN={name}"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3", *where]
    subprocess.run(command, check=True, capture_output=True)


def test_apply_with_everything_on(kit: Path) -> None:
    everything(kit)
    certificate(kit)
    write_models(kit, {**models_of(kit), "chat": {**models_of(kit)["chat"], "replicas": 2}})
    done = run(kit)
    assert (done.returncode, done.stderr) == (0, "")
    services = compose(kit)
    assert set(services) == {
        *("engine-chat", "engine-chat-2", "engine-embedding", "engine-rerank", "gateway"),
        *("prometheus", "grafana", "node-exporter"),
    }
    order = (kit / ".state/start-order").read_text().splitlines()
    assert order[-2:] == ["gateway", "node-exporter,prometheus,grafana"]
    assert services["engine-chat-2"]["entrypoint"][-1] == "chat"
    assert services["engine-chat-2"]["volumes"][-1]["source"] == "./.state/cache/chat-2"
    assert services["gateway"]["ports"][-2:] == ["0.0.0.0:80:8000", "0.0.0.0:443:8443"]
    assert services["prometheus"]["ports"] == ["127.0.0.1:9090:9090"]
    asked = yaml.safe_load((kit / ".state/monitoring/prometheus/prometheus.yml").read_text())
    targets = [target for job in asked["scrape_configs"] for config in job["static_configs"] for target in config["targets"]]
    assert "engine-chat-2:8000" in targets and "nginx-exporter:9113" not in targets
    for secret in (".state/gateway/tls/server.key", ".state/monitoring/grafana/password", ".state/gateway/keys.conf"):
        assert (kit / secret).stat().st_mode & 0o777 == 0o600, secret
    for path in (".state/compose.yaml", ".state/gateway/nginx.conf", ".state/monitoring/prometheus/prometheus.yml"):
        assert "very-secret-word" not in (kit / path).read_text() and KEY not in (kit / path).read_text()
    assert "not_after_seconds 1" in (kit / ".state/gateway/metrics.prom").read_text()
    assert run(kit).stdout == ""
    (kit / "config/monitoring/rules/alerts.yml").write_text("groups: []  # edited\n")
    before = compose(kit)
    assert run(kit).stdout == ".state/compose.yaml changed\n"
    assert {name for name, service in compose(kit).items() if service != before[name]} == {"prometheus", "grafana"}


def test_what_was_on_and_is_off_leaves_no_secret(kit: Path) -> None:
    everything(kit)
    certificate(kit)
    run(kit)
    (kit / ".env").write_text(ENV)
    assert run(kit).returncode == 0
    assert not [
        path for path in (".state/gateway/tls/server.key", ".state/monitoring/grafana/password") if (kit / path).exists()
    ]
    assert (kit / ".state/tls/server.key").exists(), "that one is the operator's"
    started = {name for name, service in compose(kit).items() if "profiles" not in service}
    assert started == {"engine-chat", "engine-embedding", "engine-rerank", "gateway"}


def test_certificates_that_cannot_be_read(kit: Path) -> None:
    everything(kit)
    certificate(kit)
    (kit / ".state/tls/server.crt").write_text("nothing\n")
    done = run(kit)
    assert done.returncode == 3 and ".state/tls/server.crt: is no certificate that can be read" in done.stderr
    (kit / ".state/tls/server.crt").unlink()
    done = run(kit)
    assert done.returncode == 3 and ".state/tls/server.crt: is missing -> put it beside server.key" in done.stderr
    (kit / ".state/tls/server.key").unlink()
    assert run(kit).returncode == 0
    assert compose(kit)["gateway"]["ports"][-1] == "0.0.0.0:80:8000"


def test_what_is_not_encrypted_is_for_this_host_alone(kit: Path) -> None:
    everything(kit)
    (kit / ".env").write_text((kit / ".env").read_text() + "OFFLINE_KIT_TLS_ONLY=yes\nOFFLINE_KIT_BIND=10.1.2.3\n")
    done = run(kit)
    assert done.returncode == 3 and "OFFLINE_KIT_TLS_ONLY: there is no certificate in .state/tls" in done.stderr
    certificate(kit)
    assert run(kit).returncode == 0
    ports = [port for service in compose(kit).values() for port in service.get("ports", ())]
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == ["10.1.2.3:443:8443"] and len(ports) == 8


def test_rules_that_are_gone(kit: Path) -> None:
    everything(kit)
    (kit / "config/monitoring/rules/alerts.yml").unlink()
    (kit / "config/monitoring/rules").rmdir()
    done = run(kit)
    assert done.returncode == 3 and "config/monitoring/rules: is missing" in done.stderr
