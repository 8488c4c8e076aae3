"""The version of the next release, from those that are there.

Rules: it comes after every earlier one in the order that the host's ``upgrade`` goes by (``is_older``: that of ``sort -V``,
release candidates before their release); it is never one that was there before, even if that release is pruned.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date

from offline_kit.common.errors import SpecError
from offline_kit.spec.names import VERSION

_NUMBERS = re.compile(r"(v?)([0-9]+)\.([0-9]+)\.([0-9]+)")
_DATE = re.compile(r"v([0-9]{4})\.([0-9]{2})\.([0-9]{2})(?:\.([0-9]+))?")


def next_version(scheme: str, earlier: Iterable[str], today: date) -> str:
    """The version after ``earlier``: ``auto`` the next patch, v1.0.0 first; ``date`` vYEAR.MONTH.DAY, then .1; else ``scheme``.

    Raises SpecError: not a version, or one that is there already.
    """
    there = set(earlier)
    if scheme == "auto":
        return _patch(there)
    if scheme == "date":
        return _day(there, today)
    check_scheme(scheme)
    if scheme in there:
        raise SpecError(f"{scheme} is released already", remedy="give another version, or --version auto")
    return scheme


def check_scheme(scheme: str) -> None:
    """Whether there can be such a version. Raises SpecError."""
    if not VERSION.fullmatch(scheme):
        raise SpecError(f"not a version: {scheme!r}", remedy="auto, date, or letters, digits, '.', '_' and '-', 63 at most")


def is_older(version: str, last: str) -> bool:
    """Whether ``version`` comes before ``last``, as far as both are three numbers: else nobody can tell."""
    mine, other = _NUMBERS.fullmatch(version), _NUMBERS.fullmatch(last)
    return bool(mine and other) and _numbers(mine) < _numbers(other)


def _numbers(match: re.Match[str] | None) -> tuple[int, ...]:
    return tuple(map(int, match.groups()[1:])) if match else ()


def _patch(there: set[str]) -> str:
    found = [match for match in map(_NUMBERS.fullmatch, there) if match]
    if not found:
        return "v1.0.0"
    last = max(found, key=_numbers)
    return f"{last[1]}{last[2]}.{last[3]}.{int(last[4]) + 1}"


def _day(there: set[str], today: date) -> str:
    name = f"v{today:%Y.%m.%d}"
    that_day = [match for match in map(_DATE.fullmatch, there) if match and f"v{match[1]}.{match[2]}.{match[3]}" == name]
    if not that_day:
        return name
    return f"{name}.{max(int(match[4] or 0) for match in that_day) + 1}"
