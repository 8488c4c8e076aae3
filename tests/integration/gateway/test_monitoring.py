"""What watches the services, and what it sees: real vLLM, nginx, Prometheus and exporters; two engines of one model."""

from __future__ import annotations

import json
import re
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from offline_kit.runtime.render import gateway
from tests.support.running_kit import GPU_PAGE, KEY, PORTS, RunningKit, chat, tag
from tests.testbed.cache import REPOSITORY
from tests.testbed.dockerd import Dockerd
from tests.testbed.fixtures import Testbed

MONITORING = REPOSITORY / "config/monitoring"
PROMETHEUS = f"http://localhost:{PORTS['prometheus']}/api/v1"
COMPARISON = re.compile(r"\s(<|>)\s*[-0-9.]+$")


def alerts() -> dict[str, str]:
    """Name -> expression of each rule."""
    text = (MONITORING / "rules/alerts.yml").read_text()
    return {rule["alert"]: rule["expr"] for group in yaml.safe_load(text)["groups"] for rule in group["rules"]}


def panels() -> list[tuple[str, str]]:
    """(board and title, expression) of each query of each panel and variable."""
    found = []
    for path in sorted((MONITORING / "grafana/boards").glob("*.json")):
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            found += [(f"{path.stem}: {panel['title']}", target["expr"]) for target in panel["targets"]]
        for variable in board["templating"]["list"]:
            query = re.fullmatch(r"label_values\((.*), \w+\)", variable["query"]["query"])
            assert query
            found.append((f"{path.stem}: ${variable['name']}", query.group(1)))
    return found


def plain(expression: str) -> str:
    """As Grafana sends it, with all engines chosen."""
    return expression.replace("$__rate_interval", "1m").replace("$service", ".*")


@pytest.fixture(scope="module")
def kit(testbed: Testbed, airgap: Dockerd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningKit]:
    """Everything runs and was asked some questions."""
    running = RunningKit(tmp_path_factory.mktemp("watched") / "kit", testbed, airgap)
    running.load()
    running.apply()
    asked = running.folder / ".state/monitoring/prometheus/prometheus.yml"
    settings = yaml.safe_load(asked.read_text())
    settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    settings["scrape_configs"].append({"job_name": "gpu", "static_configs": [{"targets": ["dcgm-exporter:9400"]}]})
    asked.write_text(yaml.safe_dump(settings))
    try:
        running.up()
        running.attest("finding FAIL files 'changed: install.sh' 'unpack it again'")
        page = ["-v", f"{GPU_PAGE}:/www/metrics:ro", "--name", "gpu-page", "--network-alias", "dcgm-exporter"]
        serve = ["--entrypoint", "python3", tag("engine"), "-m", "http.server", "9400", "--directory", "/www"]
        airgap.docker("run", "-d", "--pull", "never", "--network", f"{running.name}_internal", *page, *serve)
        for _ in range(3):
            assert [status for status, _, _ in running.ask(*[chat()] * 4, chat("other-chat"))] == [200] * 5
            time.sleep(1.5)
        yield running
    finally:
        airgap.run(["docker", "rm", "--force", "gpu-page"])
        running.down()


def query(kit: RunningKit, *expressions: str) -> list[list[dict[str, Any]]]:
    """The series of each expression."""
    urls = [(f"{PROMETHEUS}/query?{urllib.parse.urlencode({'query': text})}", None) for text in expressions]
    results = []
    for expression, (status, _, text) in zip(expressions, kit.ask(*urls), strict=True):
        assert status == 200, f"{expression}: {text}"
        results.append(json.loads(text)["data"]["result"])
    return results


def test_everything_that_is_watched_answers(kit: RunningKit) -> None:
    (up,) = query(kit, "up")
    assert {(series["metric"]["job"], series["metric"].get("service")) for series in up} == {
        ("attest", "gateway"),
        ("engine", "engine-chat"),
        ("engine", "engine-chat-2"),
        ("engine", "engine-other"),
        ("gateway", "nginx-exporter"),
        ("gpu", None),
        ("host", "node-exporter"),
        ("kit", "gateway"),
        ("prometheus", "prometheus"),
    }
    assert {series["value"][1] for series in up} == {"1"}, up


def test_every_query_of_every_panel_finds_something(kit: RunningKit) -> None:
    wanted = panels()
    assert len(wanted) > 50
    found = query(kit, *(plain(expression) for _, expression in wanted))
    assert [name for (name, _), series in zip(wanted, found, strict=True) if not series] == []


def test_every_alert_looks_at_something_that_is_there(kit: RunningKit) -> None:
    """An alert that does not fire returns nothing, and neither would one with a misspelt name: so the value is asked for."""
    wanted = alerts()
    assert all(COMPARISON.search(expression) for expression in wanted.values())
    found = query(kit, *(COMPARISON.sub("", expression) for expression in wanted.values()))
    assert [name for name, series in zip(wanted, found, strict=True) if not series] == []


def test_prometheus_took_every_rule(kit: RunningKit) -> None:
    ((status, _, text),) = kit.ask((f"{PROMETHEUS}/rules", None))
    loaded = {rule["name"]: rule["health"] for group in json.loads(text)["data"]["groups"] for rule in group["rules"]}
    assert status == 200 and set(loaded) == set(alerts())
    assert set(loaded.values()) == {"ok"}, loaded


