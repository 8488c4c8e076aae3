"""The peak of this process's memory.

Rules: read from VmHWM, which begins anew with each program; ``ru_maxrss`` starts at the size of the process that forked it.
"""

from __future__ import annotations

import re
from pathlib import Path


def peak_kib() -> int:
    """KiB of memory, at most, since the program began or since ``forget_peak``."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def forget_peak() -> None:
    """The peak is what is in use now; proc(5), clear_refs."""
    Path("/proc/self/clear_refs").write_text("5")
