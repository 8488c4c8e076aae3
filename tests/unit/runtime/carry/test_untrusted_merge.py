"""An upgrade asks the engine image to merge configuration: what it may answer, and what its answer may touch."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.docker_stand_in import docker
from tests.testbed.cache import REPOSITORY
from tests.unit.runtime.test_apply import kit
from tests.unit.runtime.test_untrusted_image import program

__all__ = ["kit"]


@pytest.fixture
def old(kit: Path) -> Path:
    """The version before, with edits; ``kit`` is the new one, as it came."""
    folder = kit / "old version"
    for made in (folder / "config/monitoring", folder / ".state/config.orig/monitoring", kit / ".state/config.orig"):
        made.mkdir(parents=True)
    for place, value in ((folder / ".state/config.orig", "1"), (folder / "config", "2"), (kit / ".state/config.orig", "1")):
        (place / "vllm_config.yaml").write_text(f"seed: {value}\n")
        (place / "both.yaml").write_text(f"seed: {value}\n")
    (kit / ".state/config.orig/both.yaml").write_text("seed: 3\nnew: 1\n")
    (folder / "config/monitoring/mine .txt").write_bytes(b"no line end, \xff and \x00 in it")
    (kit / ".state/config.orig/new.txt").write_text("new\n")
    shutil.rmtree(kit / "config")
    shutil.copytree(kit / ".state/config.orig", kit / "config")
    return folder


@pytest.fixture
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is no part of the kit."""
    return tmp_path_factory.mktemp("outside")


def carried(kit: Path, old: Path, instead: str = "") -> subprocess.CompletedProcess[str]:
    home = kit.parent / f"{kit.name}-home"
    docker(home, instead)
    script = f'. "{REPOSITORY}/scripts/lib/verbs/receive.sh" && open_kit "$0/x" && work_folder && carry_config "$1"'
    env = {**os.environ, "PATH": f"{home}:{os.environ['PATH']}"}
    command = ["bash", "-c", script, str(kit), str(old)]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, cwd=kit)


def below(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mode & 0o7777)
        for path in folder.rglob("*")
        if path.is_file() and "runtime/" not in str(path) and "old version/" not in str(path.relative_to(folder))
    }


def test_edits_are_carried(kit: Path, old: Path) -> None:
    done = carried(kit, old)
    assert done.returncode == 0, done.stderr
    config = kit / "config"
    assert (config / "vllm_config.yaml").read_text() == "seed: 2\n"
    assert (config / "both.yaml").read_text() == "seed: 2\nnew: 1\n"
    assert (config / "monitoring/mine .txt").read_bytes() == b"no line end, \xff and \x00 in it"
    assert (config / "new.txt").read_text() == "new\n" and not (config / "models.json").exists()
    assert "CONFLICT config/both.yaml: seed: yours is used (2); the new default is 3" in done.stderr
    conflicts = {name: (kit / f".state/conflicts/{name}/both.yaml").read_text() for name in ("yours", "new")}
    assert conflicts == {"yours": "seed: 2\n", "new": "seed: 3\nnew: 1\n"}


def test_the_image_has_no_place_to_write(kit: Path, old: Path, outside: Path) -> None:
    shown = outside / "shown"
    spy = f"import sys\nopen({str(shown)!r}, 'w').write('\\n'.join(sys.argv))\nsys.exit(3)\n"
    assert carried(kit, old, program(outside / "spy", spy)).returncode == 3
    words = shown.read_text().split("\n")
    mounts = [words[at + 1] for at, word in enumerate(words) if word == "-v"]
    assert len(mounts) == 4 and all(mount.endswith(":ro") for mount in mounts)


HONEST = "offline-kit-config 1\nMINE vllm_config.yaml\nEND\n"
ANSWERS: dict[str, Callable[[str], str]] = {
    "a conflict that climbs": lambda text: text.replace("END", "CONFLICT ../../../etc/passwd\nEND"),
    "a conflict of a file that is nowhere": lambda text: text.replace("END", "CONFLICT other.yaml\nEND"),
    "a merged file that climbs": lambda text: text.replace("END", "MERGED 1 ../.env\nA=1\nEND"),
    "a merged file that nobody has": lambda text: text.replace("END", "MERGED 1 evil.sh\nA=1\nEND"),
    "a file by its full path": lambda text: text.replace("vllm_config.yaml", "/etc/passwd"),
    "a file that the side has not": lambda text: text.replace("vllm_config.yaml", "new.txt"),
    "a file twice": lambda text: text.replace("END", "NEW vllm_config.yaml\nEND"),
    "another word": lambda text: text.replace("MINE", "THEIRS"),
    "no end": lambda text: text.replace("END\n", ""),
    "more than the end": lambda text: text + "MINE both.yaml\n",
    "too few lines": lambda text: text.replace("MINE", "MERGED 9"),
    "no number of lines": lambda text: text.replace("MINE", "MERGED -1"),
    "noise": lambda text: "hello\n" + text,
    "nothing": lambda text: "",
    "more than there is room for": lambda text: text.replace("END", f"TELL {'x' * (9 << 20)}\nEND"),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_of_another_kind_changes_nothing(name: str, kit: Path, old: Path, outside: Path) -> None:
    (outside / "answer").write_text(ANSWERS[name](HONEST))
    play = program(outside / "image", f"import sys\nsys.stdout.write(open({str(outside / 'answer')!r}).read())\n")
    before = below(kit)
    done = carried(kit, old, play)
    assert done.returncode == 22, done.stderr
    assert "the engine image wrote what this kit never writes: an answer of another form" in done.stderr
    assert below(kit) == {**before, ".state/carrying": (b"", 0o644)}
