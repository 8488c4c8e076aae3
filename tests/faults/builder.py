"""The connected side for the fault tests: a project with all that can be fetched, each stage a command.

Rules: a workspace is a folder with everything that a stage reads and writes, so that it can lie on a disk that misbehaves;
``sound`` looks at everything that has a final name, whatever ended the run; ``finished`` besides at what the stage was to make.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from offline_kit.bundle.verify.verify import verify
from offline_kit.common.digest import Digest
from offline_kit.common.progress import Silent

PROGRAM = Path(sys.executable).with_name("offline-kit")
BUNDLE, PARTS = "out/demo-v1.tar.gz", "parts/demo-v1.parts.json"
LOCK, KEY = "project/manifests/demo.lock.json", "release.key"
_PLACES = ("--manifest", "project/manifests/demo.yaml", "--store", "store")
_BUILD = ("build", "--locked", "--version", "v1", "--output", "out", *_PLACES)

# Runs the command; at the AT-th time that it makes, replaces or removes a name that matches WHERE, it gets the signal NUMBER;
# where READS is yes, at the AT-th time that it opens one. The count goes to COUNTED at its end. The interpreter itself tells of
# these calls (sys.addaudithook).
_INTERRUPTED = """
import atexit, os, re, sys
at, number, where, counted, reads = int(sys.argv[1]), int(sys.argv[2]), re.compile(sys.argv[3]), sys.argv[4], sys.argv[5]
count = 0
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link")
def watch(event, arguments):
    global count
    opened = event == "open" and (reads == "yes" or arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    if (opened or event in CHANGES) and isinstance(arguments[0], (str, os.PathLike)) and where.search(os.fspath(arguments[0])):
        count += 1
        if count == at:
            os.kill(os.getpid(), number)
sys.addaudithook(watch)
atexit.register(lambda: open(counted, "w").write(str(count)))
sys.argv[:6] = ["offline-kit"]
from offline_kit.cli.main import main
main()
"""


@dataclass(frozen=True)
class Stage:
    """A command; ``takes`` of the workspace must be there, ``makes`` is there afterwards; ``changes``: names on its way."""

    command: tuple[str, ...]
    takes: tuple[str, ...]
    makes: tuple[str, ...]
    changes: str
    without: tuple[str, ...] = ()
    reads: str = ""  # a file that it cannot do without


_PROJECT = ("project", "release.key", "release.pub")
STAGES = {
    "lock": Stage(
        ("lock", *_PLACES), _PROJECT, (LOCK,), r"lock\.json|store/", (LOCK,), "project/mine/model.safetensors",
    ),
    "fetch": Stage(_BUILD, _PROJECT, (BUNDLE,), "store/(blobs|partial)", reads="project/mine/model.safetensors"),
    "convert, scan": Stage(
        _BUILD, (*_PROJECT, "store"), (BUNDLE,), "store/(convert|scan)-", ("converted", "store/memo"), "pickled",
    ),
    "pack": Stage(_BUILD, (*_PROJECT, "store"), (BUNDLE,), "out/", reads="weights"),
    "sign": Stage(
        ("sign", BUNDLE, "--key", KEY), (*_PROJECT, "out"), ("out/demo-v1.SHA256SUMS.sig", "out/demo-v1.SHA256SUMS"), "out/",
        ("out/demo-v1.SHA256SUMS", "out/demo-v1.SHA256SUMS.sig", "out/demo-v1.SHA256SUMS.sigstore.json"),
        BUNDLE,
    ),
    "split, join": Stage(
        ("split", BUNDLE, "--size", "1MiB", "--output", "parts"), (*_PROJECT, "out"), (PARTS,), "parts/", reads=BUNDLE,
    ),
    "split, join:: join": Stage(
        ("join", PARTS, "--output", "joined"), (*_PROJECT, "parts"), ("joined/demo-v1.tar.gz",), "joined/",
        reads="parts/demo-v1.tar.gz.002",
    ),
    "verify": Stage(("verify", BUNDLE), (*_PROJECT, "out"), (), BUNDLE, (), BUNDLE),
    "unpack": Stage(("unpack", BUNDLE, "target"), (*_PROJECT, "out"), ("target/demo-v1",), r"^(?!/)|target/", (), BUNDLE),
}  # fmt: skip


@dataclass(frozen=True)
class Template:
    """A workspace in which every stage came to its end; ``names``: what the stages call by other names than they have."""

    root: Path
    names: Mapping[str, str]
    environment: Mapping[str, str] = field(default_factory=dict)

    def workspace(self, stage: str, root: Path) -> Workspace:
        """A workspace in ``root`` that is ready for the stage."""
        spec = STAGES[stage]
        root.mkdir(parents=True, exist_ok=True)
        for name in spec.takes:
            source = self.root / name
            if source.is_dir():
                shutil.copytree(source, root / name, symlinks=True)
            elif source.exists():
                shutil.copy2(source, root / name)
        for name in spec.without:
            path = root / self.names.get(name, name)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        (root / "target").mkdir()
        return Workspace(self, stage, root)


@dataclass(frozen=True)
class Workspace:
    """A folder in which a stage is run."""

    template: Template
    stage: str
    root: Path

    @property
    def spec(self) -> Stage:
        return STAGES[self.stage]

    @property
    def reads(self) -> str:
        """The file that the stage cannot do without."""
        return self.template.names.get(self.spec.reads, self.spec.reads)

    def at(self, root: Path) -> Workspace:
        """The same in another place."""
        return Workspace(self.template, self.stage, root)

    def run(self, prefix: Sequence[str | Path] = (), env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """The stage, to its end."""
        return self._run([*prefix, PROGRAM, *self.spec.command], env)

    def run_command(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Any other command, in the same place."""
        return self._run([PROGRAM, *command], None)

    def start(self) -> subprocess.Popen[str]:
        """The stage, in the background."""
        return subprocess.Popen(
            [str(PROGRAM), *self.spec.command], cwd=self.root, env={**os.environ, **self.template.environment},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run_interrupted(self, at: int, number: int, counted: Path) -> subprocess.CompletedProcess[str]:
        """The stage, which gets a signal at its ``at``-th change of a name, or opened file where it makes none; 0: counts."""
        hook: list[str | Path] = [sys.executable, "-c", _INTERRUPTED, str(at), str(int(number)), self.spec.changes, counted]
        hook.append("no" if self.spec.makes else "yes")
        return self._run([*hook, *self.spec.command], None)

    def _run(self, command: Sequence[str | Path], env: Mapping[str, str] | None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(word) for word in command], cwd=self.root, env={**os.environ, **self.template.environment, **(env or {})},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    def sound(self) -> None:
        """Whatever has a final name is whole, and what was there before is as it was."""
        for blob in (self.root / "store/blobs/sha256").glob("*"):
            assert Digest.of_file(blob).hex == blob.name
        for name in ("out", "joined"):
            for bundle in (self.root / name).glob("*.tar.gz"):
                assert bundle.read_bytes() == (self.template.root / BUNDLE).read_bytes()
            self._sums(self.root / name)
        if (self.root / PARTS).exists():
            assert verify(self.root / PARTS, progress=Silent()).whole
            self._sums(self.root / "parts")
        for name in (LOCK, "out/demo-v1.SHA256SUMS"):
            if (self.root / name).exists():
                assert (self.root / name).read_bytes() == (self.template.root / name).read_bytes()
        signature = self.root / "out/demo-v1.SHA256SUMS.sig"
        if signature.exists():
            listed = self.template.root / "out/demo-v1.SHA256SUMS"
            key = self.template.root / "release.pub"
            check = ["openssl", "dgst", "-sha256", "-verify", str(key), "-signature", str(signature), str(listed)]
            subprocess.run(check, check=True, capture_output=True)
        for kit in (self.root / "target").glob("[!.]*"):
            assert verify(kit, progress=Silent()).whole

    def finished(self) -> None:
        """The stage made what it was to make."""
        self.sound()
        for name in self.spec.makes:
            assert (self.root / name).exists(), f"{name} is not there"

    def left(self) -> list[str]:
        """What no run may leave behind."""
        patterns = ["store/partial/tmp-*", "store/convert-*", "store/scan-*", "target/.*"]
        patterns += ["*/.*.partial", "*/*/.*.partial", "*/*.partial"]
        return sorted(str(path.relative_to(self.root)) for pattern in patterns for path in self.root.glob(pattern))

    def age(self) -> None:
        """An hour goes by for what an interrupted run left."""
        for name in self.left():
            path = self.root / name
            os.utime(path, (path.stat().st_atime - 3600, path.stat().st_mtime - 3600))

    def _sums(self, folder: Path) -> None:
        for sums in folder.glob("*.sha256"):
            for line in sums.read_text().splitlines():
                digest, name = line.split("  ", 1)
                assert not (folder / name).exists() or Digest.of_file(folder / name).hex == digest
