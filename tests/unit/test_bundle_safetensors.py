"""A safetensors file is whole, or what is wrong with it is said."""

from __future__ import annotations

import json
from typing import Any

import pytest

from offline_kit.spec.safetensors import LIMIT, check, head_length
from tests.bundle_sample import safetensors


def made(header: Any, data: int = 0) -> tuple[bytes, int]:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    head = len(text).to_bytes(8, "little") + text
    return head, len(head) + data


def tensor(kind: str, shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": [start, end]}


def test_whole() -> None:
    data = safetensors(100)
    assert check(data[: head_length(data[:8])], len(data)) is None
    tensors = {"b": tensor("BF16", [2, 3], 8, 20), "a": tensor("F32", [2], 0, 8), "s": tensor("F64", [], 20, 28)}
    assert check(*made({"__metadata__": {"format": "pt"}, **tensors}, 28)) is None
    assert check(*made({})) is None
    assert check(*made({"new": tensor("F12_FUTURE", [3], 0, 5)}, 5)) is None
    assert check(*made({"half": tensor("F4", [4], 0, 2)}, 2)) is None


@pytest.mark.parametrize("cut", [0, 7, 8, 20, 100, 170])
def test_cut_off(cut: int) -> None:
    data = safetensors(100)[:cut]
    assert check(data[: head_length(data[:8])], len(data))


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"a": 1}',
        b'{"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}, "a": {}}',
        {"a": tensor("U8", [2], 0, 1)},
        {"a": tensor("U8", [-1], 0, 1)},
        {"a": tensor("U8", [True], 0, 1)},
        {"a": tensor("U8", [1], 1, 2)},
        {"a": tensor("U8", [1], 0, 1), "b": tensor("U8", [1], 0, 1)},
        {"a": tensor("F32", [1 << 62, 1 << 62], 0, 1)},
        {"a": {"dtype": "U8", "shape": [1]}},
    ],
)
def test_wrong_headers(header: Any) -> None:
    assert check(*made(header, 1))


def test_too_much_behind_and_hostile_length() -> None:
    data = safetensors(100) + b"x"
    assert "the file has" in str(check(data[: head_length(data[:8])], len(data)))
    assert head_length(b"\xff" * 8) == LIMIT + 8
    assert check(b"\xff" * 100, 100)
