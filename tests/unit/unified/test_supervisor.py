"""The supervisor of the unified image, with real processes in place of vLLM."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from offline_kit.unified.configuration import Job
from offline_kit.unified.supervisor import READY, WAITING, Supervisor, Timing
from tests.unit.unified import stand_in

FAST = Timing(first_delay=0.02, longest_delay=0.08, start_poll=0.02, poll=0.05, answer=2, failures=2, start=30, stop=3)
Log = list[tuple[str, str]]


def job(folder: Path, key: str, *words: str, gpus: tuple[str, ...] = ()) -> Job:
    socket = folder / f"{key}.sock"
    command = (sys.executable, stand_in.__file__, str(socket), *words)
    return Job(key, key, command, dict(os.environ), socket, gpus)


def supervise(jobs: list[list[Job]], body: Callable[[Supervisor, Log], Awaitable[None]], timing: Timing = FAST) -> Log:
    """Runs ``body`` beside the engines; what was said, the end included."""
    log: Log = []

    async def run() -> None:
        supervisor = Supervisor(jobs, lambda who, line: log.append((who, line)), timing)
        supervisor.start()
        try:
            await asyncio.wait_for(body(supervisor, log), 60)
        finally:
            await supervisor.stop()

    asyncio.run(run())
    return log


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def said(log: Log) -> list[str]:
    return [line for who, line in log if who == "supervisor"]


def test_an_engine_that_is_killed_comes_back_with_all_of_its_children_gone(tmp_path: Path) -> None:
    async def body(supervisor: Supervisor, log: Log) -> None:
        chat, other = supervisor.engines
        await until(lambda: chat.state == READY and other.state == READY)
        assert chat.process
        child = next(int(line.split()[1]) for who, line in log if who == "chat" and line.startswith("child"))
        os.kill(chat.process.pid, signal.SIGKILL)
        await until(lambda: chat.starts == 2 and chat.state == READY)
        assert other.starts == 1
        await until(lambda: not Path("/proc", str(child)).exists() or " Z " in Path("/proc", str(child), "stat").read_text())

    log = supervise([[job(tmp_path, "chat", "children"), job(tmp_path, "other")]], body)
    assert "chat ended with signal SIGKILL: again in 0.02 s" in said(log) and "chat starts (number 2)" in said(log)
    assert sum(line.startswith("engine of ") for who, line in log if who == "chat") == 2


def test_an_engine_that_fails_is_tried_later_each_time(tmp_path: Path) -> None:
    async def body(supervisor: Supervisor, log: Log) -> None:
        await until(lambda: sum("ended" in line for line in said(log)) >= 4)
        assert supervisor.engines[0].state == WAITING

    log = supervise([[job(tmp_path, "chat", "fails")]], body)
    delays = [line.rpartition("again in ")[2] for line in said(log) if "ended with exit code 7" in line]
    assert delays[:4] == ["0.02 s", "0.04 s", "0.08 s", "0.08 s"]


def test_engines_of_one_gpu_start_one_after_another(tmp_path: Path) -> None:
    async def body(supervisor: Supervisor, log: Log) -> None:
        await until(lambda: all(engine.state == READY for engine in supervisor.engines))

    groups = [[job(tmp_path, "a", gpus=("0", "1"))], [job(tmp_path, "b", gpus=("0",)), job(tmp_path, "c", gpus=("1",))]]
    log = said(supervise(groups, body))
    assert log.index("a is ready") < min(log.index("b starts"), log.index("c starts"))


def test_an_engine_that_fails_keeps_none_of_its_gpu_waiting(tmp_path: Path) -> None:
    async def body(supervisor: Supervisor, log: Log) -> None:
        await until(lambda: supervisor.engines[1].state == READY)

    log = said(supervise([[job(tmp_path, "a", "fails", gpus=("0",))], [job(tmp_path, "b", gpus=("0",))]], body))
    assert log.index("a ended with exit code 7: again in 0.02 s") < log.index("b is ready")


def test_an_engine_that_no_longer_answers_is_started_again(tmp_path: Path) -> None:
    async def body(supervisor: Supervisor, log: Log) -> None:
        await until(lambda: supervisor.engines[0].starts == 2)

    log = said(supervise([[job(tmp_path, "chat", "forgets")]], body))
    assert "chat has not answered 2 health checks in a row" in log


def test_the_end_is_in_the_reverse_order_and_takes_the_stubborn_too(tmp_path: Path) -> None:
    async def body(supervisor: Supervisor, log: Log) -> None:
        await until(lambda: all(engine.state == READY for engine in supervisor.engines))

    groups = [[job(tmp_path, "a", gpus=("0",))], [job(tmp_path, "b", "stubborn", gpus=("0",))]]
    timing = Timing(**{**vars(FAST), "stop": 0.3})
    log = supervise(groups, body, timing)
    assert [line for line in said(log) if "asked to end" in line] == ["b is asked to end", "a is asked to end"]
    started = [int(line.split()[-1]) for _, line in log if line.startswith("engine of ")]
    assert not [pid for pid in started if Path("/proc", str(pid)).exists()]


def test_children_of_the_dead_are_waited_for() -> None:
    """In a process of its own, as the first one of a container: it has no other children."""
    code = (
        "import os, subprocess, time; from offline_kit.unified.supervisor import reap_orphans\n"
        "own, orphan = subprocess.Popen(['sleep', '60']), subprocess.Popen(['true'])\n"
        "while not os.waitid(os.P_PID, orphan.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT): time.sleep(0.01)\n"
        "reap_orphans([own.pid]); print(os.path.exists(f'/proc/{orphan.pid}'), own.poll()); own.kill(); own.wait()\n"
        "reap_orphans([])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False None\n"


def test_an_engine_that_cannot_be_started_at_the_moment_is_tried_again(tmp_path: Path) -> None:
    program = tmp_path / "python"

    async def body(supervisor: Supervisor, log: Log) -> None:
        (chat,) = supervisor.engines
        await until(lambda: chat.starts >= 3)
        program.symlink_to(sys.executable)
        await until(lambda: chat.state == READY)

    good = job(tmp_path, "chat")
    log = supervise([[dataclasses.replace(good, command=(str(program), *good.command[1:]))]], body)
    assert "chat cannot be started: No such file or directory" in said(log)
