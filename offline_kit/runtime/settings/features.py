"""What .env may switch on beside engines and gateway: OFFLINE_KIT_WITH=nginx,monitoring, and the settings of each.

Rules: what is off is not checked, so that a setting may wait in .env; what is on needs its image in the kit; Prometheus asks
nobody for a password, so it is published on the loopback unless .env says otherwise.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Collection, Dict, List, Mapping, Optional, Tuple

from .model import DOTENV, Mistake, Monitoring, Web

WITH = "OFFLINE_KIT_WITH"
TLS_ONLY = "OFFLINE_KIT_TLS_ONLY"
PAGE = "OFFLINE_KIT_PAGE"
KNOWN = ("monitoring", "nginx")
VARIABLES = (
    WITH,
    "OFFLINE_KIT_KEY_LIMIT",
    PAGE,
    "OFFLINE_KIT_HTTP_PORT",
    "OFFLINE_KIT_HTTPS_PORT",
    TLS_ONLY,
    "OFFLINE_KIT_MONITORING_BIND",
    "PROMETHEUS_PORT",
    "GRAFANA_PORT",
    "GRAFANA_ADMIN_PASSWORD",
)
_PASSWORD = re.compile(r"[!-~]{8,128}")


def wanted(env: Mapping[str, str]) -> Tuple[str, ...]:
    """The words of OFFLINE_KIT_WITH."""
    return tuple(word.strip() for word in env.get(WITH, "").split(",") if word.strip())


def number(env: Mapping[str, str], variable: str, default: int, least: int, most: int, mistakes: List[Mistake]) -> int:
    """The number in ``variable``; ``default`` where it is empty or wrong."""
    text = env.get(variable, "")
    if not text:
        return default
    if re.fullmatch(r"[0-9]{1,9}", text) and least <= int(text) <= most:
        return int(text)
    kind = "a port" if most == 65535 else "a number that fits"
    mistakes.append(Mistake(DOTENV, variable, f"'{text}' is not {kind}", f"use a number from {least} to {most}"))
    return default


def web(env: Mapping[str, str], mistakes: List[Mistake]) -> Optional[Web]:
    """Ports 80 and 443, when ``nginx`` is wanted."""
    for word in wanted(env):
        if word not in KNOWN:
            mistakes.append(Mistake(DOTENV, WITH, f"'{word}' is not known", f"use words of {', '.join(KNOWN)}"))
    only = env.get(TLS_ONLY, "")
    if only not in ("", "no", "yes"):
        mistakes.append(Mistake(DOTENV, TLS_ONLY, f"'{only}' is not known", "use yes or no"))
    if "nginx" not in wanted(env):
        if only == "yes":
            mistakes.append(Mistake(DOTENV, TLS_ONLY, "nothing is encrypted without nginx", f"add nginx to {WITH}"))
        return None
    ports = [("OFFLINE_KIT_HTTP_PORT", 80), ("OFFLINE_KIT_HTTPS_PORT", 443)]
    http, https = (number(env, variable, default, 1, 65535, mistakes) for variable, default in ports)
    return Web(http, https, only == "yes")


def page(env: Mapping[str, str], mistakes: List[Mistake]) -> bool:
    """Whether the gateway has a page at /: yes where nothing is said."""
    text = env.get(PAGE, "")
    if text not in ("", "no", "yes"):
        mistakes.append(Mistake(DOTENV, PAGE, f"'{text}' is not known", "use yes or no"))
    return text != "no"


def monitoring(
    env: Mapping[str, str], images: Optional[Collection[str]], need_secrets: bool, mistakes: List[Mistake]
) -> Optional[Monitoring]:
    """Prometheus and Grafana, when ``monitoring`` is wanted. ``images``: what the kit carries (None: not checked)."""
    if "monitoring" not in wanted(env):
        return None
    if images is not None and "prometheus" not in images:
        what = "'monitoring' needs the image 'prometheus', which this kit does not carry"
        mistakes.append(Mistake(DOTENV, WITH, what, "take the word out, or build a bundle with that image"))
    password = env.get("GRAFANA_ADMIN_PASSWORD", "")
    if need_secrets and not _PASSWORD.fullmatch(password) and (images is None or "grafana" in images):
        what = "is empty" if not password else "is too short, too long or has other characters"
        remedy = "run install.sh, which makes one, or write 8 to 128 characters without spaces"
        mistakes.append(Mistake(DOTENV, "GRAFANA_ADMIN_PASSWORD", what, remedy))
    bind = env.get("OFFLINE_KIT_MONITORING_BIND") or Monitoring.bind
    try:
        ipaddress.ip_address(bind)
    except ValueError:
        what = f"'{bind}' is not an IP address"
        mistakes.append(Mistake(DOTENV, "OFFLINE_KIT_MONITORING_BIND", what, "use 127.0.0.1, or an address of this host"))
    ports = [("PROMETHEUS_PORT", Monitoring.prometheus_port), ("GRAFANA_PORT", Monitoring.grafana_port)]
    prometheus, grafana = (number(env, variable, default, 1, 65535, mistakes) for variable, default in ports)
    return Monitoring(prometheus, grafana, bind, password)


def ports(web: Optional[Web], monitoring: Optional[Monitoring], mistakes: List[Mistake]) -> Dict[int, str]:
    """Port -> who takes it, of all that is switched on; a port taken twice among these is a mistake."""
    taken: Dict[int, str] = {}
    chosen = [(web.http_port, "OFFLINE_KIT_HTTP_PORT"), (web.https_port, "OFFLINE_KIT_HTTPS_PORT")] if web else []
    if monitoring:
        chosen += [(monitoring.prometheus_port, "PROMETHEUS_PORT"), (monitoring.grafana_port, "GRAFANA_PORT")]
    for port, variable in chosen:
        if taken.setdefault(port, variable) != variable:
            what = f"{port} is already used by {taken[port]}"
            mistakes.append(Mistake(DOTENV, variable, what, "use another"))
    return taken
