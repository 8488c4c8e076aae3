"""The defaults of offline-kit.toml become those of the options of one run.

Rules: a file with a mistake stops every command that would read it but ``doctor``, which tells it among its checks.
"""

from __future__ import annotations

import click

from offline_kit.cli.shared.defaults_file import Defaults, find_defaults, read_defaults, reads_defaults
from offline_kit.common.errors import KitError

_KEPT = "offline_kit.defaults"


def take_defaults(context: click.Context, command: str) -> None:
    """Makes what the file says the defaults of ``command``. Raises SpecError, DiskError."""
    path = find_defaults() if reads_defaults(command) else None
    if path is None:
        return
    try:
        found = context.meta[_KEPT] = read_defaults(path)
    except KitError as error:
        if command != "doctor":
            raise
        context.meta[_KEPT] = error
    else:
        context.default_map = {**(context.default_map or {}), **found.options}


def taken_defaults() -> Defaults | KitError | None:
    """What this run took, or what is wrong with it."""
    found: Defaults | KitError | None = click.get_current_context().meta.get(_KEPT)
    return found


def is_default(parameter: str) -> bool:
    """Whether the value of ``parameter`` came from the file alone."""
    source = click.get_current_context().get_parameter_source(parameter)
    return source is click.core.ParameterSource.DEFAULT_MAP
