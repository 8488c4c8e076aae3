"""Keeps the engines of one container running.

Rules: engines that share a GPU start one after another, in the order of the plan, each when the one before is ready or has
failed, because two vLLM processes that profile one GPU at once mis-measure each other's memory; an engine that ends, or no
longer answers, is started again, later each time, and all of its processes are gone before; the others go on meanwhile; the end
is in the reverse order of the start; every line that an engine writes is told with its name before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from offline_kit.unified.configuration import Job

Say = Callable[[str, str], None]  # who, line
WAITING, STARTING, READY, SILENT, STOPPED = "waiting", "starting", "ready", "not answering", "stopped"
_LINE = 64 << 10  # a longer one is told in pieces


@dataclass(frozen=True)
class Timing:
    """Seconds, but for ``failures``: how many health checks in a row a ready engine may miss."""

    first_delay: float = 1.0
    longest_delay: float = 60.0
    start_poll: float = 0.5
    poll: float = 5.0
    answer: float = 4.0
    failures: int = 12
    start: float = 3600.0
    stop: float = 8.0  # docker stop waits 10


@dataclass(eq=False)
class Running:
    """One engine as it is now."""

    job: Job
    state: str = WAITING
    starts: int = 0
    requests: int = 0  # that it answers at the moment
    process: asyncio.subprocess.Process | None = None
    output: list[asyncio.Task[None]] = field(default_factory=list)


class Supervisor:
    """The engines of a plan: ``start`` them, look at ``engines``, ``stop`` them."""

    def __init__(self, groups: Sequence[Sequence[Job]], say: Say, timing: Timing = Timing()) -> None:
        self._groups = [[Running(job) for job in group] for group in groups]
        self._say, self._timing = say, timing
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._turns: dict[str, asyncio.Lock] = {}

    @property
    def engines(self) -> list[Running]:
        """All engines in the order of starting."""
        return [engine for group in self._groups for engine in group]

    def start(self) -> None:
        """Begins to start engines, and goes on until ``stop``."""
        self._turns = {gpu: asyncio.Lock() for engine in self.engines for gpu in engine.job.gpus}
        self._tasks = [asyncio.create_task(self._keep(engine)) for engine in self.engines]
        if os.getpid() == 1:
            self._tasks.append(asyncio.create_task(self._reap()))

    async def stop(self) -> None:
        """Ends all engines, the last group first, within ``Timing.stop`` altogether."""
        self._stopping = True  # wait_for of Python before 3.12 may lose a cancellation
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        deadline = time.monotonic() + self._timing.stop
        for group in reversed(self._groups):
            await asyncio.gather(*(self._terminate(engine, deadline) for engine in group))

    async def _keep(self, engine: Running) -> None:
        delay = self._timing.first_delay
        while not self._stopping:
            async with contextlib.AsyncExitStack() as turns:
                # Always in one order, so that no two engines wait for each other.
                for gpu in sorted(set(engine.job.gpus)):
                    await turns.enter_async_context(self._turns[gpu])
                try:
                    await self._spawn(engine)
                    ready = await self._until_ready(engine)
                except OSError as error:  # no process or no file can be had at the moment
                    self._say("supervisor", f"{engine.job.key} cannot be started: {error.strerror}")
                    ready = False
            if self._stopping:
                return
            if ready:
                delay = self._timing.first_delay
                await self._until_down(engine)
            if self._stopping:
                return
            engine.state = WAITING
            if engine.process:
                code = await self._end(engine)
                how = f"signal {_signal_name(-code)}" if code < 0 else f"exit code {code}"
                self._say("supervisor", f"{engine.job.key} ended with {how}: again in {delay:g} s")
            await asyncio.sleep(delay)
            delay = min(2 * delay, self._timing.longest_delay)

    async def _spawn(self, engine: Running) -> None:
        engine.state, engine.starts, engine.process = STARTING, engine.starts + 1, None
        engine.job.socket.unlink(missing_ok=True)  # vLLM does not listen where a socket lies
        self._say("supervisor", f"{engine.job.key} starts" + (f" (number {engine.starts})" if engine.starts > 1 else ""))
        engine.process = await asyncio.create_subprocess_exec(
            *engine.job.command,
            env=dict(engine.job.environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # a group of its own, which ends together
        )
        assert engine.process.stdout
        engine.output = [asyncio.create_task(self._tell(engine.job.key, engine.process.stdout))]

    async def _tell(self, key: str, output: asyncio.StreamReader) -> None:
        rest = b""
        while piece := await output.read(_LINE):
            # A progress bar is drawn again and again behind a carriage return: each time is a line.
            *lines, rest = (rest + piece).replace(b"\r", b"\n").split(b"\n")
            if len(rest) > _LINE:
                lines, rest = [*lines, rest], b""
            for line in filter(None, lines):
                self._say(key, line.decode("utf-8", "replace"))
        if rest:
            self._say(key, rest.decode("utf-8", "replace"))

    async def _until_ready(self, engine: Running) -> bool:
        """Waits for the first answer; False where the engine ended or took too long."""
        deadline = time.monotonic() + self._timing.start
        while _alive(engine) and not self._stopping:
            if await self._answers(engine):
                engine.state = READY
                self._say("supervisor", f"{engine.job.key} is ready")
                return True
            if time.monotonic() > deadline:
                self._say("supervisor", f"{engine.job.key} does not answer {self._timing.start:g} s after its start")
                return False
            await asyncio.sleep(self._timing.start_poll)
        return False

    async def _until_down(self, engine: Running) -> None:
        """Returns when a ready engine ended, or no longer answers."""
        missed = 0
        assert engine.process
        while not self._stopping:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(engine.process.wait(), self._timing.poll)
                return
            missed = 0 if await self._answers(engine) else missed + 1
            engine.state = SILENT if missed else READY
            if missed >= self._timing.failures:
                self._say("supervisor", f"{engine.job.key} has not answered {missed} health checks in a row")
                return

    async def _answers(self, engine: Running) -> bool:
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            return await asyncio.wait_for(_healthy(engine), self._timing.answer)
        return False

    async def _end(self, engine: Running) -> int:
        """Ends what is left of an engine, its children too; its exit code."""
        assert engine.process
        with contextlib.suppress(ProcessLookupError):
            os.killpg(engine.process.pid, signal.SIGKILL)
        code = await engine.process.wait()
        if engine.output:  # a process that left the group may hold it open
            await asyncio.wait(engine.output, timeout=self._timing.answer)
            for task in engine.output:
                task.cancel()
        return code

    async def _terminate(self, engine: Running, deadline: float) -> None:
        engine.state = STOPPED
        if engine.process is None:
            return
        if _alive(engine):
            self._say("supervisor", f"{engine.job.key} is asked to end")
            with contextlib.suppress(ProcessLookupError):
                engine.process.terminate()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(engine.process.wait(), max(0.1, deadline - time.monotonic()))
        await self._end(engine)

    async def _reap(self) -> None:
        """As the first process of a container it gets the children of those that died, and nobody else waits for them."""
        while True:
            reap_orphans(engine.process.pid for engine in self.engines if engine.process)
            await asyncio.sleep(self._timing.poll)


def reap_orphans(own: Iterable[int]) -> None:
    """Waits for ended children that are not ``own``: asyncio waits for those."""
    known = set(own)
    with contextlib.suppress(ChildProcessError):
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid in known:
                return
            os.waitpid(ended.si_pid, 0)


def _alive(engine: Running) -> bool:
    return engine.process is not None and engine.process.returncode is None


async def _healthy(engine: Running) -> bool:
    reader, writer = await asyncio.open_unix_connection(str(engine.job.socket))
    try:
        writer.write(b"GET /health HTTP/1.0\r\nHost: engine\r\nConnection: close\r\n\r\n")
        await writer.drain()
        status = await reader.readline()
        return status.startswith(b"HTTP/1.") and status[9:10] == b"2"
    finally:
        writer.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # those for real-time uses have no names
        return str(number)
