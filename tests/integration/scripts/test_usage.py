"""Every script of a kit answers --help, refuses what it does not know, and stays within bash 4.2."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import scripts_kit
from tests.testbed.cache import REPOSITORY

SCRIPTS = ["install.sh", "scripts/preflight.sh", "scripts/load_images.sh", "scripts/deploy.sh", "scripts/verify.sh"]
# Constructs of bash 4.3 and later.
NEWER = re.compile(
    r"\$\{[^}]*@[QEPAaKkUuL]\}|\bwait -n|\b(declare|local|typeset) -[a-z]*n\b|inherit_errexit|EPOCH(SECONDS|REALTIME)"
    r"|(readarray|mapfile) -d|\bunset '?\w+\[-|SRANDOM|\[\[ -v "
)

# Filled elsewhere, never empty where they are used: images(), start_order(), what checks found, gpu_query().
NEVER_EMPTY = {
    "KEYS",
    "SERVICES",
    "START_GROUPS",
    "FINDINGS_LEVEL",
    "GPU_IDS",
    "ROW_HEALTH",
    "SED",
    "COMPOSE_SERVICES",
    "GIVEN_MOUNTS",
}


@pytest.fixture(scope="module")
def kit(shelf: scripts_kit.Shelf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scripts_kit.make_kit(shelf, tmp_path_factory.mktemp("usage") / "a kit")


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_says_usage_options_and_exit_codes(kit: Path, script: str, tmp_path: Path) -> None:
    done = scripts_kit.run(kit, script, "--help", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith("Usage:") and "Exit codes: 0" in done.stdout and "--help" in done.stdout
    assert not (kit / ".state").exists()


@pytest.mark.parametrize("verb", ["upgrade", "restore", "keys", "logs", "uninstall"])
def test_help_of_a_verb(kit: Path, verb: str) -> None:
    done = scripts_kit.run(kit, "scripts/deploy.sh", verb, "--help")
    assert done.returncode == 0 and f"\n  {verb} " in done.stdout and not (kit / ".state").exists()


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_unknown_option_is_wrong_usage(kit: Path, script: str) -> None:
    done = scripts_kit.run(kit, script, "--no-such-option")
    assert done.returncode == 2 and "--no-such-option" in done.stderr and "--help" in done.stderr
    assert not (kit / ".state").exists()


@pytest.mark.parametrize(
    "script, arguments",
    [
        ("install.sh", ["--device"]),
        ("install.sh", ["--device=tpu"]),
        ("install.sh", ["--env-file", "/no/such/file"]),
        ("install.sh", ["word"]),
        ("install.sh", ["--with", "kubernetes"]),
        ("install.sh", ["--json-receipt", "/no/such/folder/receipt.json"]),
        ("scripts/preflight.sh", ["--device", "gpu"]),
        ("scripts/load_images.sh", ["no-such-image"]),
        ("scripts/verify.sh", ["word"]),
        ("scripts/deploy.sh", []),
        ("scripts/deploy.sh", ["dance"]),
        ("scripts/deploy.sh", ["start", "chat"]),
        ("scripts/deploy.sh", ["status", "--xml"]),
        ("scripts/deploy.sh", ["logs", "--since"]),
        ("scripts/deploy.sh", ["stop", "--now"]),
    ],
)
def test_wrong_words_are_wrong_usage(kit: Path, script: str, arguments: list[str]) -> None:
    done = scripts_kit.run(kit, script, *arguments)
    assert done.returncode == 2 and done.stderr.startswith("error: ")


@pytest.mark.parametrize("verb", ["stop", "restart", "status", "logs", "smoke"])
def test_before_the_installation_deploy_says_so(kit: Path, verb: str) -> None:
    done = scripts_kit.run(kit, "scripts/deploy.sh", verb)
    assert done.returncode == 3 and "install.sh" in done.stderr


def test_outside_a_kit_the_scripts_say_so(tmp_path: Path, kit: Path) -> None:
    shutil.copytree(kit / "scripts", tmp_path / "scripts")
    done = scripts_kit.run(tmp_path, "scripts/verify.sh")
    assert done.returncode == 20 and "not an unpacked kit" in done.stderr


def test_a_kit_of_a_later_format_is_refused(shelf: scripts_kit.Shelf, tmp_path: Path) -> None:
    other = scripts_kit.make_kit(shelf, tmp_path / "kit")
    text = (other / "deploy/kit.env").read_text().replace("KIT_FORMAT=1", "KIT_FORMAT=2")
    scripts_kit.rewrite(other, "deploy/kit.env", text.encode())
    done = scripts_kit.run(other, "scripts/verify.sh")
    assert done.returncode == 20 and "format '2'" in done.stderr


@pytest.mark.parametrize("script", sorted((REPOSITORY / "scripts").rglob("*.sh")), ids=lambda path: path.name)
def test_nothing_is_newer_than_bash_4_2(script: Path) -> None:
    text = script.read_text()
    assert not NEWER.search(text)
    # Expanding an empty array is an error under `set -u` before bash 4.4. `for x in "${a[@]}"` and the like are fine only for
    # an array that cannot be empty: one that is filled from a literal or counted first in its own file, or that ends the run
    # where it is made when it would be empty.
    guarded = re.sub(r"\$\{(\w+)\[@\]\+[^\n]*?\$\{\1\[@\]\}[^\n]*?\}", "", text)
    for name in set(re.findall(r'"\$\{(\w+)\[@\]\}"', guarded)):
        filled = re.search(rf"\b{name}=\([^)\s]", text)
        counted = re.search(rf"\(\(\$\{{#{name}\[@\]\}} (==|>|<) ", text)
        assert filled or counted or name in NEVER_EMPTY, name
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0


def test_no_function_has_the_name_of_another() -> None:
    """All rooms share one space of names: the later definition would replace the earlier one without a word."""
    names = [
        name
        for script in sorted((REPOSITORY / "scripts/lib").rglob("*.sh"))
        for name in re.findall(r"^(\w+)\(\) \{", script.read_text(), re.MULTILINE)
    ]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []


@pytest.mark.parametrize("shell", ["dash", "busybox sh", "bash --posix"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_shell_that_is_not_bash_hands_over_to_it(kit: Path, script: str, shell: str) -> None:
    done = subprocess.run([*shell.split(), script, "--help"], cwd=kit, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.startswith(f"Usage: {script}") and done.stderr == ""


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_host_without_bash_is_told_so(kit: Path, script: str, tmp_path: Path) -> None:
    dash = shutil.which("dash") or "dash"
    done = subprocess.run([dash, script], cwd=kit, capture_output=True, text=True, env={"PATH": str(tmp_path)}, check=False)
    assert done.returncode == 4 and done.stderr == "error: bash 4.2 or later is needed, and this host has none\n"


def test_every_verb_has_a_help_of_its_own(kit: Path) -> None:
    help_of_all = scripts_kit.run(kit, "scripts/deploy.sh", "--help").stdout
    verbs = sorted(set(re.findall(r"^  ([a-z][a-z-]+)", help_of_all, re.MULTILINE)))
    assert len(verbs) > 14
    for verb in verbs:
        done = scripts_kit.run(kit, "scripts/deploy.sh", verb, "--help")
        assert done.returncode == 0 and done.stderr == "", verb
        assert re.search(rf"^  {verb}\b", done.stdout, re.MULTILINE) and "Exit codes" in done.stdout
        assert all(re.match(rf"  {verb}\b|   ", line) for line in done.stdout.splitlines()[2:] if line.startswith("  "))
    assert not (kit / ".state").exists()


def test_the_help_of_no_verb_is_wrong_usage(kit: Path) -> None:
    done = scripts_kit.run(kit, "scripts/deploy.sh", "dance", "--help")
    assert done.returncode == 2 and "unknown verb 'dance'" in done.stderr
