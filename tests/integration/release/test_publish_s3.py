"""Releases in an S3-compatible store: a real server, a real client, uploads that are killed, and every refusal in one line."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from offline_kit.common.errors import AccessDenied, NetworkError, NotFound, SpecError
from offline_kit.release.index import Releases
from offline_kit.release.publish.publish import open_destination, read_published
from tests.support.projects.release_job import Job
from tests.testbed.process import free_port
from tests.testbed.servers.relay import Relay
from tests.testbed.servers.s3 import WHO, S3Server

PLACE = "s3://releases/kits/demo"
LARGE = 60 << 20  # bytes: four parts of an upload


@pytest.fixture
def store(tmp_path: Path) -> Iterator[S3Server]:
    with S3Server(tmp_path, "releases") as server:
        yield server


def test_what_lies_in_the_folder_lies_in_the_store(job: Job, store: S3Server) -> None:
    env = {**WHO, "AWS_ENDPOINT_URL": store.url}
    for number, more in enumerate([(), ("--split", "2M"), ("--keep", "1", "--full-every", "1")]):
        job.new_model(number)
        done = job.run("--publish", PLACE, *more, env=env)
        assert done.returncode == 0 and done.stdout.strip() == str(job.out / job.releases[-1]["file"]), done.stderr
        here = {f"kits/demo/{name}": data for name, data in job.content.items() if not name.startswith(".")}
        there = store.objects()
        assert there.keys() == here.keys()
        assert [name for name in here if here[name] != there[name]] == []
    assert job.versions == ["v1.0.2"], "the others are pruned, here and there"
    assert job.run("--publish", PLACE, env=env).returncode == 11


@pytest.mark.long
def test_a_killed_upload_shows_nothing_and_goes_on(job: Job, store: S3Server) -> None:
    job.new_model(1, LARGE)
    assert job.run().returncode == 0
    (release,) = job.releases
    with Relay(store.port, stall=40 << 20) as relay:
        run = job.begin("--publish", PLACE, "--jobs", "1", env={**WHO, "AWS_ENDPOINT_URL": f"http://{relay.host}"})
        assert relay.stalled.wait(60)
        run.send_signal(signal.SIGKILL)
        run.communicate()
    assert not {"kits/demo/releases.json", f"kits/demo/{release['file']}"} & store.objects().keys()
    with Relay(store.port) as relay:
        done = job.run("--publish", PLACE, env={**WHO, "AWS_ENDPOINT_URL": f"http://{relay.host}"})
        assert done.returncode == 0 and done.stdout.strip() == str(job.out / release["file"]), done.stderr
        assert relay.sent < release["size"] - (30 << 20), "two parts were there"
    there = store.objects()
    for name in ("releases.json", release["file"]):
        assert there[f"kits/demo/{name}"] == job.content[name]
    assert not store.client().list_multipart_uploads(Bucket="releases").get("Uploads")


@pytest.mark.long
def test_damaged_bytes_are_never_published(job: Job, store: S3Server) -> None:
    job.new_model(1, LARGE)
    assert job.run().returncode == 0
    bundle = job.out / job.releases[0]["file"]
    with bundle.open("r+b") as file:
        file.seek(-1000, 2)
        file.write(b"x")
    done = job.run("--publish", PLACE, env={**WHO, "AWS_ENDPOINT_URL": store.url})
    assert done.returncode == 8 and str(bundle) in done.stderr, done.stderr
    assert not {"kits/demo/releases.json", f"kits/demo/{bundle.name}"} & store.objects().keys()
    assert not store.client().list_multipart_uploads(Bucket="releases").get("Uploads")


def test_each_refusal_is_one_error(store: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    known = {**WHO, "AWS_ENDPOINT_URL": store.url}
    store.client().put_object(Bucket="releases", Key="other/releases.json", Body=b'{"name": "other"}')
    store.client().put_object(Bucket="releases", Key="page/releases.json", Body=b"<html>")
    with S3Server(tmp_path, "strict", refuses=True) as strict:
        for place, env, kind, said in (
            ("s3://strict", {**known, "AWS_ENDPOINT_URL": strict.url}, AccessDenied, "InvalidAccessKeyId"),
            ("s3://nothing", known, NotFound, "no such bucket"),
            (
                "s3://releases",
                {**known, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"},
                NetworkError,
                "AWS_ENDPOINT_URL",
            ),
            ("s3://releases", {**known, "AWS_ENDPOINT_URL": "nowhere"}, SpecError, "nowhere"),
            ("s3://key:secret-word@releases", known, SpecError, "AWS_ACCESS_KEY_ID"),
            ("s3://Releases", known, SpecError, "not s3://"),
            ("ftp://releases", known, SpecError, "oci://"),
            ("s3://releases/other", known, SpecError, "is of the kit 'other'"),
            ("s3://releases/page", known, SpecError, "not valid JSON"),
        ):
            with monkeypatch.context() as context, pytest.raises(kind) as refused:
                for name, value in env.items():
                    context.setenv(name, value)
                read_published(open_destination(place, 1), Releases(name="demo"))
            assert said in str(refused.value) and "secret-word" not in str(refused.value)
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(SpecError, match=r"offline-kit\[s3\]"):
        open_destination("s3://releases", 1)


def test_who_is_nobody_is_told_before_any_work(job: Job, store: S3Server, tmp_path: Path) -> None:
    nobody = {"AWS_ENDPOINT_URL": store.url, "AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path / "nobody")}
    done = job.run("--publish", PLACE, env=nobody)
    assert (done.returncode, done.stdout) == (6, "") and done.stderr.count("\n") == 1, done.stderr
    assert "AWS_ACCESS_KEY_ID" in done.stderr and not list(job.out.glob("demo-*"))
