"""Pipes, devices, links and trees without end where files are looked for: told, never waited for, never read to their end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from offline_kit.bundle import unpack
from offline_kit.bundle.read import folder
from offline_kit.bundle.read.observed import ENTRIES_AT_MOST
from offline_kit.bundle.signature.keys import generate_key_pair
from offline_kit.bundle.split_join import split
from offline_kit.common.errors import BundleUnreadable, DiskError, SpecError
from offline_kit.common.progress import Silent
from offline_kit.project import open_project
from offline_kit.release.index import read_index
from offline_kit.runtime import kit as installed
from offline_kit.runtime.settings.model import ConfigError
from tests.support.bundle_sample import make_sample

OK = Path(sys.executable).with_name("offline-kit")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_sample(tmp_path / "blobs", weights=1_500_000).pack(tmp_path / "kit-v1.0.0.tar.gz")


@pytest.fixture
def kit(bundle: Path, tmp_path: Path) -> Path:
    source = unpack.Files([bundle])
    made = unpack.unpack(source, tmp_path / "unpacked", 1)
    source.close()
    return made


def run(*arguments: str | Path) -> tuple[int, str]:
    """Exit code and what is said, of a command that must not take long."""
    done = subprocess.run([str(item) for item in arguments], capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr and "fault in offline-kit" not in done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("command", [("verify",), ("inspect",), ("unpack",), ("join",), ("diff", "{}")])
def test_a_list_of_parts_that_is_a_pipe(command: tuple[str, ...], tmp_path: Path) -> None:
    listed = tmp_path / "kit-v1.0.0.parts.json"
    os.mkfifo(listed)
    code, said = run(OK, command[0], listed, *(text.format(listed) for text in command[1:]))
    assert code in (9, 21) and "neither a file nor a folder" in said
    code, said = run(sys.executable, unpack.__file__, listed, tmp_path / "x")
    assert code == 21 and "is not a file" in said


@pytest.mark.parametrize("name", ["SHA256SUMS.sigstore.json", "SHA256SUMS.sig"])
def test_a_signature_that_is_a_pipe(kit: Path, name: str, tmp_path: Path) -> None:
    generate_key_pair(tmp_path / "k.key", tmp_path / "k.pub", None)
    os.mkfifo(kit / name)
    code, said = run(OK, "sign", kit, "--key", tmp_path / "k.key")
    assert code == (9 if name.endswith(".json") else 0), said
    assert run(OK, "verify", "--key", tmp_path / "k.pub", kit)[0] in (0, 20, 22)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_an_option_names_is_a_plain_file(bundle: Path, kind: str, tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    if kind == "pipe":
        os.mkfifo(odd)
    else:
        odd.symlink_to("/dev/zero")
    for command in (("verify", "--policy", odd), ("verify", "--key", odd), ("sign", "--key", odd), ("record", "--key", odd)):
        code, said = run(OK, *command, bundle)
        assert code == 9 and "is neither a file nor a folder" in said, (command, said)


def test_an_index_of_releases_that_is_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "releases.json")
    with pytest.raises(DiskError, match="neither a file"):
        read_index(tmp_path, "kit")


@pytest.mark.parametrize("content", [b"", b"no bundle"])
def test_what_is_no_bundle_is_not_split(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "kit-v1.0.0.tar.gz").write_bytes(content)
    with pytest.raises(BundleUnreadable, match="not a bundle"):
        split(tmp_path / "kit-v1.0.0.tar.gz", 1 << 20, tmp_path / "out", progress=Silent())


def test_what_lies_at_the_place_of_unpack_py_is_not_opened(bundle: Path, tmp_path: Path) -> None:
    for number, target in enumerate(("", "/dev/zero", "gone")):
        output = tmp_path / str(number)
        output.mkdir()
        if target:
            (output / "unpack.py").symlink_to(target)
        else:
            os.mkfifo(output / "unpack.py")
        split(bundle, 1 << 20, output, progress=Silent())
        assert not (output / "unpack.py").is_file()


def test_a_file_that_changes_while_it_is_read_is_a_finding() -> None:
    # Files of /proc say that they are empty and are not: as one that somebody writes to at this moment.
    evidence = folder.observe(Path("/proc/sys/kernel/random"), 1, False, Silent())
    assert "cannot be read: it changed while it was read" in {finding.what for finding in evidence.findings}


def test_a_tree_without_end(kit: Path) -> None:
    place = os.open(kit, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=place)
        place, outer = os.open("d", os.O_RDONLY, dir_fd=place), place
        os.close(outer)
    os.close(place)
    code, said = run(OK, "verify", kit)
    subprocess.run(["rm", "-rf", kit / "d"], check=True)  # too deep for pytest, which removes what old runs left
    assert code == 20 and "is a folder below 64 others" in said


def test_more_files_than_a_kit_may_have(kit: Path) -> None:
    own = kit / "models/own"
    own.mkdir()
    (own / "first").write_bytes(b"")
    for number in range(ENTRIES_AT_MOST):
        os.link(own / "first", own / str(number))
    code, said = run(OK, "verify", kit)
    assert code == 20 and "more files than a kit may have" in said


MANIFEST = """apiVersion: offline-kit/v1
name: kit
images: {{engine: {{source: "docker://e/e:1"}}, gateway: {{source: "docker://e/g:1"}}}}
models: {{chat: {{source: "{model}"}}}}
services: {services}
engine_config: e.yaml
"""


@pytest.mark.parametrize(
    ("model", "services", "error", "word"),
    [
        ("hf://a/b", "pipe", DiskError, "neither a file nor a folder"),
        ("hf://a/b", "/dev/zero", DiskError, "neither a file nor a folder"),
        ("hf://a/b", "large", DiskError, "too large"),
        ("hf://a/b", "s" * 300, SpecError, "longer than any file system takes"),
        ("hf://a/b", '"a\\0b"', SpecError, "NUL"),
        ("dir:///" + "d" * 300, "m.json", SpecError, "longer than any file system takes"),
        ("dir:///d" + "/d" * 3000, "m.json", SpecError, "longer than any file system takes"),
    ],
)
def test_paths_in_a_manifest(model: str, services: str, error: type[Exception], word: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(bytes(9 << 20))
    (tmp_path / "m.yaml").write_text(MANIFEST.format(model=model, services=services))
    with pytest.raises(error, match=word):
        open_project(tmp_path / "m.yaml")


@pytest.mark.parametrize("name", ["config/models.json", "config/vllm_config.yaml", "deploy/kit.env", ".env"])
def test_the_files_of_an_installed_kit(name: str, kit: Path) -> None:
    place = kit / name
    for content, word in ((b"A=1\nB=\xff\n", f"{name}, line 2: is not UTF-8"), (bytes(9 << 20), "has more than")):
        place.write_bytes(content)
        with pytest.raises(ConfigError, match=word):
            installed.read(kit)
    place.unlink()
    os.mkfifo(place)
    with pytest.raises(ConfigError, match="is not a file"):
        installed.read(kit)
