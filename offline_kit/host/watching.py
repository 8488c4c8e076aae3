"""The chapter of a bundle's manual about monitoring, and its settings: from the rules and the images that the bundle carries.

Rules: what is not carried is not told of; each alert is explained by its own annotations, so that manual and alert cannot
differ.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import yaml

from offline_kit.host import assets

RULES = "config/monitoring/rules/alerts.yml"
_WATCHED = {
    "node-exporter": "the host",
    "nginx-exporter": "the gateway",
    "dcgm-exporter": "the GPUs",
}


def chapter(images: Collection[str]) -> str:
    """The text of the chapter; a sentence where the bundle carries no Prometheus."""
    if "prometheus" not in images:
        return "This bundle carries no images for monitoring; each engine answers `/metrics` on the internal network."
    watched = ", ".join(["every engine", *(what for name, what in _WATCHED.items() if name in images)])
    rows = "\n".join(f"| {name} | {meaning} | {action} |" for name, meaning, action in alerts())
    grafana = (
        "\nGrafana shows dashboards (overview, engine, GPU) on port 3000: user `admin`, the password is "
        "`GRAFANA_ADMIN_PASSWORD` in `.env`. It counts at the first start only; later change it in Grafana."
        if "grafana" in images
        else ""
    )
    return f"""\
    ./install.sh --with monitoring      # or OFFLINE_KIT_WITH=monitoring in .env, then scripts/deploy.sh restart

Prometheus watches {watched}, keeps 30 days (10 GB at most) and shows graphs and alerts at <http://localhost:9090/alerts>.
It asks for no password and is published on the loopback only, unless `OFFLINE_KIT_MONITORING_BIND` says otherwise.{grafana}

Rules and dashboards are yours to change: `config/monitoring/`, then `scripts/deploy.sh restart`.

| alert | what it means | what to do |
| --- | --- | --- |
{rows}"""


def settings(images: Collection[str]) -> str:
    """Rows of the table of .env for what can be switched on."""
    rows = [
        ("OFFLINE_KIT_KEY_LIMIT", "512", "requests that one key may have running at once; more get 429"),
        ("OFFLINE_KIT_WITH", "empty", "`nginx`, `monitoring` or both with a comma between: what runs besides"),
        ("OFFLINE_KIT_HTTP_PORT", "80", "with `nginx`: the router, plain"),
        ("OFFLINE_KIT_HTTPS_PORT", "443", "with `nginx` and a certificate in `.state/tls/`: the router, encrypted"),
    ]
    if "prometheus" in images:
        rows.append(("OFFLINE_KIT_MONITORING_BIND", "127.0.0.1", "address that Prometheus is published on"))
        rows.append(("PROMETHEUS_PORT", "9090", "port of Prometheus"))
    if "grafana" in images:
        rows.append(("GRAFANA_PORT", "3000", "port of Grafana"))
        rows.append(("GRAFANA_ADMIN_PASSWORD", "made by install.sh", "of Grafana's user `admin`, at its first start"))
    return "\n".join(f"| `{name}` | {value} | {meaning} |" for name, value, meaning in rows)


def alerts() -> list[tuple[str, str, str]]:
    """(name, what it means, what to do) of every rule that a bundle carries. Raises DiskError."""
    groups = yaml.safe_load(assets.monitoring()[RULES])["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    return [(rule["alert"], *(_words(rule["annotations"][part]) for part in ("summary", "action"))) for rule in rules]


def _words(text: str) -> str:
    # {{ $labels.service }} is a name that only a firing alert has.
    text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda match: match.group(1).upper(), text)
    return re.sub(r"\{\{ \$value[^}]*\}\}", "N", text).replace("|", "\\|")
