"""``offline-kit render kubernetes`` on a bundle: files, keys, what is refused, what a second run leaves and removes."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from offline_kit.bundle.extract import extract
from offline_kit.bundle.format import paths
from offline_kit.cli.main import cli
from offline_kit.common.errors import BundleDamaged, BundleUnreadable, KitError, SpecError
from offline_kit.common.progress import Silent
from tests.support.bundle_sample import Sample, files_of, forge, make_sample, put_json, seal
from tests.unit.runtime.test_config import entry

REGISTRY = "registry.example:5000/ai"
TWO = {"chat": entry(name="chat"), "embedding": entry(name="e", path="/models/embedding", type="embedding", port=8002)}


def sample_of(folder: Path, models: dict[str, dict[str, Any]]) -> Sample:
    made = make_sample(folder)
    made.texts["config/models.json"] = json.dumps({"models": models}).encode()
    return made


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("render")
    return sample_of(folder / "blobs", TWO).pack(folder / "kit-v1.0.0.tar.gz")


def render(path: Path, output: Path, *options: str, registry: str = REGISTRY, namespace: str = "models") -> Result:
    words = ["--registry", registry, "--namespace", namespace, "--output", str(output), "--quiet"]
    return CliRunner().invoke(cli, ["render", "kubernetes", str(path), *words, *options])


def error_of(path: Path, output: Path, *options: str, **more: str) -> KitError:
    result = render(path, output, *options, **more)
    assert isinstance(result.exception, KitError), result.output
    return result.exception


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def read(output: Path, name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((output / name).read_text()))


def test_a_bundle_and_its_folder_give_the_same_files(bundle: Path, tmp_path: Path) -> None:
    result = render(bundle, tmp_path / "out", "--weights", "image")
    assert result.exit_code == 0, result.output
    names = sorted(Path(line).name for line in result.stdout.splitlines())
    assert sorted([*names, "keys"]) == names_in(tmp_path / "out") and "kustomization.yaml" in names
    assert "router.yaml" not in names and "engine-embedding.yaml" in names
    for name in ("keys", "gateway-keys.yaml"):
        assert stat.S_IMODE((tmp_path / "out" / name).stat().st_mode) == 0o600
    kit, _ = extract(bundle, tmp_path, progress=Silent())
    (tmp_path / "again").mkdir()
    (tmp_path / "again/keys").write_bytes((tmp_path / "out/keys").read_bytes())
    assert render(kit, tmp_path / "again").exit_code == 0
    for name in names:
        assert (tmp_path / "again" / name).read_text() == (tmp_path / "out" / name).read_text()


def test_keys_stay_and_what_is_no_more_goes(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert render(bundle, out, "--weights", "pvc", "--monitoring", "observe").exit_code == 0
    keys = (out / "keys").read_text()
    assert len(keys.split()[-1]) >= 43
    (out / "ingress.yaml").write_text("kind: Ingress\n")
    assert render(bundle, out, "--weights", "hostpath", "--host-path", "/srv/models").exit_code == 0
    assert (out / "keys").read_text() == keys
    assert re.escape(keys.split()[-1]) in read(out, "gateway-keys.yaml")[0]["stringData"]["keys.conf"]
    left = names_in(out)
    assert "ingress.yaml" in left and "weights.yaml" not in left and "monitoring.yaml" not in left
    (out / "keys").write_text("team 0123456789abcdefA\nother 0123456789abcdefB\n")
    assert render(bundle, out, "--weights", "pvc").exit_code == 0
    lines = read(out, "gateway-keys.yaml")[0]["stringData"]["keys.conf"].splitlines()
    assert lines == ['"~^[Bb]earer 0123456789abcdefA$" "team";', '"~^[Bb]earer 0123456789abcdefB$" "other";']


@pytest.mark.parametrize(
    ("options", "more", "what"),
    [
        (["--weights", "hostpath"], {}, "--host-path: --weights hostpath needs it -> name the folder"),
        (["--weights", "hostpath", "--host-path", "a/b"], {}, "--host-path: 'a/b' is no absolute folder"),
        ([], {"registry": "registry"}, "--registry: 'registry' is no host: give HOST:PORT"),
        ([], {"registry": "user:secret@registry.example/ai"}, "--registry: "),
        ([], {"namespace": "My_Models"}, "--namespace: 'My_Models' is no name of a namespace -> use a-z 0-9 -"),
        (["--monitoring", "-x"], {}, "--monitoring: '-x' is no name of a namespace"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(
    bundle: Path, tmp_path: Path, options: list[str], more: dict[str, str], what: str
) -> None:
    error = error_of(bundle, tmp_path / "out", *options, **more)
    assert isinstance(error, SpecError) and str(error).startswith(what)
    assert not (tmp_path / "out").exists()


def test_engines_that_share_a_gpu(tmp_path: Path) -> None:
    made = sample_of(tmp_path / "blobs", {key: {**model, "gpu_memory_utilization": 0.4} for key, model in TWO.items()})
    files = files_of(made)
    for path in (paths.BUNDLE, paths.LOCK):
        put_json(files, path, lambda data: data.update(accelerator="nvidia"))
    error = error_of(forge(tmp_path / "kit-v1.0.0.tar.gz", seal(files)), tmp_path / "out")
    assert error.exit_code == 3 and "chat and embedding share GPU 0, and Kubernetes gives a GPU to one pod ->" in str(error)
    assert not (tmp_path / "out").exists()


def test_weights_that_are_not_those_of_the_lock(tmp_path: Path) -> None:
    """The digest of a model's image would be one that nobody pushed."""
    files = files_of(sample_of(tmp_path / "blobs", TWO))
    path = "models/chat/model.safetensors"
    content, mode = files[path]
    files[path] = (content[:-1] + b"x", mode)
    bundle = forge(tmp_path / "kit-v1.0.0.tar.gz", seal(files))
    error = error_of(bundle, tmp_path / "out")
    assert isinstance(error, BundleDamaged) and error.where == path
    assert not (tmp_path / "out").exists()


def test_keys_that_are_none(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("team short\n")
    error = error_of(bundle, tmp_path)
    assert str(error).startswith(f"{tmp_path}/keys, line 1: team: the key is too short") and names_in(tmp_path) == ["keys"]
    (tmp_path / "keys").write_text("# nothing\n")
    assert "has no key -> write NAME KEY a line" in str(error_of(bundle, tmp_path))


def test_a_lock_is_no_kit(tmp_path: Path) -> None:
    path = tmp_path / "kit.lock.json"
    path.write_text(make_sample(tmp_path / "blobs").lock().text())
    assert isinstance(error_of(path, tmp_path / "out"), BundleUnreadable)
