"""What a new user types first: commands that are misspelt, help, completion, files of the wrong kind."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from offline_kit.cli.main import cli
from offline_kit.common.errors import BundleUnreadable


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="offline-kit")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["biuld"], "No such command 'biuld'. Did you mean 'build'?"),
        (["build", "v1.0.0"], "the version is an option: --version v1.0.0"),
        (["plan", "--gpu", "A6000"], "did you mean 'NVIDIA RTX A6000"),
        (["plan", "--gpu", "4090:2"], "did you mean 'NVIDIA GeForce RTX 4090'"),
    ],
)
def test_what_is_nearly_right_is_answered_with_what_is(arguments: list[str], words: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2 and words in done.output


def test_help_is_a_command_and_cuts_no_sentence() -> None:
    assert run("help", "lock").output == run("lock", "--help").output
    assert run("help").exit_code == 0
    assert "..." not in run("--help").output.partition("Commands:")[2].replace("BUNDLE.002 ...", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    done = CliRunner().invoke(cli, [], prog_name="offline-kit", env={"_OFFLINE_KIT_COMPLETE": f"{shell}_source"})
    assert done.exit_code == 0 and "_offline_kit_completion" in done.output


def test_a_file_of_the_wrong_kind(tmp_path: Path) -> None:
    lock = tmp_path / "m.lock.json"
    lock.write_text("{}")
    for command in ("plan", "inspect", "verify"):
        error = run(command, lock).exception
        assert isinstance(error, BundleUnreadable) and "name NAME-VERSION.tar.gz or a kit's folder" in error.remedy
    (tmp_path / "kit-v1").mkdir()
    (tmp_path / "kit-v1/bundle.json").write_text("{}")
    error = run("verify", tmp_path).exception
    assert isinstance(error, BundleUnreadable) and f"name one of those in it: {tmp_path}/kit-v1" in error.remedy
