"""The command ``offline-kit``: its groups of options, and the one place where errors become a message and an exit code.

Rules: results on stdout, talk on stderr; a KitError is one clear message and its own code, never a traceback; Ctrl-C, SIGTERM
and SIGHUP are 130; a fault of the program itself is 1 and says so. Set ``OFFLINE_KIT_DEBUG=1`` to see the traceback of any
error.
"""

from __future__ import annotations

import difflib
import importlib
import io
import os
import signal
import sys
import traceback
from collections.abc import Mapping

import click

from offline_kit import __version__
from offline_kit.cli.shared.take_defaults import take_defaults
from offline_kit.common.encoding import print_any_name, use_utf8_names
from offline_kit.common.errors import Interrupted, KitError
from offline_kit.common.output import answer, say
from offline_kit.common.progress import say_event
from offline_kit.common.redact import register_environment

_NAMES = (
    "init",
    "doctor",
    "lock",
    "plan",
    "build",
    "rehearse",
    "release",
    "context",
    "verify",
    "keygen",
    "sign",
    "record",
    "inspect",
    "diff",
    "unpack",
    "push",
    "render",
    "split",
    "join",
    "store",
    "schema",
)
_FOLDERS = {
    "push": "registry.",
    "render": "registry.",
    "init": "start.",
    "doctor": "start.",
    "context": "image.",
    "keygen": "trust.",
    "sign": "trust.",
    "record": "trust.",
    "split": "parts.",
    "join": "parts.",
}


class _Commands(click.Group):
    """Commands in the order in which they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_NAMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Loads only the command that is asked for: what fetches takes longer to load than 'verify --quick' takes."""
        if cmd_name not in _NAMES:
            return None
        command = getattr(importlib.import_module(f"offline_kit.cli.{_FOLDERS.get(cmd_name, '')}{cmd_name}"), cmd_name)
        return command if isinstance(command, click.Command) else None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Takes ``help COMMAND`` for ``COMMAND --help``, and says which command a misspelt one may be."""
        if ctx.resilient_parsing:  # completion: nothing is answered, nothing refused
            return super().resolve_command(ctx, args)
        if args[0] == "help":
            if len(args) == 1:
                answer(ctx.get_help())
                ctx.exit()
            args = [args[1], "--help"]
        if args[0] not in _NAMES and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], _NAMES, n=1, cutoff=0.5)
            ctx.fail(f"No such command '{args[0]}'." + (f" Did you mean '{near[0]}'?" if near else ""))
        if not {"-h", "--help"} & set(args):
            take_defaults(ctx, args[0])
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each with its whole first sentence, however narrow the terminal."""
        rows = []
        for name in self.list_commands(ctx):
            if command := self.get_command(ctx, name):
                rows.append((name, command.get_short_help_str(200)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="offline-kit")
def cli() -> None:
    """Carry large language models to machines that have no network.

    One manifest (images, models, checksums) becomes one verified NAME-VERSION.tar.gz; unpacked on the host, its
    ./install.sh makes it running vLLM chat, embedding and rerank services.

    \b
    The usual way:
      offline-kit init                     ask for models and GPUs, write a manifest and its configuration
      offline-kit lock                     resolve tags and revisions to digests and commits
      offline-kit build --version v1.0.0   fetch, pack and verify NAME-v1.0.0.tar.gz
      offline-kit verify NAME-v1.0.0.tar.gz

    \b
    Exit codes: 0 done; 1 a fault in offline-kit; 2 usage; 3 manifest or configuration; 4 lock stale;
    5 not found; 6 access denied; 7 network; 8 wrong bytes; 9 disk; 10 Docker; 11 nothing changed;
    12 another run is at it; 13 the command after a release failed; 20 bundle damaged; 21 bundle unreadable;
    22 not signed as demanded; 23 forbidden by a policy or a scan; 24 a scanner failed;
    25 the rehearsal found something; 130 interrupted.
    """


def main() -> None:
    """Runs the command line and exits with a documented code."""
    settings: dict[str, str] = {}
    register_environment(os.environ)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # who was started by nohup goes on
            signal.signal(number, signal.default_int_handler)
    try:
        use_utf8_names()
        print_any_name()
        code = cli.main(standalone_mode=False, obj=settings)
    except click.ClickException as error:
        text = io.StringIO()
        error.show(file=text)
        say(text.getvalue().rstrip("\n"))
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        code = _report(Interrupted("interrupted", remedy="nothing was left half-written; run it again to go on"), settings)
    except KitError as error:
        code = _report(error, settings)
    except BrokenPipeError:
        sys.stderr.close()
        code = 1
    except Exception as error:  # noqa: BLE001  the last line of defence: a message instead of a traceback
        code = _report(
            KitError(
                f"a fault in offline-kit itself: {type(error).__name__}: {error}",
                remedy="run again with OFFLINE_KIT_DEBUG=1 and report what it prints",
            ),
            settings,
        )
    sys.exit(code if isinstance(code, int) else 0)


def _report(error: KitError, settings: Mapping[str, str]) -> int:
    if os.environ.get("OFFLINE_KIT_DEBUG"):
        say(traceback.format_exc())
    if settings.get("log_format") == "json":
        say_event("error", what=error.what, where=error.where, remedy=error.remedy, exit_code=error.exit_code)
    else:
        say(f"offline-kit: {error}")
    return error.exit_code
