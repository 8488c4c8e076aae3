"""One command, measured: wall time, peak memory, processor time; and what kind of machine it was.

Rules: nothing but the standard library is imported, so that the memory of this process does not count as that of the measured
one; what was written before is on the disk when the clock starts; a command that fails ends the benchmark.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Figure:
    """All runs of one command: wall and processor seconds, and the largest process's peak in MiB."""

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)

    def add(self, seconds: float, cpu: float, memory: float) -> None:
        """One run more."""
        self.seconds.append(seconds)
        self.cpu.append(cpu)
        self.memory.append(memory)

    @property
    def last(self) -> list[float]:
        return [self.seconds[-1], self.cpu[-1], self.memory[-1]]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def run(figure: Figure, command: str, folder: Path, environment: Mapping[str, str]) -> None:
    """Runs ``command`` with bash in ``folder`` and adds what it took."""
    os.sync()
    started = time.monotonic()
    process = subprocess.Popen(
        ["bash", "-o", "pipefail", "-euc", command], cwd=folder, env={**os.environ, **environment}, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    figure.add(time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"failed with {process.returncode}: {command}")


def machine() -> str:
    """Processor, cores, memory and system, without any name of the host."""
    facts = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(":")[2].strip() for line in facts.splitlines() if line.startswith("model name")), "")
    total = next(int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    sha = "with SHA instructions" if "sha_ni" in facts or " sha2 " in facts else "without SHA instructions"
    cores = len(os.sched_getaffinity(0))
    system = f"{platform.system()}, Python {platform.python_version()}"
    return f"{cores} cores ({model}, {sha}), {total / 2**20:.0f} GiB memory, {system}"


def load() -> str:
    return " ".join(f"{value:.1f}" for value in os.getloadavg())


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
