"""A number of bytes as people write it: ``4GiB``, ``700MB``, ``4294967295``."""

from __future__ import annotations

import re

import click

_FORM = re.compile(r"([0-9]{1,18})\s*(?:([kKMGT])(i?B)?|B)?")
_STEPS = "KMGT"


def parse_size(context: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    """A callback for options. KiB, MiB, GiB, TiB and K, M, G, T are powers of 1,024; KB, MB, GB, TB are powers of 1,000."""
    if text is None:
        return None
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise click.BadParameter(f"{text!r} is not a size: write it as 4GiB, 700MB or 4294967295", context, parameter)
    number, unit, tail = match.groups()
    step = 1000 if tail == "B" else 1024
    return int(number) * (step ** (_STEPS.index(unit.upper()) + 1) if unit else 1)
