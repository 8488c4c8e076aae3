"""A number of bytes as an option: ``4GiB``, ``700MB``, ``4294967295``; a medium by name or size."""

from __future__ import annotations

import re

import click

from offline_kit.bundle.format.media import NAMES, Medium, parse_medium
from offline_kit.bundle.format.parts import SMALLEST
from offline_kit.common.units import size
from offline_kit.runtime.settings.sizes import parse_bytes

_FEW = 1000  # a number without a unit below this was meant in GiB


def parse_size(context: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    """A callback for options, by the one rule for sizes (``runtime.settings.sizes``), in whole numbers."""
    if text is None:
        return None
    try:
        if not re.fullmatch(r"[0-9]{1,18}\s*[A-Za-z]*", text.strip(), re.ASCII):
            raise ValueError(text)
        return parse_bytes(text)
    except ValueError as error:
        raise click.BadParameter(
            f"{text!r} is not a size: write it as 4GiB, 700MB or 4294967295", context, parameter
        ) from error


def medium_option(context: click.Context, parameter: click.Parameter, text: str | None) -> Medium | None:
    """A callback for options: the medium that ``text`` names."""
    try:
        return None if text is None else parse_medium(text)
    except ValueError as error:
        known = ", ".join(NAMES)
        raise click.BadParameter(f"{text!r} is no medium: {known}, or a size as 64GB", context, parameter) from error


def part_size(split: int | None, medium: Medium | None, option: str) -> int | None:
    """Bytes of a part, from either of two options. Raises UsageError: both were given, or parts are too small."""
    if split is not None and medium is not None:
        raise click.UsageError(f"{option} or --medium, not both")
    part = medium.part if medium else split
    if part is not None and part < SMALLEST:
        meant = f"; {part} GiB are {option} {part}GiB" if split is not None and part < _FEW else ""
        raise click.UsageError(f"parts of {part:,} bytes are too small: {size(SMALLEST)} at least{meant}")
    return part
