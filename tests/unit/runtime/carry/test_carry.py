"""Edits carried into a new version: every case of three sides, and comments that survive."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from offline_kit.runtime import engine_stats
from offline_kit.runtime.merge_config import carry, document, main, merge

BASE: dict[str, Any] = {"models": {"chat": {"len": 1, "util": 0.5}, "rerank": {"len": 1}}}


@pytest.mark.parametrize(
    "orig, mine, new, merged, conflicts",
    [
        (1, 1, 2, 2, 0),
        (1, 2, 1, 2, 0),
        (1, 2, 2, 2, 0),
        (1, 2, 3, 2, 1),
        ([1], [1, 2], [1, 3], [1, 2], 1),
        (True, True, 1, 1, 0),
        ({"a": 1}, {"a": 1, "b": 2}, {"a": 3}, {"a": 3, "b": 2}, 0),
        ({"a": 1, "b": 2}, {"a": 1}, {"a": 1, "b": 2, "c": 3}, {"a": 1, "c": 3}, 0),
        ({"a": 1, "b": 2}, {"a": 1}, {"a": 1, "b": 9}, {"a": 1}, 1),
        ({"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 1}, {"a": 1}, {"a": 1, "c": 1}, 0),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, {"a": 2}, {"a": 2, "b": 3}, 1),
        ({}, {"m": {"x": 1}}, {"m": {"y": 2}}, {"m": {"y": 2, "x": 1}}, 0),
    ],
)
def test_three_sides(orig: object, mine: object, new: object, merged: object, conflicts: int) -> None:
    found: list[str] = []
    assert json.dumps(merge(orig, mine, new, "x", found)) == json.dumps(merged)
    assert len(found) == conflicts


def test_a_conflict_names_the_place_and_both_values() -> None:
    mine, new = json.loads(json.dumps(BASE)), json.loads(json.dumps(BASE))
    mine["models"]["chat"]["len"], new["models"]["chat"]["len"] = 2, 3
    found: list[str] = []
    merge(BASE, mine, new, "", found)
    assert found == ["models.chat.len: yours is used (2); the new default is 3"]


def test_comments_survive_where_only_one_side_changed() -> None:
    mine, new = b"# mine\nseed: 1\n", b"# new\nseed: 0\n"
    assert carry("vllm_config.yaml", b"seed: 0\n", mine, b"seed: 0\n") == (mine, [])
    assert carry("vllm_config.yaml", b"seed: 0\n", b"seed: 0\n", new) == (new, [])
    assert carry("vllm_config.yaml", b"seed: 0\n", mine, new) == (mine, [])
    merged, conflicts = carry("vllm_config.yaml", b"seed: 0\n", mine, b"seed: 0\nmax_num_seqs: 8\n")
    assert merged == b"seed: 1\nmax_num_seqs: 8\n" and not conflicts


@pytest.mark.parametrize(
    "orig, mine, new, content, conflicts",
    [
        (None, b"m", None, b"m", 0),
        (b"o", None, b"o", None, 0),
        (b"o", None, b"n", None, 1),
        (b"o", b"m", None, b"m", 1),
        (b"o", b"m", b"n", b"m", 1),
        (b"o", b"\xff", b"n", b"\xff", 1),
        (None, None, b"n", b"n", 0),
    ],
)
def test_other_files_are_whole(
    orig: bytes | None, mine: bytes | None, new: bytes | None, content: bytes | None, conflicts: int
) -> None:
    found, reported = carry("monitoring/rules/mine.txt", orig, mine, new)
    assert (found, len(reported)) == (content, conflicts)


@pytest.mark.parametrize(
    ("name", "orig", "mine", "new"),
    [
        ("models.json", "{}", '{"a": 1,}', '{"b": 1}'),
        ("models.json", "{}", '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", '{"b": 1}'),
        ("vllm_config.yaml", "", "seed: 1\nseed: 2\n", "seed: 3\n"),
        ("vllm_config.yaml", "", "seed: 2026-01-01\n", "seed: 3\n"),
    ],
)
def test_what_cannot_be_read_is_named(
    name: str, orig: str, mine: str, new: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the readers that the services are configured with, so that what is carried is what is read."""
    for side, text in (("orig", orig), ("mine", mine), ("new", new)):
        (tmp_path / side).mkdir()
        (tmp_path / side / name).write_text(text)
    sides = [word for side in ("orig", "mine", "new") for word in (f"--{side}", str(tmp_path / side))]
    assert main(sides) == 3
    assert f"config/{name}: cannot be read" in capsys.readouterr().err


def test_the_answer_says_whose_each_file_is() -> None:
    orig = {"a b.json": b'{"x": 1}', "gone.txt": b"1", "mine.txt": b"1", "same.txt": b"1", "both.txt": b"1"}
    mine = {**orig, "a b.json": b'{"x": 2}', "mine.txt": b"2", "both.txt": b"2"}
    new = {"a b.json": b'{"x": 1, "y": 3}', "mine.txt": b"1", "same.txt": b"1", "both.txt": b"3"}
    assert document(orig, mine, new).decode().split("\n") == [
        "offline-kit-config 1",
        *("MERGED 4 a b.json", "{", '  "x": 2,', '  "y": 3', "}", "TELL config/a b.json: your edits and the new defaults"),
        *("MINE both.txt", "TELL config/both.txt: as you had it"),
        *("TELL CONFLICT config/both.txt: both changed it: yours is used", "CONFLICT both.txt"),
        *("MINE mine.txt", "TELL config/mine.txt: as you had it", "NEW same.txt", "END", ""),
    ]
    with pytest.raises(ValueError, match="line break"):
        document({}, {"a\nb": b""}, {})


def test_a_key_stays_as_it_is_written() -> None:
    """YAML of 1999 takes ``on`` for true: it would be carried as ``true``."""
    merged, conflicts = carry("vllm_config.yaml", b"on: 1\n", b"on: 2\n", b"on: 1\nseed: 8\n")
    assert merged == b"'on': 2\nseed: 8\n" and not conflicts


def test_figures_are_sums_over_series() -> None:
    page = '# HELP x\nvllm:num_requests_running{engine="0"} 1.0\nvllm:num_requests_running{engine="1"} 2.0\n'
    page += 'vllm:request_success_total{finished_reason="stop"} 7.0\nvllm:request_success_created{a="b"} 1.7e+09\n'
    assert engine_stats.sums(page) == ["3", "-", "7"]
