"""load_images.sh against a real dockerd: loads, skips, refuses what is not what the kit names, leaves nothing behind."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from offline_kit.common.digest import Digest
from offline_kit.spec.lock import LockedImage
from tests.support import scripts_kit
from tests.testbed.dockerd import Dockerd


@pytest.fixture
def kit(shelf: scripts_kit.Shelf, tmp_path: Path, dockerd: Dockerd) -> Iterator[Path]:
    yield scripts_kit.make_kit(shelf, tmp_path / "a kit")
    for name in tags(dockerd):
        dockerd.docker("image", "rm", "--force", name)


def tags(dockerd: Dockerd) -> list[str]:
    """All tags of this module's images."""
    names = dockerd.docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").splitlines()
    return sorted(name for name in names if name.startswith(("localhost/offline-kit/", "offline-kit-test/")))


def test_images_are_loaded_once(kit: Path, dockerd: Dockerd, shelf: scripts_kit.Shelf) -> None:
    first = scripts_kit.run(kit, "scripts/load_images.sh", env=dockerd.env)
    assert first.returncode == 0, first.stderr
    wanted = [image.tag(key) for key, image in shelf.images.items()] + [str(image.reference) for image in shelf.images.values()]
    assert tags(dockerd) == sorted(wanted) and first.stderr.count("loaded in") == 2
    second = scripts_kit.run(kit, "scripts/load_images.sh", env=dockerd.env)
    assert second.returncode == 0 and second.stderr.count("already there") == 2 and "loading" not in second.stderr
    assert not dockerd.docker("ps", "--all", "--quiet")


def test_one_image_by_its_key(kit: Path, dockerd: Dockerd, shelf: scripts_kit.Shelf) -> None:
    done = scripts_kit.run(kit, "scripts/load_images.sh", "gateway", env=dockerd.env)
    assert done.returncode == 0 and shelf.images["engine"].tag("engine") not in tags(dockerd)


def test_a_dry_run_loads_nothing(kit: Path, dockerd: Dockerd) -> None:
    done = scripts_kit.run(kit, "scripts/load_images.sh", "--dry-run", env=dockerd.env)
    assert done.returncode == 0 and done.stderr.count("would load") == 2 and tags(dockerd) == []
    assert not (kit / ".state").exists()


def test_a_tag_that_names_other_content_is_put_right(kit: Path, dockerd: Dockerd, shelf: scripts_kit.Shelf) -> None:
    assert scripts_kit.run(kit, "scripts/load_images.sh", env=dockerd.env).returncode == 0
    engine, gateway = (shelf.images[key].tag(key) for key in ("engine", "gateway"))
    dockerd.docker("tag", gateway, engine)
    done = scripts_kit.run(kit, "scripts/load_images.sh", env=dockerd.env)
    assert (
        done.returncode == 0
        and "engine (offline-kit-test/engine:small, " in done.stderr
        and done.stderr.count("loaded in") == 1
    )
    assert dockerd.docker("image", "inspect", "--format", "{{.Id}}", engine) == str(shelf.images["engine"].config.digest)


def layer_blob(kit: Path, shelf: scripts_kit.Shelf, key: str = "engine") -> Path:
    return kit / "images/blobs/sha256" / shelf.images[key].layers[-1].digest.hex


def test_a_damaged_blob_is_not_given_to_docker(kit: Path, dockerd: Dockerd, shelf: scripts_kit.Shelf) -> None:
    blob = layer_blob(kit, shelf)
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(data)
    done = scripts_kit.run(kit, "scripts/load_images.sh", env=dockerd.env)
    assert (
        done.returncode == 5
        and "'engine' (offline-kit-test/engine:small)" in done.stderr
        and f"changed: images/blobs/sha256/{blob.name}" in done.stderr
    )
    assert tags(dockerd) == []


def test_a_missing_blob_is_named(kit: Path, dockerd: Dockerd, shelf: scripts_kit.Shelf) -> None:
    blob = layer_blob(kit, shelf)
    blob.unlink()
    done = scripts_kit.run(kit, "scripts/load_images.sh", env=dockerd.env)
    assert done.returncode == 5 and blob.name in done.stderr and tags(dockerd) == []


