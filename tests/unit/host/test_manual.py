"""The manuals name what there is: every command in them, in both languages and in the pages of this repository, can be typed.

Rules: a command counts wherever it stands, in a block or within a sentence; verbs and options are looked for in the scripts
themselves, where they are read, not in what their help says.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from offline_kit.host import assets
from tests.testbed.cache import REPOSITORY
from tests.unit.host.test_render import SHIPPED, rendered, shipped

SCRIPTS = REPOSITORY / "scripts"
COMMAND = re.compile(r"(?<![\w/])(?:\./)?(?:scripts/)?((?:install|deploy|verify|preflight|load_images)\.sh)((?: [^&|;`]+)?)")
IN_REMARK = re.compile(r"scripts/deploy\.sh [a-z-]+")
# what stands for something of the reader's, or is something of a kit's
NAMES = re.compile(
    r"\.\./\S+|[A-Z][A-Z0-9-]+|<[a-z]+>|/\S+|engine-\S+|gateway|chat|KEY\.pub|team-[a-z]|1h|[a-z]+\.tar\.gz|receipt\.json|\.\.\."
)


def manuals() -> dict[str, str]:
    texts = {}
    for name in SHIPPED:
        manifest, files = shipped(name)
        texts_of = rendered(manifest, "v1.2.3", files)[0]
        texts.update({f"{name}/{path}": texts_of[path].decode() for path in ("README.md", "README.zh.md", ".env.example")})
    for page in (REPOSITORY / "README.md", REPOSITORY / "docs/operating.md"):
        texts[page.name] = page.read_text()
    return texts


MANUALS = manuals()


def commands(text: str) -> list[tuple[str, list[str]]]:
    """The scripts that a text tells to run, each with the words behind it: in blocks, their remarks, and sentences."""
    pieces = []
    for line in text.splitlines():
        block, _, remark = line.partition("#") if line.startswith(("    ", "#")) else ("", "", "")
        pieces += [block, *IN_REMARK.findall(remark)] if block or remark else re.findall("`([^`]+)`", line)
    return [(match.group(1), match.group(2).split()) for piece in pieces for match in COMMAND.finditer(piece)]


def script_text(script: str, verb: str) -> str:
    """The text of the file that reads the options of a script, or of a verb of deploy.sh, and of those that it names."""
    if script != "deploy.sh":
        return (SCRIPTS / script).read_text() + (SCRIPTS / "lib/core/options.sh").read_text()
    function = f"verb_{verb.replace('-', '_')}()"
    (file,) = [path for path in (SCRIPTS / "lib").rglob("*.sh") if f"\n{function}" in path.read_text()]
    return file.read_text()


def takes(text: str, word: str) -> bool:
    """Whether a script compares with this word: as a pattern of a case, or in a test."""
    return bool(re.search(rf'(?:^|[|\s]){re.escape(word)}(?: \||\))|== {re.escape(word)}(?:\s|$|"|\])', text, flags=re.M))


def wrong(script: str, words: list[str]) -> str:
    """What in a command does not exist; empty when all does."""
    dispatch = (SCRIPTS / "deploy.sh").read_text()
    verb = ""
    if script == "deploy.sh" and words:
        verb, words = words[0], words[1:]
        if verb != "--help" and not takes(dispatch, verb):
            return f"no verb {verb}"
    if verb == "--help":
        return ""
    text = script_text(script, verb) if verb or script != "deploy.sh" else dispatch
    # --dry-run is taken out of the words of every verb, --help of every script
    missing = [
        word for word in words if word not in ("--help", "--dry-run") and not NAMES.fullmatch(word) and not takes(text, word)
    ]
    values = {"--with": ("nginx", "monitoring"), "--device": ("nvidia", "cpu")}
    missing = [word for word in missing if not any(word in words and word in value for value in values.values())]
    return ", ".join(missing)


@pytest.mark.parametrize("manual", MANUALS)
def test_every_command_exists(manual: str) -> None:
    found = commands(MANUALS[manual])
    assert found
    assert [f"{script} {' '.join(words)}: {why}" for script, words in found if (why := wrong(script, words))] == []


def test_what_does_not_exist_is_found() -> None:
    """The control: a wrong verb, word or option in any of the scripts."""
    for text, why in (
        ("`scripts/deploy.sh dance`", "no verb dance"),
        ("    scripts/deploy.sh logs --since 1h --error  # x", "--error"),
        ("`scripts/deploy.sh keys remove team-a`", "remove"),
        ("    ./install.sh --without nginx", "--without"),
        ("运行 `scripts/deploy.sh clean --all`", "--all"),
        ("`scripts/verify.sh --fast`", "--fast"),
    ):
        ((script, words),) = commands(text)
        assert wrong(script, words).startswith(why), text


@pytest.mark.parametrize("name", SHIPPED)
def test_both_languages_name_the_same_commands(name: str) -> None:
    """Within sentences too, in the same order."""
    english, chinese = (commands(MANUALS[f"{name}/{path}"]) for path in ("README.md", "README.zh.md"))
    assert english == chinese and len(english) > 30


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("manual", ["README.md", "README.zh.md"])
def test_keys_are_changed_by_the_verb_for_keys(name: str, manual: str) -> None:
    """Nothing is restarted for a key: neither the chapter about keys nor the table of symptoms tells to."""
    text = MANUALS[f"{name}/{manual}"]
    (chapter,) = re.findall(r"^### (?:Keys|密钥)\n(.*?)^###? ", text, flags=re.M | re.S)
    assert {"add", "list", "revoke"} <= {words[1] for _, words in commands(chapter) if words[0] == "keys"}
    assert "sh restart" not in chapter
    (symptom,) = [line for line in text.splitlines() if line.startswith("| 401 |")]
    assert "keys add" in symptom and "sh restart" not in symptom


def test_the_scripts_are_where_the_bundle_takes_them_from() -> None:
    assert Path(assets.root(), "scripts").resolve() == SCRIPTS.resolve()
