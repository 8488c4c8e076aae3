"""YAML and JSON from people: what is read, and that what cannot be is one error with its line, soon."""

from __future__ import annotations

from typing import Any

import pytest

from offline_kit.runtime.settings.json_text import JsonError, parse_json
from offline_kit.runtime.settings.yaml_text import VALUES_AT_MOST, YamlError, parse_yaml

LAUGHS = "a0: &a0 [x, x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 12))
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 3000))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("a: 1", {"a": 1}),
        ("1: a\non: b", {"1": "a", "on": "b"}),
        ("a: [1, 0x10, 1_000, 1.5, yes, ~, 'x']", {"a": [1, 16, 1000, 1.5, True, None, "x"]}),
        ("a: '2020-01-01'", {"a": "2020-01-01"}),
        ("a: =", {"a": "="}),
        (
            "a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}\ne: {<<: *x}",
            {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}, "e": {"b": 1, "c": 2}},
        ),
    ],
)
def test_plain_data(text: str, value: Any) -> None:
    assert parse_yaml(text).value == value


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        (LAUGHS, 6, "values"),
        (MERGES, 6, "values"),
        (CHAIN, 64, "nested"),
        ("x:\n  - &x [*x]", 2, "alias"),
        ("x: &x {a: *x}", 1, "alias"),
        ("x: " + "[" * 100_000, 1, "nested"),
        ("- " * 100_000, 1, "nested"),
        ("x: [" + "a, " * (VALUES_AT_MOST + 1), 1, "values"),
        ("x: " + "a" * (2 << 20), 0, "characters"),
        ("x: 1\ny: 2020-99-99", 2, "timestamp"),
        ("x: 2020-01-01 10:00:00", 1, "timestamp"),
        ("x: !!timestamp abc", 1, "timestamp"),
        ("x: !!binary aGk=", 1, "binary"),
        ("x: !!set {a}", 1, "set"),
        ("x: !!python/object/apply:os.system [id]", 1, "python"),
        ("x: !!map a", 1, "map"),
        ("x: !!int abc", 1, "'abc' is no int"),
        ("x: !!int ''", 1, "'' is no int"),
        ("x: !!float abc", 1, "'abc' is no float"),
        ("x: !!bool abc", 1, "'abc' is no bool"),
        ("x: .nan", 1, "'.nan' is no float"),
        ("x: 1.0e+999", 1, "is no float"),
        ("x: " + "1" * 5000, 1, "too long"),
        ("x: 0x" + "f" * 5000, 1, "too long"),
        ("x: 1" + ":1" * 5000, 1, "too long"),
        ('x: "\\0"', 1, "NUL"),
        ('"\\0": x', 1, "NUL"),
        ('x: "\\ud800"', 1, "half a character"),
        ('x: "\\U00110000"', 0, "does not exist"),
        ("? [a]\n: b", 1, "cannot be a key"),
        ("? {a: b}\n: c", 1, "cannot be a key"),
        ("a: *b", 1, "undefined alias"),
        ("--- a\n--- b", 2, "another document"),
        ("a: [1", 1, "expected"),
        ("<<: [a]", 1, "merging"),
        ("a: \x00", 0, "special characters"),
    ],
)
def test_what_cannot_be_read_is_one_error(text: str, line: int, word: str) -> None:
    with pytest.raises(YamlError) as caught:
        parse_yaml(text)
    assert caught.value.line == line and word in caught.value.what and len(str(caught.value)) < 300


def test_keys_given_twice_have_their_line_wherever_they_stand() -> None:
    document = parse_yaml("a: 1\nb:\n  c: 1\n  c: 2\n'1': x\n1: y\nd: &d {e: 1}\nf: {<<: *d, e: 2}\n")
    assert document.twice == [(4, ("b", "c")), (6, ("1",))]
    assert document.lines[("b",)] == 2


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("[" * 100_000, 0, "nested"),
        ("[" * 100 + "]" * 100, 0, "nested"),
        ('{"a": ' + "1" * 5000 + "}", 0, "too long"),
        ('{"a": NaN}', 0, "NaN"),
        ('{"a": -Infinity}', 0, "Infinity"),
        ('["\\ud800"]', 0, "half a character"),
        ('{"a\\u0000": 1}', 0, "NUL"),
        ('{\n"a" 1}', 2, "':'"),
        (" " * (2 << 20), 0, "characters"),
    ],
)
def test_json_that_cannot_be_read_is_one_error(text: str, line: int, word: str) -> None:
    with pytest.raises(JsonError) as caught:
        parse_json(text)
    assert caught.value.line == line and word in caught.value.what
