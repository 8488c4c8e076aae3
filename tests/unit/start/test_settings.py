"""offline-kit.toml, -v, colours: what a command takes where nobody says it, and what it shows."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from offline_kit.cli.main import cli
from offline_kit.cli.shared.defaults_file import FILE, KEYS, find_defaults, read_defaults
from offline_kit.common.errors import BundleUnreadable, SpecError
from tests.testbed.cache import REPOSITORY
from tests.unit.start.model_folders import ENCODER, make_model_folder

PROGRAM = Path(sys.executable).with_name("offline-kit")
WHOLE = """
manifest = "manifests/b.yaml"
store = "cache"
output = "out"
policy = "policy.yaml"
format = "tar.zst"
jobs = 8
limit-rate = "50MiB"
min-rate = 0
log-format = "json"
[registry-mirror]
"docker.io" = "http://user:secret-of-mirror@127.0.0.1:5000"
"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="offline-kit")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two manifests, and the working directory in a folder below."""
    model = make_model_folder(tmp_path / "models/e", ENCODER, 1 << 20)
    for name in ("a", "b"):
        arguments = ["--name", name, "--model", model, "--gpus", "L4", "--store", tmp_path / "s", "--non-interactive"]
        assert run("init", tmp_path / name, *arguments).exit_code == 0
    (tmp_path / "a/manifests/b.yaml").write_bytes((tmp_path / "b/manifests/b.yaml").read_bytes())
    (tmp_path / "a/deep/er").mkdir(parents=True)
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    monkeypatch.chdir(tmp_path / "a/deep/er")
    return tmp_path / "a"


def test_it_is_found_upward_and_the_command_line_wins(project: Path) -> None:
    assert "name one with -m: a.yaml, b.yaml" in run("plan").output
    (project / FILE).write_text('manifest = "manifests/b.yaml"\nstore = "cache"\n')
    assert run("plan").exit_code == 0 and (project / "cache").is_dir()
    assert not (project / "other").exists() and run("plan", "--store", project / "other").exit_code == 0
    assert (project / "other").is_dir()
    assert run("plan", "../../manifests/a.yaml").exit_code == 0, "SOURCE is no second name beside a default"
    assert "leave one out" in run("plan", "../../manifests/a.yaml", "-m", "../../manifests/b.yaml").output
    nested = project / "deep" / FILE
    nested.write_text('manifest = "no.yaml"\n')
    error = run("lock").exception
    assert isinstance(error, SpecError) and error.where == f"{project}/deep/no.yaml", "the nearest, from its own folder"


