"""Names of files are UTF-8 bytes whatever the locale: real locales, each command as a user starts it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from offline_kit.bundle import unpack
from tests.support import intake_samples as parts
from tests.support.bundle_sample import VERSION, make_sample
from tests.testbed.cache import REPOSITORY
from tests.testbed.servers.registry import Registry

NAME, OTHER = "模型-größe.txt", "Ω.txt"
PROGRAM = str(Path(sys.executable).with_name("offline-kit"))
CHARSETS = {"zh_CN.GB18030": "GB18030", "de_DE.ISO-8859-1": "ISO-8859-1", "ru_RU.KOI8-R": "KOI8-R"}
ENVIRONMENTS: dict[str, dict[str, str]] = {
    **{name: {"LC_ALL": name} for name in CHARSETS},
    "C": {"LC_ALL": "C"},
    "POSIX": {"LC_ALL": "POSIX"},
    "unset": {},
    "C without UTF-8 mode": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "Latin-1, UTF-8 mode refused": {"LC_ALL": "de_DE.ISO-8859-1", "PYTHONUTF8": "0"},
    "a locale that is not there": {"LC_ALL": "xx_YY.UTF-8"},
}
Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture(scope="module")
def locales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("locales")
    for name, charset in CHARSETS.items():
        made = subprocess.run(["localedef", "-f", charset, "-i", name.partition(".")[0], folder / name], check=False)
        assert made.returncode in (0, 1) and (folder / name / "LC_CTYPE").exists(), "install the package 'locales'"
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    sample = make_sample(folder / "blobs")
    sample.model("named", {NAME: b"{}"})
    return sample.pack(folder / f"kit-{VERSION}.tar.gz")


@pytest.fixture(params=ENVIRONMENTS)
def run(request: pytest.FixtureRequest, locales: Path) -> Run:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    env = {**kept, "LOCPATH": str(locales), **ENVIRONMENTS[request.param]}

    def run(*command: str | Path, code: int = 0, **more: str) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run([*map(os.fsencode, command)], capture_output=True, env={**env, **more}, timeout=120, check=False)
        assert done.returncode == code, done
        assert b"Traceback" not in done.stderr
        return done

    return run


def test_a_bundle_is_read_and_unpacked(run: Run, bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "größe 模"
    run(PROGRAM, "verify", "-q", bundle)
    run(PROGRAM, "inspect", bundle)
    run(PROGRAM, "unpack", "-q", bundle, target)
    kit = target / f"kit-{VERSION}"
    assert (kit / "models/named" / NAME).read_bytes() == b"{}"
    run(PROGRAM, "verify", "-q", kit)
    (kit / "models/named" / NAME).write_bytes(b"[]")
    assert b"models/named/" in run(PROGRAM, "verify", "-q", kit, code=20).stdout
    run(PROGRAM, "verify", "--json", "-q", kit, code=20)


def test_a_path_that_is_answered_can_be_used(run: Run, bundle: Path, tmp_path: Path) -> None:
    """As in kit=$(offline-kit unpack ...): the bytes of the name, whatever the locale, and also where it is no UTF-8."""
    name = "größe 模 ".encode() + b"caf\xe9"
    told = run(PROGRAM, "unpack", "-q", bundle, tmp_path / os.fsdecode(name)).stdout
    assert told == os.fsencode(tmp_path) + b"/" + name + f"/kit-{VERSION}\n".encode() and Path(os.fsdecode(told[:-1])).is_dir()


def test_unpack_alone(run: Run, bundle: Path, tmp_path: Path) -> None:
    script = shutil.copy(unpack.__file__, tmp_path / "unpack.py")
    run(sys.executable, script, bundle, tmp_path / "größe 模")
    kit = tmp_path / "größe 模" / f"kit-{VERSION}"
    assert (kit / "models/named" / NAME).read_bytes() == b"{}"
    listed = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=kit, capture_output=True, check=False)
    assert listed.returncode == 0, listed


def test_differences_are_printed_even_where_the_output_lacks_a_letter(run: Run, bundle: Path, tmp_path: Path) -> None:
    sample = make_sample(tmp_path / "blobs")
    sample.model("named", {OTHER: b"{}"})
    other = sample.pack(tmp_path / f"other-{VERSION}.tar.gz")
    for more in ({}, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1:strict"}):
        run(PROGRAM, "diff", bundle, other, **more)


@pytest.mark.parametrize("name", [*CHARSETS, "C"])
def test_through_a_pipe_names_are_right_or_nothing_is_written(name: str, locales: Path, bundle: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-", str(bundle), str(tmp_path / "out")]
    env = {"LC_ALL": name, "LOCPATH": str(locales)}
    done = subprocess.run(command, input=Path(unpack.__file__).read_bytes(), capture_output=True, env=env, check=False)
    if name == "C":  # Python takes UTF-8 by itself
        assert (tmp_path / f"out/kit-{VERSION}/models/named" / NAME).exists()
    else:
        assert done.returncode == 1 and b"python3 -X utf8 -" in done.stderr
        assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    work = tmp_path_factory.mktemp("registry")
    with Registry(work / "storage", work) as running:
        for key in ("engine", "gateway"):
            parts.push(running.url, key, "v1", parts.image("gzip", content=key))
        yield running


def project(folder: Path, registry: Registry) -> Path:
    """A manifest in ``folder`` whose models are one folder beside it."""
    shutil.copytree(REPOSITORY / "config/demo", folder / "config/demo")
    weights = parts.safetensors({"w": b"x" * 100})
    parts.write(folder / "模", {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": weights, NAME: b"x"})
    images = "\n".join(f"  {key}: {{source: 'docker://{registry.host}/{key}:v1'}}" for key in ("engine", "gateway"))
    models = "\n".join(f"  {key}: {{source: 'dir://模'}}" for key in ("chat", "embedding", "rerank"))
    where = "services: config/demo/models.json\nengine_config: config/demo/vllm_config.yaml\n"
    text = f"apiVersion: offline-kit/v1\nname: kit\naccelerator: cpu\nimages:\n{images}\nmodels:\n{models}\n{where}"
    (folder / "清单.yaml").write_text(text, encoding="utf-8")
    return folder / "清单.yaml"


def test_a_folder_is_packed_under_its_own_names(run: Run, registry: Registry, tmp_path: Path) -> None:
    manifest = project(tmp_path / "größe 文", registry)
    places = ("--manifest", manifest, "--store", tmp_path / "lager 库", "--output", tmp_path / "aus 出")
    run(PROGRAM, "build", "--version", "v1", *places)
    with tarfile.open(tmp_path / "aus 出/kit-v1.tar.gz", encoding="utf-8") as tar:
        assert f"kit-v1/models/chat/{NAME}" in tar.getnames()
    assert (manifest.parent / "清单.lock.json").exists()
    # The same bytes again, in whatever locale: nothing is stale, nothing is read anew.
    run(PROGRAM, "build", "--locked", "--version", "v1", *places)


def test_a_name_that_is_no_utf8_is_told(run: Run, registry: Registry, tmp_path: Path) -> None:
    manifest = project(tmp_path / "project", registry)
    latin = os.fsencode(manifest.parent / "模") + b"/gr\xf6\xdfe.txt"
    Path(os.fsdecode(latin)).write_bytes(b"x")
    places = ("--manifest", manifest, "--store", tmp_path / "store", "--output", tmp_path / "out")
    told = run(PROGRAM, "build", "--version", "v1", *places, code=3).stderr
    assert b"UTF-8" in told and b"rename" in told
    assert not (tmp_path / "out").exists()
