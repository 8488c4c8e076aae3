"""The card of a model: what it says, and cards that are none, too long, hostile or oddly written."""

from __future__ import annotations

import pytest

from offline_kit.common.digest import Digest
from offline_kit.intake.models.model_card import read_card
from offline_kit.spec.lock import LockedFile
from offline_kit.spec.lock_facts import ModelCard


def card(text: str, name: str = "README.md") -> ModelCard | None:
    data = text.encode("utf-8", "surrogateescape")
    file = LockedFile(path=name, size=len(data), sha256=Digest.of(data))
    return read_card([file], lambda file, start, end: data[start:end])


def test_what_a_card_says() -> None:
    head = (
        "license: other\nlicense_name: qwen\nlicense_link: https://e.example/LICENSE\nbase_model:\n- Qwen/Base\n- Qwen/Other\n"
    )
    found = card(f"---\n{head}datasets: c4\npipeline_tag: text-generation\n---\n# A model\nlicense: mit\n")
    assert found == ModelCard(
        licence="other",
        licence_name="qwen",
        licence_link="https://e.example/LICENSE",
        base_models=("Qwen/Base", "Qwen/Other"),
        datasets=("c4",),
        task="text-generation",
    )
    assert card("---\r\nlicense: [mit, apache-2.0]\r\n---\r\n") == ModelCard(licence="mit, apache-2.0")
    assert card("\ufeff---\nlicense: mit\n---") == ModelCard(licence="mit")


@pytest.mark.parametrize(
    "text",
    [
        "# only text, license: mit",
        "---\nlicense: mit",
        "---\n- mit\n---\n",
        "---\nlicense: {a: b}\nbase_model: 7\n---\n",
        "---\nlicense: !!python/object/apply:os.system [true]\n---\n",
        "---\n" + "a: " * 300 + "\n---\n",
        '---\nlicense: "mit\\x1b[2J"\n---\n',
        "---\n" + "x" * 70_000 + "\nlicense: mit\n---\n",
        "---\nlicense: *other\n---\n",
        "",
    ],
)
def test_what_cannot_be_read_says_nothing(text: str) -> None:
    assert card(text) == ModelCard()


def test_no_card_at_all() -> None:
    assert card("---\nlicense: mit\n---\n", "docs/README.md") is None