def test_the_certificate_that_ends_in_twenty_days_is_told_of(kit: RunningKit) -> None:
    (firing,) = query(kit, alerts()["CertificateNearItsEnd"])
    assert len(firing) == 1 and 19 < float(firing[0]["value"][1]) <= 20


def test_what_is_not_what_was_approved_is_told_of(kit: RunningKit) -> None:
    """By the kit's own Prometheus, with what ``deploy.sh attest`` wrote."""
    fired, old = query(kit, alerts()["NotApproved"], alerts()["AttestationOld"])
    assert [(series["metric"], series["value"][1]) for series in fired] == [({"kit": kit.name, "version": "v1"}, "0")]
    assert old == []
    kit.attest("")
    deadline = time.monotonic() + 20
    while query(kit, alerts()["NotApproved"]) != [[]] and time.monotonic() < deadline:
        time.sleep(0.2)
    assert query(kit, alerts()["NotApproved"], "offline_kit_approved == 1")[1]


def test_each_model_by_name_and_both_engines_of_one(kit: RunningKit) -> None:
    answers = kit.ask(*[chat() for _ in range(8)], chat("other-chat"), chat("nobody"))
    assert [status for status, _, _ in answers] == [200] * 9 + [404]
    assert json.loads(answers[8][2])["model"] == "other-chat"
    assert "'tiny-chat', 'other-chat'" in json.loads(answers[9][2])["error"]["message"]
    (served,) = query(kit, 'sum by (service) (vllm:request_success_total{model="tiny-chat"})')
    assert {series["metric"]["service"] for series in served if float(series["value"][1]) > 0} == {
        "engine-chat",
        "engine-chat-2",
    }


def test_ports_80_and_443_are_the_router(kit: RunningKit) -> None:
    body = chat()[1]
    questions = [("http://localhost/v1/chat/completions", body), ("https://localhost/v1/chat/completions", body)]
    questions += [
        ("https://localhost/health", None),
        ("http://localhost/metrics", None),
        ("https://localhost/stub_status", None),
    ]
    assert [status for status, _, _ in kit.ask(*questions)] == [200, 200, 200, 404, 404]


def test_metrics_are_published_nowhere(kit: RunningKit) -> None:
    published = (kit.folder / ".state/ports").read_text().split()[::2]
    assert str(gateway.METRICS) not in published
    assert kit.dockerd.docker("port", kit.container("prometheus")) == "9090/tcp -> 127.0.0.1:9090"
    for service in ("engine-chat", "nginx-exporter", "node-exporter"):
        assert kit.dockerd.docker("port", kit.container(service)) == ""
    refused = kit.ask(*((f"http://localhost:{port}{path}", None) for port in (8000, 8001, 80) for path in ("/metrics", "/kit")))
    assert {status for status, _, _ in refused} == {404}


def test_a_dead_engine_is_seen_and_its_twin_takes_over(kit: RunningKit) -> None:
    kit.dockerd.docker("kill", kit.container("engine-chat-2"))
    answers = kit.ask(*[chat() for _ in range(16)])
    assert [status for status, _, _ in answers] == [200] * 16
    deadline = time.monotonic() + 20
    while not (down := query(kit, alerts()["EngineDown"])[0]) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert [series["metric"]["service"] for series in down] == ["engine-chat-2"]
    kit.dockerd.docker("start", kit.container("engine-chat-2"))
    kit.wait("engine-chat-2")
    assert [status for status, _, _ in kit.ask(*[chat() for _ in range(16)])] == [200] * 16
    log = kit.compose("logs", "--no-log-prefix", "--since", "20s", "gateway")
    assert '"replica":"engine-chat-2"' in log
    assert KEY not in log


def test_a_second_apply_changes_only_what_the_test_changed(kit: RunningKit) -> None:
    path = kit.folder / ".state/monitoring/prometheus/prometheus.yml"
    mine = path.read_text()
    assert kit.apply() == [".state/monitoring/prometheus/prometheus.yml changed"]
    assert kit.apply() == []
    path.write_text(mine)


def test_a_named_key_comes_and_goes_by_a_reload(kit: RunningKit) -> None:
    named = "another-key-of-this-test-0123"
    keys = kit.folder / ".state/keys"
    keys.write_text(f"# from the operator\nteam-a {named}\n")
    assert ".state/gateway/keys.conf changed" in kit.apply()
    reload = ("exec", "-T", "gateway", "nginx", "-e", "stderr", "-c", "/etc/offline-kit/nginx.conf", "-s", "reload")
    kit.compose(*reload)
    listed = f"http://localhost:{PORTS['router']}/v1/models"
    for there, status in ((True, 200), (False, 401)):
        if not there:
            keys.unlink()
            kit.apply()
            kit.compose(*reload)
        deadline = time.monotonic() + 10
        while kit.ask((listed, None), key=named)[0][0] != status and time.monotonic() < deadline:
            time.sleep(0.2)
        assert kit.ask((listed, None), key=named)[0][0] == status
    assert '"key":"team-a"' in kit.compose("logs", "--no-log-prefix", "gateway")


def test_the_recorded_page_is_what_the_documentation_says(tmp_path: Path) -> None:
    names = {line.split(" ")[2] for line in GPU_PAGE.read_text().splitlines() if line.startswith("# TYPE")}
    used = {name for _, text in [*panels(), *alerts().items()] for name in re.findall(r"DCGM_\w+", text)}
    assert used <= names
