"""``python3 -m offline_kit.unified [--check]``: the one process that the unified image starts.

Rules: everything is said on stdout, a line each, with who says it in brackets before it; exit code 0: asked to end and
everything ended, 1: a port is taken, 3: the configuration is wrong, or there is no vLLM. ``--check`` does what a start does,
but for engines, and ends; it is what ``scripts/build.sh`` asks a new image, which may have no models yet and no GPU.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from offline_kit.runtime.settings.model import ConfigError
from offline_kit.unified import configuration
from offline_kit.unified.listeners import LineHandler
from offline_kit.unified.log import say
from offline_kit.unified.proxy import Proxy
from offline_kit.unified.supervisor import Supervisor


async def check(plan: configuration.Plan) -> int:
    """Opens the ports, asks the router for its health, and ends; the exit code."""
    proxy = Proxy(plan.settings, Supervisor(plan.groups, say).engines, say)
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(plan.settings.bind, plan.settings.bind)
    try:
        await proxy.start()
        reader, writer = await asyncio.open_connection(address, plan.settings.router_port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: check\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
    except OSError as error:
        say("router", f"a port cannot be had: {error.strerror}")
        return 1
    finally:
        await proxy.stop()
    say("supervisor", f"checked: {len(plan.settings.models)} model(s), no engine was started")
    return 0 if b'"engines"' in answer else 1


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
    """Reads the configuration and serves it, or checks that it can be."""
    checking = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not checking:
        say("supervisor", f"{' '.join(sys.argv[1:])}: nothing but --check is known here")
        return 2
    if not shutil.which("vllm"):
        say("supervisor", "there is no vllm in this image: it is to be built on an engine image")
        return 3
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each client and each request to an engine is a file
    logging.getLogger().addHandler(LineHandler(say))  # of libraries, else on stderr without a name before it
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    with tempfile.TemporaryDirectory(prefix="offline-kit-") as sockets:
        try:
            cache = configuration.CACHE
            if not os.access(cache, os.W_OK):
                cache = Path(sockets) / "cache"
            plan = configuration.read(configuration.APP, os.environ, Path(sockets), cache, need_models=not checking)
        except ConfigError as error:
            for line in str(error).splitlines():
                say("supervisor", line)
            return 3
        except OSError as error:
            say("supervisor", f"{error.filename}: {error.strerror}")
            return 3
        return asyncio.run(check(plan) if checking else serve(plan))


if __name__ == "__main__":
    sys.exit(main())
