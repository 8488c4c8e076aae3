"""The generated parts of the Chinese manual: the same facts as in the English one, in Chinese words.

Rules: numbers, names and commands come from the same functions as in the English manual; a row without a translation stays
English rather than being left out; alerts are told in the words in which they are shown, which are English.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from offline_kit.host import watching

_SETTINGS = {
    "OFFLINE_KIT_KEY_LIMIT": "一个密钥可以同时运行的请求数；超过时返回 429",
    "OFFLINE_KIT_WITH": "`nginx`、`monitoring` 或两者（逗号分隔）：另外运行什么",
    "OFFLINE_KIT_HTTP_PORT": "启用 `nginx` 时：路由器，明文",
    "OFFLINE_KIT_HTTPS_PORT": "启用 `nginx` 且 `.state/tls/` 中有证书时：路由器，加密",
    "OFFLINE_KIT_MONITORING_BIND": "发布 Prometheus 所用的地址",
    "PROMETHEUS_PORT": "Prometheus 的端口",
    "GRAFANA_PORT": "Grafana 的端口",
    "GRAFANA_ADMIN_PASSWORD": "Grafana 用户 `admin` 的密码，首次启动时生效",
}
_NEEDS = (
    (
        r"^- Linux on (.*); Docker Engine 20\.10 or later.*",
        r"- \1 上的 Linux；Docker Engine 20.10 或更新版本，Compose 2.0 或更新版本；不需要 Python 和网络",
    ),
    (
        r"^- disk: (.*) for this folder \(images (.*), models (.*)\); beside it, where",
        r"- 磁盘：此文件夹 \1（镜像 \2，模型 \3）；此外 Docker 存放数据的",
    ),
    (r"^  Docker keeps its data, several times.*", "  位置需要数倍于镜像的空间，因为镜像在那里是解压存放的"),
    (
        r"^- the NVIDIA driver and the NVIDIA container toolkit.*",
        "- NVIDIA 驱动和 NVIDIA container toolkit，并已设置为 Docker 的运行时",
    ),
)


def needs(english: str) -> str:
    """The list of what a host needs."""
    for pattern, words in _NEEDS:
        english = re.sub(pattern, words, english, flags=re.M)
    return english


def ports(english: str) -> str:
    """Rows of published ports."""
    return re.sub(r"published port of (.*) \|", r"\1 发布的端口 |", english)


def settings(images: Collection[str]) -> str:
    """Rows of the table of .env for what can be switched on."""
    rows = []
    for row in watching.settings(images).splitlines():
        name = row.split("`")[1]
        head, _, meaning = row.removesuffix(" |").rpartition(" | ")
        rows.append(f"{head} | {_SETTINGS.get(name, meaning)} |")
    return "\n".join(rows).replace("| empty |", "| 空 |").replace("made by install.sh", "由 install.sh 生成")


def chapter(images: Collection[str]) -> str:
    """The chapter about monitoring."""
    if "prometheus" not in images:
        return "此包不含监控镜像；每个引擎在内部网络上应答 `/metrics`。"
    rows = "\n".join(f"| {name} | {meaning} | {action} |" for name, meaning, action in watching.alerts())
    grafana = (
        "\nGrafana 在 3000 端口显示仪表板（概览、引擎、GPU）：用户 `admin`，密码是 `.env` 中的 `GRAFANA_ADMIN_PASSWORD`。"
        "它只在首次启动时生效；之后请在 Grafana 中修改。"
        if "grafana" in images
        else ""
    )
    return f"""\
    ./install.sh --with monitoring      # 或在 .env 中设置 OFFLINE_KIT_WITH=monitoring，然后 scripts/deploy.sh restart

Prometheus 观察服务，数据保留 30 天（最多 10 GB），图表和告警见 <http://localhost:9090/alerts>。它不要求密码，只在回环地址发布，
除非 `OFFLINE_KIT_MONITORING_BIND` 另有规定。{grafana}

规则和仪表板由您修改：`config/monitoring/`，然后 `scripts/deploy.sh restart`。告警以其显示时的文字（英文）列出：

| 告警 | 含义 | 怎么办 |
| --- | --- | --- |
{rows}"""
