"""Variables of engines: which are given, which are refused by both readers, and how they reach the Compose file."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from offline_kit.runtime import merge_config
from offline_kit.runtime.kit import read
from offline_kit.runtime.render import compose
from offline_kit.runtime.settings import load, placement
from offline_kit.runtime.settings.environment import FAMILIES, REFUSED, refusal
from offline_kit.runtime.settings.model import ConfigError, Settings
from tests.testbed.cache import REPOSITORY
from tests.unit.host.test_compose_grammar import check, rendered
from tests.unit.runtime.test_config import KEY, entry

ROWS = (REPOSITORY / "tests/data/environment_names.tsv").read_text().splitlines()
NAMES = dict(line.split("\t") for line in ROWS if line[0] != "#")


def settings(common: str = "", **model: Any) -> Settings:
    return load.load_settings(json.dumps({"models": {"chat": entry(**model)}}), "", environment_yaml=common)


def mistakes(common: str = "", **model: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        settings(common, **model)
    return [str(mistake) for mistake in caught.value.mistakes]


def test_names_are_judged_by_this_table() -> None:
    assert {name: "refused" if refusal(name) else "given" for name in NAMES} == NAMES


@pytest.mark.parametrize("awk", ["awk", "busybox awk"])
def test_the_host_judges_names_alike(awk: str) -> None:
    program = '{ print $1 "\\t" ($1 ~ given && $1 !~ refused ? "given" : "refused") }'
    script = f""". "$0"; {awk} -v given="^($ENGINE_VARIABLES)$" -v refused="^($ENGINE_VARIABLES_REFUSED)$" '{program}'"""
    library = REPOSITORY / "scripts/lib/services/compose_table.sh"
    asked = "".join(f"{name}\n" for name in NAMES)
    done = subprocess.run(["bash", "-c", script, str(library)], input=asked, capture_output=True, text=True, check=True)
    assert dict(line.split("\t") for line in done.stdout.splitlines()) == NAMES


def test_the_expressions_stand_in_both() -> None:
    library = (REPOSITORY / "scripts/lib/services/compose_table.sh").read_text()
    assert f"ENGINE_VARIABLES='{FAMILIES}'" in library and f"ENGINE_VARIABLES_REFUSED='{REFUSED}'" in library


def test_a_model_wins_over_all_engines() -> None:
    made = settings('NCCL_DEBUG: "INFO"\nOMP_NUM_THREADS: 4\n', environment={"NCCL_DEBUG": "WARN"})
    placed, _ = placement.place(made)
    text = compose.text(made, placed, compose.Kit("k", "v1", {"engine": "e:1", "gateway": "g:1"}))
    found = yaml.safe_load(text)["services"]["engine-chat"]["environment"]
    assert found == {
        "PYTHONPATH": "/opt/offline-kit",
        "OFFLINE_KIT_DEVICE": "nvidia",
        "NCCL_DEBUG": "WARN",
        "OMP_NUM_THREADS": "4",
    }


VALUES = ["", "0", "a b", "eth0,eth1", "^docker0", "x=y;z", "it's", "[1]{2}", "#", "~", "x" * 1024]


@pytest.mark.parametrize("value", VALUES)
def test_the_host_takes_what_is_rendered(value: str, tmp_path: Path) -> None:
    text, facts = rendered(models={"chat": entry(environment={"NCCL_SOCKET_IFNAME": value})})
    assert check(text, facts, tmp_path) == (True, "engine-chat gateway")


@pytest.mark.parametrize("name", [name for name, said in NAMES.items() if said == "refused"])
def test_the_host_refuses_what_is_not(name: str, tmp_path: Path) -> None:
    text, facts = rendered(models={"chat": entry(environment={"NCCL_DEBUG": "1"})})
    assert text.count("NCCL_DEBUG: ") == 1
    fine, said = check(text.replace("NCCL_DEBUG: ", f"{name}: "), facts, tmp_path)
    assert not fine and len(said.splitlines()) == 1


def test_only_engines_are_given_variables(tmp_path: Path) -> None:
    text, facts = rendered()
    line = '    working_dir: "/"\n'
    changed = text.replace(
        '    stop_signal: "SIGQUIT"\n', '    stop_signal: "SIGQUIT"\n    environment:\n      NCCL_DEBUG: "1"\n'
    )
    assert line in text and changed != text
    assert check(changed, facts, tmp_path) == (
        False,
        next(f"line {at}: gateway: environment/NCCL_DEBUG is not a key that this kit writes"
             for at, found in enumerate(changed.splitlines(), 1) if "NCCL_DEBUG" in found),
    )  # fmt: skip


@pytest.mark.parametrize(
    "value", ['a"b', "a$b", "a\\b", "a\nb", "\u00e4", "\x01", "x" * 1025, True, None, 1.5, ["a"], {"a": 1}]
)
def test_values_that_no_line_can_hold(value: Any) -> None:
    (said,) = mistakes(environment={"NCCL_DEBUG": value})
    assert said.startswith("config/models.json: models.chat.environment.NCCL_DEBUG: ") and said.count("\n") == 0
    assert said.endswith('-> write one line of plain characters in quotes, without " $ \\')


def test_what_is_wrong_is_told_in_one_line_each() -> None:
    found = mistakes(
        "HF_HUB_OFFLINE: 0\nNCCL_DEBUG: 1\nNCCL_DEBUG: 2\nFOO: 1\n",
        environment={"LD_PRELOAD": "/x.so", "HTTPS_PROXY": "http://p"},
    )
    where = "config/environment.yaml: "
    assert found[:2] == [
        "config/models.json: models.chat.environment.LD_PRELOAD: cannot be set here: it would load other code than was carried"
        " -> take it out",
        "config/models.json: models.chat.environment.HTTPS_PROXY: cannot be set here: engines reach no network -> take it out",
    ]
    assert f"{where}HF_HUB_OFFLINE: cannot be set here: the kit sets it: engines reach no network -> take it out" in found
    assert "config/environment.yaml, line 3: NCCL_DEBUG: is given twice -> keep one of them" in found
    assert [
        line for line in found if line.startswith(f"{where}FOO: cannot be set here: is not one that engines read -> known are")
    ]
    assert mistakes("- a\n") == [f"{where}not a mapping of variables -> write one 'NAME: value' a line"]
    assert mistakes("a: [\n")[0].startswith("config/environment.yaml, line ")
    assert "is not usable -> give an object of variables" in mistakes(environment=["A=1"])[0]
    assert "more than 100" in mistakes(environment={f"NCCL_{n}": "1" for n in range(101)})[0]


def test_a_kit_may_have_the_file_or_not(tmp_path: Path) -> None:
    for folder in ("config", "deploy", "models/chat"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "config/models.json").write_text(json.dumps({"models": {"chat": entry()}}))
    (tmp_path / "config/vllm_config.yaml").write_text("")
    (tmp_path / "deploy/kit.env").write_text("KIT_ACCELERATOR=cpu\n")
    (tmp_path / ".env").write_text(f"VLLM_API_KEY={KEY}\n")
    assert read(tmp_path)[0].environment == {}
    (tmp_path / "config/environment.yaml").write_text((REPOSITORY / "config/environment.yaml").read_text())
    assert read(tmp_path)[0].environment == {}
    (tmp_path / "config/environment.yaml").write_text('VLLM_LOGGING_LEVEL: "DEBUG"\n')
    assert read(tmp_path)[0].environment == {"VLLM_LOGGING_LEVEL": "DEBUG"}


def test_an_upgrade_keeps_them() -> None:
    orig, new = b"# none\n", b'NCCL_DEBUG: "WARN"\n'
    content, conflicts = merge_config.carry("environment.yaml", orig, b'OMP_NUM_THREADS: "2"\n', new)
    assert content is not None and yaml.safe_load(content) == {"NCCL_DEBUG": "WARN", "OMP_NUM_THREADS": "2"} and not conflicts
    before, after = ({"models": {"chat": entry(max_model_len=length)}} for length in (128, 256))
    mine = {"models": {"chat": entry(environment={"NCCL_DEBUG": "INFO"})}}
    carried, conflicts = merge_config.carry("models.json", *(json.dumps(side).encode() for side in (before, mine, after)))
    assert carried is not None and not conflicts
    assert json.loads(carried)["models"]["chat"] == entry(max_model_len=256, environment={"NCCL_DEBUG": "INFO"})
