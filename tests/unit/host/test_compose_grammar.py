"""The host refuses a Compose file that this kit would not write: whatever is rendered is taken, and nothing beside it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from offline_kit.runtime.parsers import with_parsers
from offline_kit.runtime.render import compose
from offline_kit.runtime.settings import load, placement, replicas
from tests.testbed.cache import REPOSITORY
from tests.unit.host.compose_mutations import REFUSED, lines
from tests.unit.runtime.test_config import KEY, entry

LIB = REPOSITORY / "scripts/lib/services"
IMAGES = ("engine", "gateway", "prometheus", "grafana", "node-exporter", "nginx-exporter", "dcgm-exporter")
ALL = "OFFLINE_KIT_WITH=nginx,monitoring\nGRAFANA_ADMIN_PASSWORD=very-secret-word\n"
USER = "10001:10001"


def rendered(env: str = "", *, models: dict[str, Any] | None = None, **kit: Any) -> tuple[str, str]:
    """A Compose file, and the facts that the host knows of the same kit."""
    settings = load.load_settings(json.dumps({"models": models or {"chat": entry()}}), "", f"VLLM_API_KEY={KEY}\n{env}")
    settings = with_parsers(settings, kit.pop("parsers", {}))
    asked, _ = replicas.expand_replicas(settings)
    placed, _ = placement.place(asked)
    tags = {name: f"localhost/offline-kit/{name}:0123456789ab" for name in kit.pop("images", IMAGES)}
    made = compose.Kit("my-kit", "v1.0", tags, USER, **{"memory": "24064m", "certificate": True, **kit})
    facts = [f"kit {made.name}", f"version {made.version}", f"device {settings.device}", f"user {USER}"]
    facts += [f"image:{name} {tag}" for name, tag in tags.items()]
    for service in ("gateway", "prometheus", "grafana"):
        mine = [
            port for port, name in compose.published(settings, made).items() if name == service or _on_gateway(name, service)
        ]
        where = [
            (settings.monitoring.bind if service == "prometheus" and settings.monitoring else settings.address(port), port)
            for port in mine
        ]
        facts.append(f"ports:{service} " + " ".join(f"{f'[{host}]' if ':' in host else host}:{port}" for host, port in where))
    return compose.text(settings, placed, made), "\n".join(facts)


def _on_gateway(name: str, service: str) -> bool:
    return service == "gateway" and name.startswith("engine-")


def check(text: str | bytes, facts: str, folder: Path, *, awk: str = "", table: str = "") -> tuple[bool, str]:
    """What the host says of the file: whether it is taken, and the services in it, or the fault."""
    file = folder / "compose.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return ask(file, facts, awk=awk, table=table)


def ask(file: Path, facts: str, *, awk: str = "", table: str = "") -> tuple[bool, str]:
    script = """
        set -euo pipefail; export LC_ALL=C; . "$0/compose_grammar.sh"; COMPOSE_FACTS=$2; [[ -z "$3" ]] || COMPOSE_TABLE=$3
        [[ -z "$4" ]] || awk() { busybox awk "$@"; }
        if compose_check "$1"; then printf '+%s' "${COMPOSE_SERVICES[*]}"; else printf -- '-%s' "$REPLY"; fi"""
    command = ["bash", "-c", script, str(LIB), str(file), facts, table, awk]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout[0] == "+", done.stdout[1:]


SIX = {f"m{number}": entry(name=f"m{number}", port=9000 + number, gpu_memory_utilization=0.1) for number in range(6)}
MANY = {f"m{number}": entry(name=f"m{number}", port=9000 + number, gpus=[number]) for number in range(24)}
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "one model": ("", {}),
    "on a CPU": ("OFFLINE_KIT_DEVICE=cpu\n", {"models": SIX}),
    "three types": (
        "",
        {
            "models": {
                kind: entry(name=kind, type=kind, port=8001 + at, gpu_memory_utilization=0.2)
                for at, kind in enumerate(("chat", "embedding", "rerank"))
            }
        },
    ),
    "replicas": (
        "",
        {"models": {"chat": entry(replicas=3), "small_one": entry(name="s", port=8002, gpu_memory_utilization=0.1)}},
    ),
    "everything": (ALL, {"models": SIX}),
    "everything on a CPU": (f"{ALL}OFFLINE_KIT_DEVICE=cpu\n", {"models": {"chat": entry(replicas=2)}}),
    "no Grafana": (ALL, {"images": ("engine", "gateway", "prometheus")}),
    "no certificate": ("OFFLINE_KIT_WITH=nginx\n", {"certificate": False}),
    "other ports": (f"{ALL}OFFLINE_KIT_BIND=10.1.2.3\nOFFLINE_KIT_HTTP_PORT=8080\nGRAFANA_PORT=3001\nVLLM_CHAT_PORT=1\n", {}),
    "TLS only": (f"{ALL}OFFLINE_KIT_TLS_ONLY=yes\nOFFLINE_KIT_BIND=10.1.2.3\n", {}),
    "IPv6": (f"{ALL}OFFLINE_KIT_BIND=::1\nOFFLINE_KIT_MONITORING_BIND=fd00::1\n", {}),
    "wide engines": ("", {"models": {"chat": entry(tensor_parallel_size=2, memory_limit="1.5gb")}}),
    "GPUs by name": ("CUDA_VISIBLE_DEVICES=GPU-0a1b-2c,MIG-3d-4e\n", {"models": {"chat": entry(replicas=2)}}),
    "adapters": (
        "",
        {"models": {"chat": entry(engine_args={"enable_lora": True, "lora_modules": ["a=/models/a", "b=/models/b"]})}},
    ),
    "odd arguments": (
        "",
        {"models": {"chat": entry(name="org/Model-1.5B@v2:x", engine_args={"chat_template": '$HOME "\u00e4" \n: #'})}},
    ),
    "more models than networks": ("", {"models": MANY}),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_whatever_is_rendered_is_taken(name: str, tmp_path: Path) -> None:
    env, more = SETTINGS[name]
    text, facts = rendered(env, **more)
    fine, said = check(text, facts, tmp_path)
    assert fine, said
    assert said.split() == [name for name, service in yaml.safe_load(text)["services"].items() if "profiles" not in service]


def test_every_row_of_the_table_is_one_that_is_rendered(tmp_path: Path) -> None:
    """A row that nothing needs is a door: each is taken away, and something that is rendered must be refused then."""
    table = re.search(r"COMPOSE_TABLE='\n(.*?)'", (LIB / "compose_table.sh").read_text(), re.S)
    assert table
    rows = [row for row in table.group(1).splitlines() if row]
    # The whole table once with each awk, then without one row at a time the file that has most in it.
    wide = entry(name="w", port=9100, tensor_parallel_size=2, environment={"NCCL_DEBUG": "WARN"})
    parsers = {"chat": {"tool_call_parser": "qwen3_coder", "reasoning_parser": "qwen3"}}
    text, facts = rendered(ALL, models={**SIX, "wide": wide}, parsers=parsers)
    assert check(text, facts, tmp_path, table="\n".join(rows))[0]
    assert check(text, facts, tmp_path, awk="busybox")[0]
    files = [(text, facts), rendered()]  # in the second, all is off that can be

    def needed(row: str) -> bool:
        table = "\n".join(other for other in rows if other != row)
        return not all(check(*file, tmp_path, table=table)[0] for file in files)

    assert [row for row in rows if not needed(row)] == []


def test_what_is_off_can_be_nothing_that_runs(tmp_path: Path) -> None:
    """It has a profile, and a folder that no engine takes: whoever writes another is refused."""
    text, facts = rendered()
    assert check(text, facts, tmp_path)[0]
    for line in (
        '    profiles:\n      - "nginx"\n',
        '    working_dir: "nginx is switched off: run ./install.sh --with nginx"\n',
    ):
        assert text.count(line) == 1
        assert not check(text.replace(line, ""), facts, tmp_path)[0]
    assert not check(
        text.replace('    working_dir: "nginx is', '    command:\n      - "x"\n    working_dir: "nginx is'), facts, tmp_path
    )[0]
    assert not check(text.replace('"nginx is switched off: run ./install.sh --with nginx"', '"/"'), facts, tmp_path)[0]


@pytest.mark.parametrize("name", REFUSED)
def test_whatever_is_not_rendered_is_refused(name: str, tmp_path: Path) -> None:
    text, facts = rendered(ALL, models=SIX)
    changed = REFUSED[name](text)
    assert changed != text
    fine, said = check(changed, facts, tmp_path)
    assert not fine and said and len(said.splitlines()) == 1, said


def test_the_fault_is_told_with_its_line(tmp_path: Path) -> None:
    text, facts = rendered()
    changed = lines(text, '    restart: "unless-stopped"\n', "    privileged: true\n")
    number = changed.splitlines().index("    privileged: true") + 1
    said = check(changed, facts, tmp_path)[1]
    assert said == f"line {number}: engine-chat: privileged is not a key that this kit writes"


def test_what_is_no_file_of_its_own(tmp_path: Path) -> None:
    text, facts = rendered()
    check(text, facts, tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "compose.yaml")
    for place in ("link", "missing", "."):
        assert ask(tmp_path / place, facts) == (False, "it is no file of its own")


@pytest.mark.parametrize("line", [line for line in rendered(ALL, models=SIX)[0].splitlines()[2:140] if ":" in line])
def test_a_key_of_another_name_is_refused(line: str, tmp_path: Path) -> None:
    """Whatever the renderer gains must be named in the table before a kit takes it."""
    text, facts = rendered(ALL, models=SIX)
    key, _, value = line.partition(":")
    assert not check(lines(text, f"{line}\n", f"{key}x:{value}\n"), facts, tmp_path)[0]
