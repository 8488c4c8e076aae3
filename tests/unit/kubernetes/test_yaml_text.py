"""Whatever is written as YAML is read back by a foreign reader as it was."""

from __future__ import annotations

import string

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from offline_kit.runtime.kubernetes.yaml_text import document, documents

TEXTS = st.one_of(
    st.text(alphabet=string.ascii_letters + string.digits + " \n\t:#-'\"{}[]|>&*!%@`,?~$\\/._", max_size=40),
    st.text(max_size=20),
)
VALUES = st.recursive(
    st.one_of(TEXTS, st.booleans(), st.integers(-(10**9), 10**9)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(TEXTS, VALUES, min_size=1, max_size=4))
def test_read_back(data: dict[str, object]) -> None:
    assert yaml.safe_load(document(data)) == data


@pytest.mark.parametrize(
    "word", ["yes", "No", "true", "null", "on", "1", "1e3", "0x1f", "-", "~", "", "a: b", "# c", "2020-1-1"]
)
def test_words_with_a_meaning_stay_texts(word: str) -> None:
    assert yaml.safe_load(document({"a": word, word: [word, [word], {word: word}]})) == {
        "a": word,
        word: [word, [word], {word: word}],
    }


def test_texts_of_several_lines_are_shown_as_they_are() -> None:
    shown = documents([{"data": {"nginx.conf": "http {\n\n    listen 1;\n}\n"}}, {"kind": "Empty", "list": [], "map": {}}])
    assert shown == "data:\n  nginx.conf: |\n    http {\n\n        listen 1;\n    }\n---\nkind: Empty\nlist: []\nmap: {}\n"
