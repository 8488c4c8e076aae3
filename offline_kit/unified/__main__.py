"""``python3 -m offline_kit.unified``: the one process that the unified image starts.

Rules: everything is said on stdout, a line each, with who says it in brackets before it; exit code 0: asked to end and
everything ended, 1: a port is taken, 3: the configuration is wrong.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
import tempfile
from pathlib import Path

from offline_kit.runtime.settings.model import ConfigError
from offline_kit.unified import configuration
from offline_kit.unified.log import say
from offline_kit.unified.proxy import Proxy
from offline_kit.unified.supervisor import Supervisor


async def serve(plan: configuration.Plan) -> int:
    """Runs the plan until SIGTERM or SIGINT; the exit code."""
    asked, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    supervisor = Supervisor(plan.groups, say)
    proxy = Proxy(plan.settings, supervisor.engines, say)
    if not plan.settings.api_key:
        say("router", "no VLLM_API_KEY: whoever reaches a port may ask")
    try:
        await proxy.start()
        supervisor.start()
        await asked.wait()
        say("supervisor", "asked to end")
    except OSError as error:
        say("router", f"a port cannot be had: {error.strerror}")
        return 1
    finally:
        await proxy.stop()
        await supervisor.stop()
    say("supervisor", "ended")
    return 0


def main() -> int:
    """Reads the configuration and serves it."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each client and each request to an engine is a file
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    with tempfile.TemporaryDirectory(prefix="offline-kit-") as sockets:
        try:
            cache = configuration.CACHE
            if not os.access(cache, os.W_OK):
                cache = Path(sockets) / "cache"
            plan = configuration.read(configuration.APP, os.environ, Path(sockets), cache)
        except ConfigError as error:
            for line in str(error).splitlines():
                say("supervisor", line)
            return 3
        except OSError as error:
            say("supervisor", f"{error.filename}: {error.strerror}")
            return 3
        return asyncio.run(serve(plan))


if __name__ == "__main__":
    sys.exit(main())
