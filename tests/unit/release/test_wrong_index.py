"""A releases.json that is none, and stores that are none: each is told in one line that says where."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from offline_kit.common.errors import DiskError, KitError, NetworkError, SpecError
from offline_kit.release.index import NAME, Releases, index_bytes, read_index
from offline_kit.release.make import lock_folder
from offline_kit.release.publish.s3_errors import s3_errors

TEXTS = {
    b"": "not valid JSON",
    b"[]": "is no list of releases: no object",
    b"[" * 100_000: "nested too deeply",
    b"\xff\xfe": "not UTF-8",
    b'{"name": "demo", "releases": [{"version": "../v1"}]}': r"releases\.0",
    b'{"name": "demo", "removing": ["../x"]}': "is no list of releases: not the name of a file",
    index_bytes(Releases(name="other")): "is of the kit 'other', this is 'demo'",
}


@pytest.mark.parametrize("text", TEXTS, ids=TEXTS.values())
def test_a_file_that_is_no_index(tmp_path: Path, text: bytes) -> None:
    (tmp_path / NAME).write_bytes(text)
    with pytest.raises(SpecError, match=TEXTS[text]) as refused:
        read_index(tmp_path, "demo")
    assert refused.value.where == str(tmp_path / NAME) and refused.value.remedy and "Value error" not in str(refused.value)


@pytest.mark.parametrize(
    "make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["folder", "pipe", "device"]
)
def test_what_is_no_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / NAME)
    with pytest.raises(DiskError) as refused:
        read_index(tmp_path, "demo")
    assert refused.value.where == str(tmp_path / NAME), "a path, and no number of a descriptor"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RecursionError(), "sends every request on to another region"),
        (ClientError({"ResponseMetadata": {"HTTPStatusCode": 418}}, "GetObject"), "answers HTTP 418 and no error of a store"),
    ],
)
def test_what_is_no_store(error: Exception, said: str) -> None:
    with pytest.raises(KitError) as refused, s3_errors("s3://kits/demo"):
        raise error
    assert isinstance(refused.value, NetworkError) and said in refused.value.what and "AWS_ENDPOINT_URL" in refused.value.remedy


def test_the_lock_of_a_folder_is_made_through_no_link(tmp_path: Path) -> None:
    (tmp_path / ".releases.lock").symlink_to("elsewhere")
    with pytest.raises(DiskError, match=r"\.releases\.lock"), lock_folder(tmp_path):
        pass
    assert not (tmp_path / "elsewhere").exists()
