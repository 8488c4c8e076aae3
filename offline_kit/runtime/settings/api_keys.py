"""The keys that clients send: ``default`` from .env, and further ones, each with a name, from .state/keys.

Rules: ``.state/keys`` has one ``NAME KEY`` a line, ``#`` starts a comment line; blanks are space, tab and carriage
return, as for ``deploy.sh keys``; a name and a key appear once; no message shows a key. The name, never the key, is what the
access log says.
"""

from __future__ import annotations

import re
from typing import List, Sequence, Tuple

from .model import KEYS, Mistake

KEY = re.compile(r"[A-Za-z0-9._~+/=-]{16,512}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
DEFAULT = "default"
REMEDY = "use 16 to 512 of A-Z a-z 0-9 . _ ~ + / = -"


def parse(text: str, default: str, mistakes: List[Mistake]) -> Tuple[Tuple[str, str], ...]:
    """All (name, key) pairs, ``default`` (the key of .env) first; what is wrong is added to ``mistakes``."""
    pairs = [(DEFAULT, default)] if default else []
    for number, line in enumerate(text.split("\n"), 1):
        words = [word for word in re.split("[ \t\r]+", line) if word]
        if not words or words[0].startswith("#"):
            continue
        where = f"{KEYS}, line {number}"
        if len(words) != 2:
            mistakes.append(Mistake(where, "", "is not a name and a key", "write NAME KEY"))
        elif not NAME.fullmatch(words[0]) or words[0] == DEFAULT:
            what = f"'{words[0]}' cannot be the name of a key"
            mistakes.append(Mistake(where, "", what, f"use letters, digits and . _ - (at most 64), and not '{DEFAULT}'"))
        elif not KEY.fullmatch(words[1]):
            mistakes.append(Mistake(where, words[0], "the key is too short, too long or has other characters", REMEDY))
        elif words[0] in [name for name, _ in pairs]:
            mistakes.append(Mistake(where, words[0], "is given twice", "give each key its own name"))
        elif words[1] in [key for _, key in pairs]:
            other = next(name for name, key in pairs if key == words[1])
            mistakes.append(Mistake(where, words[0], f"has the same key as '{other}'", "make a new one"))
        else:
            pairs.append((words[0], words[1]))
    return tuple(pairs)


def keys_conf(pairs: Sequence[Tuple[str, str]]) -> str:
    """The included part of nginx's map from an Authorization header to the name of its key."""
    # A plain string in a map is compared without regard to case; an expression is not.
    return "".join(f'"~^[Bb]earer {re.escape(key)}$" "{name}";\n' for name, key in pairs)
