"""What a person sees of a fetch on a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

from offline_kit.common.units import size

SHOW = """
from offline_kit.common.progress import Terminal
show = Terminal()
with show.task("fetch", 100 << 20, 3) as task:
    task.advance(40 << 20)
    task.finish_item()
    show.note("chat: model.safetensors: 40.0 MiB", event="fetched")
    task.advance(35 << 20)
    task.finish_item()
"""


def seen_on_a_terminal(program: str) -> str:
    """Everything that comes out of a terminal of 120 columns, bars one below the other."""
    own, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    with subprocess.Popen([sys.executable, "-c", program], stderr=its, stdin=subprocess.DEVNULL) as child:
        os.close(its)
        seen = b""
        try:
            while data := os.read(own, 4096):
                seen += data
        except OSError:  # how Linux says that nobody has the other side any more
            assert child.wait(30) == 0
    os.close(own)
    return seen.decode().replace("\r", "\n")


def test_one_bar_with_bytes_and_files_and_a_line_for_each() -> None:
    lines = seen_on_a_terminal(SHOW).splitlines()
    assert "chat: model.safetensors: 40.0 MiB" in lines
    last = [line for line in lines if line.startswith("fetch:")][-1]
    assert "75%" in last and "75.0M/100M" in last and "2 of 3 files" in last


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB"), (3 << 41, "6.0 TiB")]
)
def test_sizes_for_people(count: int, text: str) -> None:
    assert size(count) == text


MANY = """
import sys, threading
from offline_kit.common import progress
sys.setswitchinterval(1e-6)
say = getattr(progress, sys.argv[1])().note
threads = [threading.Thread(target=lambda: [say("x" * 50, event="fetched") for _ in range(300)]) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@pytest.mark.parametrize("kind", ["JsonLines", "Terminal"])
def test_lines_of_many_threads_stay_whole(kind: str) -> None:
    done = subprocess.run([sys.executable, "-c", MANY, kind], capture_output=True, text=True, check=True)
    lines = done.stderr.split("\n")
    assert lines.pop() == "" and len(lines) == 8 * 300
    texts = lines if kind == "Terminal" else [json.loads(line)["text"] for line in lines]
    assert set(texts) == {"x" * 50}
