"""Small changes at random of what is valid: of data, of text, of bytes."""

from __future__ import annotations

import copy
import struct
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

Path = tuple[str | int, ...]
# What programs stumble over in place of a value that they expect.
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 7, 2**31, 2**63, 10**30, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *(
        "",
        " ",
        "a",
        "auto",
        "../x",
        "/x",
        "a/b",
        "-x",
        "~",
        "a\nb",
        "a\0b",
        "\x1b[31m",
        "\ud800",
        "\u2028",
        "\u202ea",
        "é",
        "e\u0301",
    ),
    *("$(id)", "${A}", "{{.}}", "a" * 300, "sha256:" + "0" * 64, "0" * 64, "SHA256:" + "A" * 64, "2020-99-99", "1e5", "0x10"),
    *(
        "docker://x/y:1",
        "hf://a/b",
        "dir:///tmp",
        "https://[",
        "http://a:x",
        "https://u:p@h/",
        "0-999999999",
        "linux/amd64",
        "nvidia",
    ),
    *([], {}, [[]], {"a": 1}, ["a"], [None], {"": ""}, [[[[[[]]]]]], [0] * 1000),
)
WORDS = (
    *(
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\n",
        " ",
        "\t",
        '"',
        "'",
        "#",
        "\\",
        "=",
        "\r",
        "-",
        "0",
        "9" * 400,
        "null",
        "1e999",
        "NaN",
    ),
    *(
        "&a ",
        "*a",
        "!!int ",
        "!!binary ",
        "!!set ",
        "<<: ",
        "- ",
        "? ",
        "|",
        ">",
        "%",
        "@",
        "`",
        "---\n",
        "...\n",
        "2020-01-01",
    ),
    *("\0", "\x85", "\u2028", "\ufeff", "\x1b", "\\ud800", "\\u0000", "../", "é", "[" * 70, "{a: " * 70, "x" * 5000),
)


def paths(value: Any, at: Path = ()) -> Iterator[Path]:
    """Every place in a value but the whole."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in pairs:
        yield (*at, key)
        yield from paths(item, (*at, key))


def change_value(random: Random, value: Any) -> Any:
    """A copy with some parts removed, renamed, moved, or replaced by what nobody expects."""
    value = copy.deepcopy(value)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        places = list(paths(value))
        if places:
            _change_one(random, value, random.choice(places), random.choice(places))
    return value


def _change_one(random: Random, value: Any, place: Path, other: Path) -> None:
    around = at(value, place[:-1])
    how = random.randrange(6)
    if how == 0:
        del around[place[-1]]
    elif how == 1 and isinstance(around, dict):
        name = random.choice(["x", "", "a b", "$x", "a\nb", "\ud800", f"{place[-1]}x", "-", "router", "a.b", "A", "\0"])
        around[name] = around.pop(place[-1])
    elif how == 2:
        around[place[-1]] = copy.deepcopy(at(value, other))
    elif how == 3 and isinstance(around[place[-1]], str):
        around[place[-1]] = change_text(random, around[place[-1]])
    else:
        around[place[-1]] = copy.deepcopy(random.choice(ODD))


def at(value: Any, place: Path) -> Any:
    """The part of ``value`` at a place."""
    for key in place:
        value = value[key]
    return value


def change_text(random: Random, text: str) -> str:
    """The text with some words put in, cut out or doubled."""
    for _ in range(random.choice((1, 1, 2, 5))):
        start = random.randrange(len(text) + 1)
        end = min(len(text), start + random.choice((0, 0, 1, 1, 5, 40)))
        put = random.choice((random.choice(WORDS), "", text[start:end] * 2))
        text = text[:start] + put + text[end:]
    return text


def change_bytes(random: Random, data: bytes) -> bytes:
    """The bytes with bits turned, cut off, doubled, or with numbers of a border in them."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 6))):
        if changed:
            _change_byte(random, changed)
    return bytes(changed)


def _change_byte(random: Random, data: bytearray) -> None:
    place = random.randrange(len(data))
    ways: list[Callable[[], object]] = [
        lambda: data.__setitem__(place, data[place] ^ 1 << random.randrange(8)),
        lambda: data.__setitem__(place, random.choice((0, 0x7F, 0x80, 0xFF))),
        lambda: data.__delitem__(slice(place, place + random.choice((1, 8, 512, 1 << 20)))),
        lambda: data.__setitem__(slice(place, place), data[place : place + random.choice((1, 8, 512))]),
        lambda: data.__setitem__(
            slice(place, place + 8), struct.pack("<Q", random.choice((0, 1, 1 << 31, 1 << 63, 2**64 - 1)))
        ),
    ]
    random.choice(ways)()