def test_a_variable_wins_over_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / FILE).write_text(
        'manifest = "manifests/b.yaml"\nlog-format = "json"\nstore = "cache"\n[registry-mirror]\na = "b"\n'
    )
    monkeypatch.setenv("OFFLINE_KIT_REGISTRY_MIRROR", "docker.io=127.0.0.1:1")
    monkeypatch.setenv("OFFLINE_KIT_LOG_FORMAT", "text")
    with subprocess.Popen([PROGRAM, "lock"], stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr
        lines = [child.stderr.readline(), child.stderr.readline()]
        child.terminate()
    assert any(line.startswith("127.0.0.1:1: ") for line in lines), lines


def test_every_key_becomes_an_option_that_there_is(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(WHOLE)
    found = read_defaults(tmp_path / FILE)
    assert set(found.given) == set(KEYS)
    group = cli.make_context("offline-kit", ["--help"], resilient_parsing=True)
    for command, values in found.options.items():
        made = cli.get_command(group, command)
        assert made
        inner = {"": values} if command != "store" else values
        for name, parameters in inner.items():
            one = made if not name else made.get_command(group, name)  # type: ignore[attr-defined]
            assert set(parameters) <= {parameter.name for parameter in one.params}, (command, name)
    assert found.options["build"]["output"] == str(tmp_path / "out")
    assert found.options["build"]["mirrors"] == ["docker.io=http://user:secret-of-mirror@127.0.0.1:5000"]


MISTAKES = {
    'jobz = 8': "jobz: unknown key -> did you mean 'jobs'?",
    'colour = "red"': "colour: unknown key -> known are manifest, store",
    "jobs = 0": "jobs: 0 is not a whole number from 1 to 64",
    'jobs = "8"': "jobs: '8' is not a whole number",
    "jobs = true": "jobs: True is not a whole number",
    "store = 1": "store: 1 is not a path, as text in quotes",
    'limit-rate = "fast"': "limit-rate: 'fast' is not a size",
    'log-format = "xml"': "log-format: 'xml' is not one of text, json",
    'registry-mirror = "x"': "registry-mirror: 'x' is not a table",
    "jobs = [": "not valid TOML: ",
    "jobs = " + "[" * 100_000: "is nested too deeply",
    'store = "a\\u0000b"': "store: 'a\\x00b' is not a path",
}  # fmt: skip


@pytest.mark.parametrize("text", MISTAKES, ids=lambda text: text[:30].replace("\0", ""))
def test_a_mistake_is_one_line_and_stops_no_help(text: str, project: Path) -> None:
    (project / FILE).write_text(text + "\n")
    for command in (["lock"], ["build", "--version", "v1"], ["store", "ls"]):
        error = run(*command).exception
        assert isinstance(error, SpecError) and error.where == str(project / FILE)
        assert MISTAKES[text] in str(error) and "\n" not in str(error)
    assert run("build", "--help").exit_code == 0 and run("help", "build").exit_code == 0
    assert isinstance(run("verify", "/etc/passwd").exception, BundleUnreadable), "reads no defaults"
    told = run("doctor", "--offline", "-m", project / "manifests/b.yaml")
    assert told.exit_code == 3 and MISTAKES[text] in told.output.splitlines()[0]


def test_a_working_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert find_defaults() is None
    assert "the working directory is not there any more" in str(run("plan").exception)
    monkeypatch.chdir(tmp_path)


def test_doctor_shows_it(project: Path) -> None:
    (project / FILE).write_text('manifest = "manifests/b.yaml"\njobs = 8\n')
    rows = json.loads(run("doctor", "--offline", "--json").output)
    assert rows[0] == {
        "name": "defaults", "state": "ok", "what": f"{project / FILE}: manifest, jobs", "remedy": "", "code": 0
    }  # fmt: skip


def test_the_page_has_every_key_and_its_commands() -> None:
    page = (REPOSITORY / "docs/settings.md").read_text()
    rows = re.findall(r"^\| `([a-z-]+)` \| `--[a-z-]+` \| .* \| `([a-z ]+)` \|$", page, flags=re.M)
    assert {name: set(commands.split()) for name, commands in rows} == {
        name: {command.partition(" ")[0] for command in key.commands} for name, key in KEYS.items()
    }


def test_the_page_has_every_variable() -> None:
    page = (REPOSITORY / "docs/settings.md").read_text()
    read = re.compile(r"\"(OFFLINE_KIT_[A-Z_]+[A-Z]|NO_COLOR)\"")
    elsewhere = ("host", "runtime", "unified", "release")  # .env of hosts, and what a release hands to its command
    sources = [path for path in (REPOSITORY / "offline_kit").glob("*/**/*.py") if path.parts[-2] not in elsewhere]
    known = {
        name
        for path in sources
        if path.relative_to(REPOSITORY / "offline_kit").parts[0] not in elsewhere
        for name in read.findall(path.read_text())
        if not name.startswith("OFFLINE_KIT_RELEASE_")
    }
    assert len(known) > 8 and {name for name in known if f"`{name}`" not in page} == set()


def on_a_terminal(command: list[str | Path], **environment: str) -> str:
    """What a terminal gets of a command."""
    own, its = pty.openpty()
    surroundings = {**{k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TERM")}, "TERM": "xterm", **environment}
    with subprocess.Popen(command, stdout=its, stderr=its, stdin=subprocess.DEVNULL, env=surroundings) as child:
        os.close(its)
        seen = b""
        try:
            while data := os.read(own, 4096):
                seen += data
        except OSError:  # how Linux says that nobody has the other side any more
            child.wait(30)
    os.close(own)
    return seen.decode()


def test_colours_are_for_terminals_that_want_them() -> None:
    command: list[str | Path] = [PROGRAM, "verify", "/etc/passwd"]
    assert on_a_terminal(command).startswith("\x1b[1;31moffline-kit:\x1b[0m /etc/passwd: ")
    assert "\x1b" not in on_a_terminal(command, NO_COLOR="1") + on_a_terminal(command, TERM="dumb")
    assert "\x1b[" in on_a_terminal(command, NO_COLOR=""), "empty is not set: no-color.org"
    piped = subprocess.run(command, capture_output=True, check=False)
    assert b"\x1b" not in piped.stdout + piped.stderr


def test_what_others_write_colours_nothing(tmp_path: Path) -> None:
    path = tmp_path / "\x1b[31mred"
    assert "\x1b[31mred" not in on_a_terminal([PROGRAM, "verify", path])


def test_verbose_says_what_is_asked_and_keeps_secrets(project: Path) -> None:
    (project / FILE).write_text('manifest = "manifests/b.yaml"\nstore = "cache"\n')
    done = subprocess.run([PROGRAM, "plan", "-v"], capture_output=True, text=True, check=True)
    assert done.stderr == f"defaults of manifest, store: {project / FILE}\n"
    assert "--quiet and --verbose: leave one out" in run("plan", "-v", "-q").output
    mirror = "docker.io=http://me:secret-of-mirror@127.0.0.1:1"
    with subprocess.Popen([PROGRAM, "lock", "-v", "--registry-mirror", mirror], stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr
        lines = [child.stderr.readline() for _ in range(3)]
        child.terminate()
    assert any("127.0.0.1:1: no credentials" in line for line in lines) and "secret-of-mirror" not in "".join(lines), lines


@pytest.mark.root
def test_what_another_user_put_above_is_passed_over(project: Path) -> None:
    """In a folder such as /tmp, which everybody may write into; a manifest names programs that a build runs."""
    (project / "manifests/a.yaml").unlink()
    (project / FILE).write_text('store = "cache"\n')
    planted = [project / FILE, project / "manifests/b.yaml"]
    for path in planted:
        os.chown(path, 65534, 65534)
    result = run("plan", "--store", project / "other")
    assert result.exit_code != 0 and not (project / "cache").exists()
    for path in planted:
        assert f"note: {path} belongs to another user: not taken" in result.output
    os.chown(Path.cwd(), 65534, 65534)  # as in a container of root's, over a folder of the user's
    assert run("plan").exit_code == 0 and (project / "cache").is_dir()
    os.chown(Path.cwd(), 0, 0)
    for path in planted:
        os.chown(path, 0, 0)
    (project / "manifests").rename(project / "mine")
    (project / "manifests").symlink_to("mine")
    os.lchown(project / "manifests", 65534, 65534)
    assert run("plan").exit_code != 0, "whose link it is counts, too"
