"""What a new user does wrong in the first hour: each mistake is one line that says what is wrong, where, and what to do.

The real command in a process of its own is slow for so many rows: they call ``main``, which prints and exits as it does.
"""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from offline_kit.cli.main import main
from tests.unit.start.model_folders import CHAT, ENCODER, make_model_folder

Said = Callable[..., str]
PROGRAM = Path(sys.executable).with_name("offline-kit")


@pytest.fixture(scope="module")
def site_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The files of a project with two folders of models, as ``init`` writes them."""
    work = tmp_path_factory.mktemp("first")
    make_model_folder(work / "models/my-chat", CHAT, 1 << 20)
    make_model_folder(work / "models/my-embed", ENCODER, 1 << 20)
    models = [word for name in ("my-chat", "my-embed") for word in ("--model", str(work / "models" / name))]
    subprocess.run(
        [PROGRAM, "init", work / "site", *models, "--gpus", "1x24GiB", "--non-interactive", "--quiet", "--store", work / "s"],
        check=True, capture_output=True,
    )  # fmt: skip
    files = ("manifests/site.yaml", "config/models.json", "config/vllm_config.yaml")
    return {name: (work / "site" / name).read_text() for name in files}


@pytest.fixture
def site(site_files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That project, and the working directory in it."""
    for name, text in site_files.items():
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path / "site")
    monkeypatch.setenv("OFFLINE_KIT_STORE", str(tmp_path / "store"))
    return tmp_path / "site"


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Said:
    """Runs ``offline-kit ARGUMENTS``, expects exit ``code``, and gives stdout and stderr."""

    def run(code: int, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["offline-kit", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, talk = capsys.readouterr()
        assert ended.value.code == code, out + talk
        assert "Traceback" not in talk and "a fault in offline-kit" not in talk
        return out + talk

    return run


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


MANIFEST = {
    "no gateway": (
        '  gateway: {source: "docker://docker.io/library/nginx:1.29-alpine"}\n', "",
        'line 9: images: gateway missing: the kit needs an image for each of these, such as gateway: {source: "docker://nginx:',
    ),
    "a name with blank and capitals": (
        'name: "site"', "name: My Site", 'name: "My Site": lower case letters and digits, with . _ or - between them',
    ),
    "a list as a text": ('my-chat"}', 'my-chat", exclude: "*.md"}', 'my-chat.exclude: must be a list, such as ["*.md"]'),
    "an image as a text": (
        '{source: "docker://docker.io/vllm/vllm-openai:v0.33.0"}', "docker://x/y:1",
        'images.engine: must be a mapping, such as {source: "docker://x/y:1"}',
    ),
    "a target as a text": ('{gpus: "1x24GiB"}', "2x48GiB", 'target: must be a mapping, such as {gpus: "2x48GiB"}'),
    "a plain path": ('"dir:///', '"/', " -> did you mean 'dir:///"),
    "file://": ('"dir:///', '"file:///', " -> did you mean 'dir:///"),
    "dir:/x": ('"dir:///', '"dir:/', " -> did you mean 'dir:///"),
    "a tab": ("models:\n", "models:\n\tx: y\n", "blanks instead of tabs, as many as in the lines beside it"),
    "an indentation": ("  my-embed: ", "   my-embed: ", "indent it as the lines beside it, with blanks"),
    "a revision of a folder": (
        'my-chat"}', 'my-chat", revision: main}', "'revision' has no meaning for a folder: leave it out",
    ),
    "a GPU by a number": ('"1x24GiB"', '"4090:2"', "target.gpus of the manifest: '4090' is neither a size such as 48GiB nor"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MANIFEST)
def test_a_mistake_in_the_manifest(mistake: str, site: Path, said: Said) -> None:
    old, new, words = MANIFEST[mistake]
    edit(site / "manifests/site.yaml", old, new)
    talk = said(3, "plan")
    assert words in talk and talk.startswith("offline-kit: ")
    assert "pattern '" not in talk and "instance of" not in talk


def test_several_mistakes_have_one_form(site: Path, said: Said) -> None:
    edit(site / "manifests/site.yaml", "platform: linux/amd64", "foo: bar\nplatform: x")
    first, *rest = said(3, "plan").splitlines()
    assert first == "offline-kit: 2 mistakes in manifests/site.yaml:"
    assert len(rest) == 2 and all(line.startswith("manifests/site.yaml, line ") for line in rest)


def test_texts_in_other_encodings(site: Path, said: Said) -> None:
    config = site / "config/models.json"
    config.write_bytes(b"\xef\xbb\xbf" + config.read_bytes())
    assert said(0, "plan").rstrip().endswith("starts")
    manifest = site / "manifests/site.yaml"
    manifest.write_bytes(manifest.read_text().encode("utf-16"))
    assert "is not UTF-8 text -> save it as UTF-8" in said(3, "plan")


def test_models_of_manifest_and_models_json_belong_together(site: Path, said: Said) -> None:
    config = site / "config/models.json"
    models = json.loads(config.read_text())["models"]
    entry = models.pop("my-embed")
    config.write_text(json.dumps({"models": models}))
    talk = said(0, "plan")
    assert "my-embed" in talk and "no entry of models.json serves it" in talk and '"my-embed": {' in talk
    models["my-rerank"] = {**entry, "path": "/models/my-rerank", "type": "rerank"}
    config.write_text(json.dumps({"models": models}))
    talk = said(3, "plan")
    assert "there is no model 'my-rerank' in the kit -> take this entry out, or put the model back" in talk


def test_a_dtype_that_no_engine_knows(site: Path, said: Said) -> None:
    edit(site / "config/models.json", '"dtype": "auto"', '"dtype": "float17"')
    assert "my-chat.dtype: 'float17' is not usable -> give one of auto, bfloat16, float16" in said(3, "plan")


def test_a_plan_is_not_certain_of_what_it_does_not_know(site: Path, said: Said, tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path / "odd", CHAT, 1 << 20)
    (folder / "config.json").unlink()
    manifest = site / "manifests/site.yaml"
    line = next(line for line in manifest.read_text().splitlines() if line.startswith("  my-chat: "))
    edit(manifest, line, f'  my-chat: {{source: "dir://{folder}"}}')
    assert said(0, "plan").splitlines()[-1] != "starts"


@pytest.mark.parametrize("gpus", ["4090:2", "A6000", "rtx", "0x24GiB", "2x", "x"])
def test_no_card_is_made_up_from_a_number(gpus: str, site: Path, said: Said) -> None:
    lines = said(2, "plan", "--gpu", gpus).splitlines()
    assert max(map(len, lines)) < 300


INCOMPLETE = {
    "a shard is missing": ("model-00002-of-00002.safetensors", "copy the missing files into the folder again", 5),
    "a git-LFS pointer": ("a git-LFS pointer instead of the file: model.safetensors", "lfs pull", 8),
}


@pytest.mark.parametrize("what", INCOMPLETE)
def test_a_folder_that_was_copied_by_halves(what: str, site: Path, said: Said, tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path / "half", CHAT, 1 << 20)
    weights = folder / "model.safetensors"
    if "shard" in what:
        weights.rename(folder / "model-00001-of-00002.safetensors")
        shards = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(shards))
    else:
        weights.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 2147483648\n")
    manifest = site / "manifests/site.yaml"
    line = next(line for line in manifest.read_text().splitlines() if line.startswith("  my-chat: "))
    edit(manifest, line, f'  my-chat: {{source: "dir://{folder}"}}')
    words, remedy, code = INCOMPLETE[what]
    talk = said(code, "plan")
    assert words in talk and remedy in talk and "another revision" not in talk


def test_what_others_made_is_not_damaged(tmp_path: Path, said: Said) -> None:
    tar, noise, text = tmp_path / "foreign.tar.gz", tmp_path / "noise.gz", tmp_path / "text.txt"
    (tmp_path / "a").write_text("a")
    with tarfile.open(tar, "w:gz") as archive:
        archive.add(tmp_path / "a", "a")
    noise.write_bytes(gzip.compress(bytes(range(256)) * 40))
    text.write_text("hello")
    for command in ("verify", "inspect", "unpack", "plan"):
        for path in (tar, noise):
            assert f"{path}: not made by offline-kit -> name NAME-VERSION.tar.gz" in said(21, command, path)
        assert "not a bundle: neither a gzip nor a zstd file" in said(21, command, text)


SIZES = {
    ("--split", "4"): "parts of 4 bytes are too small: 1.0 MiB at least; 4 GiB are --split 4GiB",
    ("--split", "9999"): "parts of 9,999 bytes are too small: 1.0 MiB at least",
    ("--medium", "64"): "parts of ",
    ("--split", "fast"): "write it as 4GiB, 700MB or 4294967295",
}


@pytest.mark.parametrize("words", SIZES)
def test_sizes_without_a_unit(words: tuple[str, str], site: Path, said: Said) -> None:
    for more in ([], ["--dry-run"]):
        assert SIZES[words] in said(2, "build", "--version", "v1", *words, *more)
    assert not (site.parent / "store/blobs").exists(), "asked and fetched nothing"
    assert SIZES[words] in said(
        2, "split", site / "manifests/site.yaml", words[0].replace("--split", "--size"), words[1]
    ).replace("--size", "--split")


def test_places_that_cannot_be_written(site: Path, said: Said) -> None:
    talk = said(9, "build", "--version", "v1", "--output", "/proc/none")
    assert "/proc: nothing can be written there" in talk and "name another folder with --output" in talk
    assert "not a version: 'v 1'" in said(3, "build", "--version", "v 1")
    assert "the version is an option: --version v1.0.0" in said(2, "build", "v1.0.0")


def test_a_registry_that_is_down_is_told_with_each_retry(site: Path) -> None:
    edit(site / "manifests/site.yaml", "docker.io/vllm/vllm-openai", "127.0.0.1:1/vllm")
    with subprocess.Popen([PROGRAM, "lock"], stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr
        line = child.stderr.readline()
        child.terminate()
    assert re.fullmatch(r"127\.0\.0\.1:1: .*refused: again in 0\.[0-9] s, attempt 2 of 6\n", line)