def test_a_file_that_tar_cannot_read_is_a_failure(kit: Path, dockerd: Dockerd) -> None:
    (kit / "deploy/images/engine/oci-layout").unlink()
    done = scripts_kit.run(kit, "scripts/load_images.sh", env=dockerd.env)
    assert done.returncode == 5 and "oci-layout" in done.stderr and tags(dockerd) == []


def test_a_wrong_diff_id_leaves_no_tag(shelf: scripts_kit.Shelf, tmp_path: Path, dockerd: Dockerd) -> None:
    broken = with_config(shelf, lambda config: config["rootfs"]["diff_ids"].__setitem__(1, str(Digest.of(b"another layer"))))
    kit = scripts_kit.make_kit(shelf, tmp_path / "kit", images={**shelf.images, "engine": broken})
    done = scripts_kit.run(kit, "scripts/load_images.sh", env=dockerd.env)
    assert done.returncode == 5 and "'engine'" in done.stderr and tags(dockerd) == []
    assert not dockerd.docker("ps", "--all", "--quiet")


def test_an_image_that_is_not_what_the_kit_expects_leaves_no_tag(kit: Path, dockerd: Dockerd) -> None:
    expect = kit / "deploy/images/engine/expect"
    lines = expect.read_text().splitlines()
    expect.write_text("\n".join([*lines[:-2], lines[-1], lines[-2]]) + "\n")
    done = scripts_kit.run(kit, "scripts/load_images.sh", env=dockerd.env)
    assert done.returncode == 5 and "its layers are not those that the kit names" in done.stderr and tags(dockerd) == []


def test_a_failed_load_gives_back_the_name_that_it_took(kit: Path, dockerd: Dockerd, shelf: scripts_kit.Shelf) -> None:
    assert scripts_kit.run(kit, "scripts/load_images.sh", "gateway", env=dockerd.env).returncode == 0
    dockerd.docker("tag", shelf.images["gateway"].tag("gateway"), "offline-kit-test/engine:small")
    expect = kit / "deploy/images/engine/expect"
    expect.write_text(expect.read_text().replace("DIFF_ID=sha256:", "DIFF_ID=sha256:" + "0" * 64 + "\nDIFF_ID=sha256:", 1))
    done = scripts_kit.run(kit, "scripts/load_images.sh", env=dockerd.env)
    assert done.returncode == 5
    loaded = dockerd.docker("image", "inspect", "--format", "{{.Id}}", "offline-kit-test/engine:small")
    assert loaded == str(shelf.images["gateway"].config.digest)
    assert shelf.images["engine"].tag("engine") not in tags(dockerd)


def test_facts_of_another_shape_are_damage(kit: Path, dockerd: Dockerd) -> None:
    (kit / "deploy/images/engine/expect").write_text("TAG=x\nCONFIG=sha256:ABC\n")
    assert scripts_kit.run(kit, "scripts/load_images.sh", env=dockerd.env).returncode == 20
    (kit / "deploy/images/gateway/files").write_text("../../../etc/passwd\n")
    assert scripts_kit.run(kit, "scripts/load_images.sh", "gateway", env=dockerd.env).returncode == 5


def test_without_a_daemon_the_reason_is_told(kit: Path, dockerd: Dockerd, tmp_path: Path) -> None:
    done = scripts_kit.run(kit, "scripts/load_images.sh", env={**dockerd.env, "DOCKER_HOST": f"unix://{tmp_path}/none.sock"})
    assert done.returncode == 5 and "Cannot connect to the Docker daemon" in done.stderr


def with_config(shelf: scripts_kit.Shelf, change: object) -> LockedImage:
    """The engine image of `shelf` with another configuration, whose layers the lock still names rightly."""
    assert callable(change)
    image = shelf.images["engine"]
    config = json.loads((shelf.blobs / image.config.digest.hex).read_bytes())
    change(config)
    data = json.dumps(config).encode()
    digest = Digest.of(data)
    (shelf.blobs / digest.hex).write_bytes(data)
    assert gzip.decompress((shelf.blobs / image.layers[0].digest.hex).read_bytes())
    return image.model_copy(update={"config": image.config.model_copy(update={"digest": digest, "size": len(data)})})
