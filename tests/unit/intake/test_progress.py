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


def seen_on_a_terminal(program: str, columns: int = 120) -> str:
    """Everything that comes out of a terminal, bars one below the other."""
    own, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    with subprocess.Popen([sys.executable, "-c", program], stderr=its, stdin=subprocess.DEVNULL, env=environment) as child:
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
    assert last.startswith("fetch: 75% 75.0 MiB of 100.0 MiB  ") and "iB/s  " in last and "  2 of 3 files  " in last


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_a_bar_is_never_wider_than_its_terminal_and_has_one_base(columns: int) -> None:
    lines = [line for line in seen_on_a_terminal(SHOW, columns).replace("\x1b[A", "").splitlines() if line.startswith("fetch:")]
    assert max(map(len, lines)) <= columns
    assert all("75.0 MiB of 100.0 MiB" in line for line in lines[-1:])
    if columns > 60:
        assert "2 of 3 files" in lines[-1]


def test_a_bar_of_more_than_was_announced_says_nothing_else() -> None:
    program = SHOW.replace("task.advance(35 << 20)", "task.advance(350 << 20)")
    seen = seen_on_a_terminal("import warnings; warnings.simplefilter('always')\n" + program)
    assert "100% 390.0 MiB of 390.0 MiB" in seen and "Warning" not in seen


def test_in_a_pipe_a_step_is_a_line() -> None:
    done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == ["fetch: 100.0 MiB", "chat: model.safetensors: 40.0 MiB"]


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
