"""A clock that was set back: ten years, for every program that asks the C library what time it is.

Docker's client does not ask it, and its daemon keeps the machine's time; times of files stay what the kernel says. libfaketime
cannot be used: its 0.9.10 makes sleeps fail or locks hang in Python; time that only measures must go on as it was.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

_SOURCE = """
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#define BACK (3650L * 86400)

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec -= BACK;
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (now) *now = exact.tv_sec;
    return exact.tv_sec;
}

int timespec_get(struct timespec *now, int base) {
    return clock_gettime(CLOCK_REALTIME, now) ? 0 : base;
}
"""


def set_back(folder: Path) -> Mapping[str, str]:
    """The environment of such a program; ``folder`` keeps what it needs. Fails where the clock is none the wiser."""
    library = folder / "clock.so"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-x", "c", "-", "-o", str(library)]
    subprocess.run(command, input=_SOURCE, text=True, check=True, capture_output=True)
    env = {"LD_PRELOAD": str(library)}
    for ask in (["date", "+%Y"], ["bash", "-c", 'printf "%(%Y)T"']):
        years = [int(subprocess.run(ask, env=more, capture_output=True, check=True).stdout) for more in ({}, env)]
        assert years[0] - years[1] in (9, 10), years
    return env
