"""Runs one kind of fuzzing in a process of its own, within limits: ``python -m tests.fuzz.worker KIND SEED SECONDS [NUMBER]``.

Rules: each input follows from kind, seed and number alone, so that a fault can be looked at again; what is no error of ours,
takes more than five seconds of the processor or waits for a minute is a fault; the result is one JSON object on stdout.
"""

from __future__ import annotations

import importlib
import json
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from random import Random
from types import FrameType

from tests.fuzz.memory import peak_kib

KINDS = ("documents", "bundles", "servers")
Subject = Callable[[Random], str]  # gives what became of one input, "refused" or another word; raises what is a fault
CPU, WALL = 5.0, 60.0  # seconds that one input may take
ADDRESSES = 4 << 30  # bytes: what asks for more fails, instead of the machine


class TooLong(BaseException):
    """One input took longer than any may."""


def main(kind: str, seed: int, seconds: float, only: int | None = None) -> int:
    """Prints what was seen; 1: there are faults."""
    opened: AbstractContextManager[Subject] = importlib.import_module(f"tests.fuzz.{kind}").opened()
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    for alarm in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(alarm, _stop)
    seen: Counter[str] = Counter()
    faults: list[str] = []
    slowest, begin, number = 0.0, time.monotonic(), only or 0
    with opened as subject:
        while True:
            start = time.process_time()
            fault = _one(subject, Random(f"{kind}:{seed}:{number}"), seen)
            if fault:
                faults.append(f"{kind} {seed} {number}: {fault}")
            slowest = max(slowest, time.process_time() - start)
            number += 1
            if only is not None or time.monotonic() - begin > seconds or len(faults) > 20:
                break
    peak = peak_kib() >> 10
    result = {"kind": kind, "seed": seed, "inputs": dict(sorted(seen.items())), "slowest": round(slowest, 2), "peak_mib": peak}
    print(json.dumps({**result, "faults": faults}, indent=1))
    return bool(faults)


def _one(subject: Subject, random: Random, seen: Counter[str]) -> str | None:
    """What is wrong with how one input was met."""
    try:
        signal.setitimer(signal.ITIMER_PROF, CPU)
        signal.setitimer(signal.ITIMER_REAL, WALL)
        seen[subject(random)] += 1
    except TooLong:
        return "takes too long\n" + "".join(traceback.format_exc(limit=-6))
    except Exception:  # noqa: BLE001  whatever it is, it is what is looked for
        return "".join(traceback.format_exc(limit=-6))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    return None


def _stop(number: int, frame: FrameType | None) -> None:
    raise TooLong


if __name__ == "__main__":
    _, kind, seed, seconds, *numbers = sys.argv
    sys.exit(main(kind, int(seed), float(seconds), int(numbers[0]) if numbers else None))
