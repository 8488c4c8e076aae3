"""Manual pages of the commands, for ``man offline-kit`` and ``man offline-kit-build``.

Rules: all of it is what ``--help`` says; nothing of this machine or this day is in it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

from offline_kit.cli.main import cli
from offline_kit.cli.shared.defaults_file import FILE

_SEE = "https://no-color.org"
_FILES = f"""\
.SH FILES
.TP
.I {FILE}
Defaults of options, in the working directory or a folder above it (docs/settings.md).
.TP
.I manifests/default.yaml
The manifest that is meant where none is named; else the only one of that folder.
"""
_ENVIRONMENT = {
    "OFFLINE_KIT_STORE": "Folder that keeps blobs between builds.",
    "OFFLINE_KIT_DEBUG": "1: the traceback of an error, too.",
    "NO_COLOR": f"Any value: no colours ({_SEE}).",
    "HF_TOKEN, HF_ENDPOINT": "Token and address of a model hub.",
    "HTTPS_PROXY, SSL_CERT_FILE": "Proxy and file of certificates.",
}


def man_pages() -> dict[str, str]:
    """Name of the file -> its text."""
    return {f"{name.replace(' ', '-')}.1": "\n".join(_page(name, command, path)) + "\n" for name, command, path in _commands()}


def _commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Each command with its whole name, groups before what is in them."""
    waiting: list[tuple[str, click.Command, click.Context | None]] = [("offline-kit", cli, None)]
    while waiting:
        name, command, parent = waiting.pop(0)
        own_name = name.rpartition(" ")[2] if parent else name
        context = click.Context(command, info_name=own_name, parent=parent, **command.context_settings)
        yield name, command, context
        if isinstance(command, click.Group):
            inner = ((one, command.get_command(context, one)) for one in command.list_commands(context))
            waiting += [(f"{name} {one}", found, context) for one, found in inner if found]


def _page(name: str, command: click.Command, context: click.Context) -> Iterator[str]:
    title = name.replace(" ", "-")
    yield f'.TH "{title.upper()}" "1" "" "offline-kit" "offline-kit"'
    yield ".SH NAME"
    yield f"{_text(title)} \\- {_text(command.get_short_help_str(400).rstrip('.'))}"
    yield ".SH SYNOPSIS"
    yield f".B {_text(name)}"
    yield _text(" ".join(command.collect_usage_pieces(context)))
    yield ".SH DESCRIPTION"
    yield from _paragraphs(inspect.cleandoc(command.help or ""))
    options = [record for one in command.get_params(context) if (record := one.get_help_record(context))]
    if options:
        yield ".SH OPTIONS"
    for names, what in options:
        yield ".TP"
        yield f".B {_text(names)}"
        yield _text(what)
    if isinstance(command, click.Group):
        yield ".SH COMMANDS"
        for one in command.list_commands(context):
            found = command.get_command(context, one)
            yield ".TP"
            yield f".BR {_text(title)}\\-{_text(one)} (1)"
            yield _text(found.get_short_help_str(400)) if found else ""
    if command is cli:
        yield ".SH ENVIRONMENT"
        for variable, what in _ENVIRONMENT.items():
            yield from (".TP", f".B {_text(variable)}", _text(what))
        yield _FILES.rstrip()
    else:
        yield ".SH SEE ALSO"
        yield f".BR {_text(title.rpartition('-')[0])} (1)"


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        lines = paragraph.splitlines()
        yield ".PP"
        if lines and lines[0].strip() == "\b":
            yield from (".nf", *map(_text, lines[1:]), ".fi")
        else:
            yield _text(" ".join(line.strip() for line in lines))


def _text(text: str) -> str:
    """As roff shows it literally: hyphens that can be pasted, no request at the beginning."""
    plain = re.sub(r"\s+\n", "\n", text).replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain
