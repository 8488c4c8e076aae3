"""install.sh interrupted at random moments: run again it always ends healthy, and a third run changes nothing.

Rules: (1) a moment is a step of the installation and a random time after that step began, so that every step is hit on
machines of any speed; it comes by SIGINT or SIGKILL to the whole process group; (2) before each, something is taken away so
that the step has work to do; (3) after SIGINT nothing half is left behind, after SIGKILL the next run removes it; what a
killed run had started in groups of their own (a load) lives on and holds the kit's lock: whoever runs it again before that
ends is told so, the test waits; (4) OFFLINE_KIT_MOMENTS (5) is how many moments are tried, OFFLINE_KIT_SEED (1) which.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.hosts import Installed, install_kit, make_host, stop_kit
from tests.testbed.dockerd import Dockerd

pytestmark = pytest.mark.long  # minutes: make test-long runs it

# step of install.sh -> the longest that it is let run, in seconds
STEPS = {"Images": 12.0, "Services": 20.0, "Settings": 3.0, "Files": 2.0, "Smoke test": 1.5, "Host": 1.5}
MOMENTS, SEED = int(os.environ.get("OFFLINE_KIT_MOMENTS", "5")), int(os.environ.get("OFFLINE_KIT_SEED", "1"))


@dataclass(frozen=True)
class Moment:
    """When and how: `seconds` after `step` began, by `signal`, with these things gone before."""

    step: str
    seconds: float
    signal: signal.Signals
    gone: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.step}+{self.seconds:.1f}s-{self.signal.name}-without-{'-'.join(self.gone) or 'nothing'}"


def moments() -> list[Moment]:
    """As many as are asked for; the steps take turns, everything else is chance."""
    dice = random.Random(SEED)
    useful = {"Images": ("engine image", "gateway image"), "Services": ("containers",), "Settings": (".env", ".state")}
    made = []
    for number in range(MOMENTS):
        step = list(STEPS)[number % len(STEPS)]
        gone = {dice.choice(useful[step])} if step in useful else set()
        gone |= {thing for thing in GONE if dice.random() < 0.15}
        kind = dice.choice((signal.SIGINT, signal.SIGKILL))
        made.append(Moment(step, dice.uniform(0, STEPS[step]), kind, tuple(sorted(gone))))
    return made


def _containers_gone(kit: Installed) -> None:
    docker = kit.host.docker.docker
    for container in docker("ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project=demo").split():
        docker("rm", "--force", container)


def _image_gone(kit: Installed, key: str) -> None:
    docker = kit.host.docker.docker
    for container in docker("ps", "--all", "--quiet", "--filter", f"ancestor={_tag(kit, key)}").split():
        docker("rm", "--force", container)
    for image in docker("images", "--quiet", "--no-trunc", _tag(kit, key)).split():
        docker("rmi", "--force", image)


def _tag(kit: Installed, key: str) -> str:
    lines = (kit.kit / f"deploy/images/{key}/expect").read_text().splitlines()
    return next(line[4:] for line in lines if line.startswith("TAG="))


def _state_gone(kit: Installed) -> None:
    for path in (kit.kit / ".state").rglob("*"):
        if path.is_file():
            path.unlink()


GONE: dict[str, Callable[[Installed], None]] = {
    "containers": _containers_gone,
    ".env": lambda kit: (kit.kit / ".env").unlink(missing_ok=True),
    ".state": _state_gone,
    "gateway image": lambda kit: _image_gone(kit, "gateway"),
    "engine image": lambda kit: _image_gone(kit, "engine"),
}


@pytest.fixture(scope="module")
def kit(chat_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """The kit of the chat model, installed once."""
    folder = tmp_path_factory.mktemp("i")
    with Dockerd(folder / "d", airgap=True) as dockerd:
        done = install_kit(chat_bundle, make_host(dockerd, folder / "path"), folder / "host")
        yield done
        stop_kit(done)


def interrupt(kit: Installed, moment: Moment, scratch: Path) -> tuple[int, str]:
    """Runs install.sh and ends it at the moment, or when its step is over; exit status and what it said."""
    with subprocess.Popen(
        kit.host.argv("./install.sh", "--yes"), cwd=kit.kit, env={**kit.host.env, "TMPDIR": str(scratch)},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as run:  # fmt: skip
        said, reached, over = list[str](), threading.Event(), threading.Event()

        def listen() -> None:
            assert run.stderr
            for line in run.stderr:
                said.append(line)
                if reached.is_set() and line.startswith("==>"):
                    over.set()
                if line.startswith(f"==> {moment.step}"):
                    reached.set()
            reached.set()
            over.set()

        listener = threading.Thread(target=listen)
        listener.start()
        assert reached.wait(300)
        over.wait(moment.seconds)
        status = _end(run, moment.signal)
        # a load that was started in a group of its own may outlive SIGKILL, and holds the other end of what is listened to
        listener.join(120)
    return status, "".join(said)


def _end(run: subprocess.Popen[str], number: signal.Signals) -> int:
    """The signal, until it is heeded: bash loses one that comes just as a command substitution ends; people press again."""
    for _ in range(10):
        if run.poll() is None:
            os.killpg(run.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return run.wait(10)
    run.kill()
    raise AssertionError(f"install.sh does not end on {number.name}")


@pytest.mark.parametrize("moment", moments(), ids=str)
def test_interrupted_and_run_again_it_is_healthy(kit: Installed, moment: Moment, tmp_path: Path) -> None:
    for thing in moment.gone:
        GONE[thing](kit)
    began = time.monotonic()
    status, said = interrupt(kit, moment, tmp_path)
    cut = time.monotonic() - began
    # 4 to 7: bash lost the SIGINT (see _end), but the program that it waited for did not, and counts as failed
    assert status in (0, 130, -signal.SIGKILL, 4, 5, 6, 7), said
    if moment.signal == signal.SIGINT:
        assert list(tmp_path.iterdir()) == [], said
    waited = kit.host.run("flock", "--wait", "120", ".state/lock", "true", cwd=kit.kit)
    assert waited.returncode == 0, waited.stderr
    again = kit.host.run("./install.sh", "--yes", cwd=kit.kit)
    assert again.returncode == 0, f"exit {status}\n{said}\n---\n{again.stdout}\n{again.stderr}"
    healthy = time.monotonic() - began - cut
    before = kit.state()
    assert sorted(before[0]) == ["/demo-engine-chat-1", "/demo-gateway-1"]
    third = kit.host.run("./install.sh", "--yes", cwd=kit.kit)
    assert third.returncode == 0, third.stderr
    assert kit.state() == before
    everything = kit.host.docker.docker("ps", "--all", "--format", "{{.Names}}").split()
    assert sorted(everything) == ["demo-engine-chat-1", "demo-gateway-1"]
    left = [path.name for path in kit.kit.rglob("*") if ".partial" in path.name]
    assert left == []
    print(f"{moment}: exit {status} after {cut:.0f} s, healthy after {healthy:.0f} s, third {time.monotonic() - began:.0f} s")
