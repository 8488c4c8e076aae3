"""``offline-kit init``: what it writes is accepted by the program at once, and nothing is overwritten."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from offline_kit.cli.main import cli
from offline_kit.cli.start.documents import ENGINE_YAML
from offline_kit.cli.start.propose import propose
from offline_kit.cli.start.wanted import distinct, guess_type, parse_wanted
from offline_kit.cli.start.write_project import write_project
from offline_kit.common.errors import DiskError, SpecError
from offline_kit.project import open_project
from offline_kit.spec.lock_facts import ModelFacts
from tests.support.plan_samples import CHAT as CHAT_FIXTURE
from tests.support.plan_samples import cards, record
from tests.unit.start.model_folders import CHAT, ENCODER, make_model_folder


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    make_model_folder(tmp_path / "models/My Chat", CHAT, 4 << 30)
    make_model_folder(tmp_path / "models/mini-embed", ENCODER, 90 << 20)
    return tmp_path / "models"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def init(folder: Path, *arguments: object) -> Result:
    return run("init", folder, *arguments, "--non-interactive", "--store", folder.parent / "store")


def test_what_it_writes_is_a_project_that_starts(folders: Path, tmp_path: Path) -> None:
    done = init(tmp_path / "site", "--model", folders / "My Chat", "--model", folders / "mini-embed", "--gpus", "1x24GiB")
    assert done.exit_code == 0, done.output
    manifest = tmp_path / "site/manifests/site.yaml"
    project = open_project(manifest)
    assert set(project.manifest.models) == {"my-chat", "mini-embed"}
    assert {model.key: model.type for model in project.services.settings.models} == {
        "my-chat": "chat",
        "mini-embed": "embedding",
    }
    assert project.services.settings.model("mini-embed").max_model_len == 512
    planned = run("plan", manifest, "--store", tmp_path / "store")
    assert (planned.exit_code, planned.output.splitlines()[-1]) == (0, "starts")


def test_it_overwrites_nothing_and_writes_nothing_where_it_refuses(folders: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "config").mkdir(parents=True)
    (site / "config/models.json").write_text("mine")
    done = init(site, "--model", folders / "mini-embed", "--gpus", "L4")
    assert isinstance(done.exception, DiskError) and "models.json: there already, and not overwritten" in str(done.exception)
    assert [path.name for path in site.rglob("*") if path.is_file()] == ["models.json"]
    small = init(tmp_path / "small", "--model", folders / "My Chat", "--gpus", "1x3GiB")
    assert isinstance(small.exception, SpecError) and "these models do not start on these GPUs" in str(small.exception)
    assert not (tmp_path / "small").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name the models: --model OWNER/NAME or a folder"),
        (["--model", "acme/one"], "name the GPUs of the host: --gpus 2x48GiB"),
        (["--model", "nothing", "--gpus", "L4"], "'nothing' is neither a folder nor a repository: a folder, OWNER/NAME"),
        (["--model", "./nothing/here", "--gpus", "L4"], "'./nothing/here': no such folder"),
        (["--model", "acme/one", "--gpus", "cpu"], "--gpus cpu needs --engine"),
        (["--model", "acme/one", "--gpus", "L4", "--name", "My Kit"], "'My Kit': lower case, digits, . _ -"),
    ],
)
def test_what_is_missing_or_wrong_is_told(arguments: list[str], words: str, tmp_path: Path) -> None:
    done = init(tmp_path / "site", *arguments)
    assert done.exit_code == 2 and words in done.output
    assert not (tmp_path / "site").exists()


def test_on_a_cpu(folders: Path, tmp_path: Path) -> None:
    done = init(
        tmp_path / "site", "--embedding", f"e={folders / 'mini-embed'}", "--gpus", "cpu", "--engine", "reg.example/cpu:v1"
    )
    assert done.exit_code == 0, done.output
    project = open_project(tmp_path / "site/manifests/site.yaml")
    assert (project.manifest.accelerator, project.manifest.target) == ("cpu", None)
    assert project.manifest.images["engine"].source == "docker://reg.example/cpu:v1"


def test_the_example_is_the_shipped_one_and_keeps_what_is_there(tmp_path: Path) -> None:
    assert run("init", tmp_path, "--example").exit_code == 0
    assert open_project(tmp_path / "manifests/knowflow.yaml").manifest.name == "knowflow-offline"
    assert "kept" in run("init", tmp_path, "--example").output


@pytest.mark.parametrize(("gpus", "size"), [("1x96GiB", 1), ("2x48GiB", 2), ("NVIDIA L40S:4", 2), ("8x24GiB", 4)])
def test_a_large_model_gets_as_many_gpus_as_it_needs(gpus: str, size: int) -> None:
    models = distinct([parse_wanted(f"chat=acme/{CHAT_FIXTURE}", "chat")])
    known = {name: value for name, value in record(CHAT_FIXTURE).items() if name in ModelFacts.model_fields}
    facts = {"chat": ModelFacts.model_validate(known)}
    entries, verdict = propose(models, facts, cards(gpus), ENGINE_YAML.encode(), "nvidia")
    assert (entries["chat"]["tensor_parallel_size"], verdict.outcome) == (size, "starts")


def test_names_become_sources_keys_and_types(folders: Path) -> None:
    one, two, three = distinct(
        [parse_wanted("BAAI/bge-m3"), parse_wanted("other/bge-m3"), parse_wanted("x=modelscope://BAAI/bge-reranker-v2-m3")]
    )
    assert (one.key, one.source, guess_type(one, None)) == ("bge-m3", "hf://BAAI/bge-m3", "embedding")
    assert (two.key, two.name) == ("bge-m3-2", "bge-m3-2")
    assert (three.key, three.source, guess_type(three, None)) == ("x", "modelscope://BAAI/bge-reranker-v2-m3", "rerank")
    assert parse_wanted(str(folders / "My Chat")).source == f"dir://{folders / 'My Chat'}"
    with pytest.raises(click.BadParameter):
        parse_wanted("Foo Bar")


def test_it_asks_on_a_terminal(folders: Path, tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    command = [*map(str, (Path(sys.executable).with_name("offline-kit"), "init", tmp_path / "site", "--store", tmp_path))]
    with subprocess.Popen(command, stdin=follower, stdout=subprocess.PIPE, stderr=follower) as process:
        os.write(leader, f"{folders / 'mini-embed'}\nembedding\n\nL4\nasked\n".encode())
        assert process.stdout and b"asked.yaml" in process.stdout.read()
        os.close(follower)
        os.close(leader)
    assert process.returncode == 0
    entries = json.loads((tmp_path / "site/config/models.json").read_text())["models"]
    assert entries["mini-embed"]["type"] == "embedding"


def test_the_manifest_is_found_from_a_subfolder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests/one.yaml").write_text("nmae: x\n")
    (tmp_path / "deep/er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep/er")
    for command in (["lock"], ["plan"], ["build", "--version", "v1"]):
        assert f"{tmp_path}/manifests/one.yaml, line 1: nmae: unknown key" in str(run(*command).exception)
    (tmp_path / "manifests/two.yaml").write_text("")
    assert "name one with -m: one.yaml, two.yaml" in run("lock").output
    assert "leave one out" in run("plan", "a.yaml", "-m", "b.yaml").output


@pytest.mark.parametrize("text", ["hf://", "dir://", "~nosuchuser", "~nosuchuser/x", "", "=", "a=", "modelscope://"])
def test_what_names_no_model_is_one_clear_line(text: str, tmp_path: Path) -> None:
    done = init(tmp_path / "site", "--model", text, "--gpus", "L4")
    assert done.exit_code == 2, done.output
    assert "OWNER/NAME" in done.output and not (tmp_path / "site").exists()


def test_a_relative_folder_is_meant_from_here(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folders)
    assert parse_wanted("dir://mini-embed").source == parse_wanted("mini-embed").source == f"dir://{folders}/mini-embed"


def test_what_to_do_next_can_be_pasted(folders: Path, tmp_path: Path) -> None:
    folder = tmp_path / "it's mine"
    done = init(folder, "--model", folders / "mini-embed", "--gpus", "L4", "--name", "x")
    shell = done.output.splitlines()[-1].removeprefix("next: ").partition(" && ")[0]
    went = subprocess.run(["bash", "-c", f"{shell} && pwd"], capture_output=True, text=True, check=True)
    assert went.stdout == f"{folder}\n"


LIMITED = """
import resource, sys
from pathlib import Path
from offline_kit.cli.start.write_project import write_project
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
write_project({Path("config/a"): b"a" * 50, Path("deep/er/b"): b"b" * 200})
"""


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "deep/er/b: cannot be written: File too large; nothing was left" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_came_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("mine")
    with pytest.raises(DiskError, match="is there already"):
        write_project({tmp_path / "new/a": b"a", tmp_path / "b": b"b"})
    assert [path.name for path in tmp_path.iterdir()] == ["b"] and (tmp_path / "b").read_text() == "mine"


def test_interrupted_while_it_writes(tmp_path: Path) -> None:
    class Ends(dict[Path, bytes]):
        def items(self) -> Any:
            yield tmp_path / "new/a", b"a"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_project(Ends())
    assert list(tmp_path.iterdir()) == []
