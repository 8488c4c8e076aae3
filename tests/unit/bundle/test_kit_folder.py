"""The folder of a kit that is laid out on the builder."""

from __future__ import annotations

import os
from pathlib import Path

from offline_kit.bundle.write.kit_folder import lay_kit
from tests.support.bundle_sample import make_sample


def test_folders_can_be_read_by_others_whatever_the_umask_is(tmp_path: Path) -> None:
    sample = make_sample(tmp_path / "blobs")
    before = os.umask(0o077)
    try:
        kit = lay_kit(sample.entries(), sample.path_of, tmp_path / "kit")
    finally:
        os.umask(before)
    folders = [kit, *(path for path in kit.rglob("*") if path.is_dir())]
    assert len(folders) > 3 and {path.stat().st_mode & 0o777 for path in folders} == {0o755}
