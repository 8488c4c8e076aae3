"""An S3-compatible store: ``s3://BUCKET/PREFIX``, by boto3.

Rules: a file is read once, part by part; each part goes with its MD5, which the store checks, and the whole is compared with
its SHA-256 before it becomes an object; an upload that was cut off stays unfinished, is invisible, and the next run goes on
with it; who we are and which server it is come from the environment (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL`` and the others
of boto3).
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from offline_kit.common.budget import SMALL_DOCUMENT
from offline_kit.common.digest import Digest
from offline_kit.common.errors import DigestMismatch, Interrupted, KitError, SpecError
from offline_kit.common.files import disk_errors
from offline_kit.common.progress import Progress, Task
from offline_kit.release.index import NAME, Release, Releases, index_bytes
from offline_kit.release.publish.destination import Upload, changed
from offline_kit.release.publish.s3_errors import is_missing, s3_errors

FORM = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*))?/?")
PART = 16 << 20  # bytes; at most jobs + 1 of them are in memory
_MOST_PARTS = 10_000


class S3:
    """A bucket, or what lies under a prefix of it."""

    def __init__(self, address: str, jobs: int) -> None:
        """Raises SpecError: not an address, or boto3 is not installed. Asks nothing yet."""
        match = FORM.fullmatch(address)
        if match is None:
            raise SpecError(
                f"not s3://BUCKET/PREFIX: {address!r}",
                remedy="as in s3://kits/knowflow; the server is named by AWS_ENDPOINT_URL",
            )
        self._bucket, prefix = match["bucket"], match["prefix"]
        self._prefix, self._jobs = f"{prefix}/" if prefix else "", jobs
        self.address = address.rstrip("/")
        with s3_errors(self.address):
            self._client = _client(jobs)

    def read_index(self) -> bytes | None:
        """What ``releases.json`` says there; None where there is none."""
        with s3_errors(self.address):
            try:
                answer = self._client.get_object(**self._object(NAME))
            except Exception as error:
                if is_missing(error, "NoSuchKey"):
                    return None
                raise
            found: bytes = answer["Body"].read(SMALL_DOCUMENT + 1)
            return found

    def upload(self, release: Release, files: Sequence[Upload], progress: Progress) -> None:
        """Each file becomes an object; what is there with its digest stays. Raises DigestMismatch, DiskError."""
        with progress.task(f"{release.version} to {self.address}", sum(file.size for file in files), len(files)) as task:
            for file in files:
                with s3_errors(f"{self.address}/{file.path.name}"):
                    if file.size <= PART:
                        self._put(file, task)
                    else:
                        self._put_in_parts(file, task)
                task.finish_item()

    def show(self, index: Releases) -> None:
        """Replaces ``releases.json``."""
        data = index_bytes(index)
        with s3_errors(self.address):
            self._client.put_object(**self._object(NAME), Body=data, ContentMD5=_md5(data), ContentType="application/json")

    def remove(self, pruned: Mapping[str, Sequence[str]], progress: Progress) -> list[str]:
        """Removes these objects."""
        stay = list[str]()
        for name in (name for names in pruned.values() for name in names):
            try:
                with s3_errors(f"{self.address}/{name}"):
                    self._client.delete_object(**self._object(name))
            except Interrupted:
                raise
            except KitError as error:
                what = f"{self.address}/{name} of a pruned release stays: {error.what}"
                progress.note(f"warning: {what}", event="finding", where=self.address)
                stay.append(name)
        return stay

    def _object(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + name}

    def _is_there(self, file: Upload) -> bool:
        """Whether an upload in parts was finished that no index shows yet: then the file is read, and not sent again."""
        try:
            found = self._client.head_object(**self._object(file.path.name))
        except Exception as error:
            if is_missing(error, "404"):
                return False
            raise
        if found["ContentLength"] != file.size:
            return False
        sums = [hashlib.md5(data, usedforsecurity=False).digest() for _, data in _parts(file)]
        whole = hashlib.md5(b"".join(sums), usedforsecurity=False).hexdigest()
        return str(found["ETag"]).strip('"') == f"{whole}-{len(sums)}"

    def _put(self, file: Upload, task: Task) -> None:
        with disk_errors(file.path):
            data = file.path.read_bytes()
        _check(file, Digest.of(data))
        self._client.put_object(**self._object(file.path.name), Body=data, ContentMD5=_md5(data))
        task.advance(file.size)

    def _put_in_parts(self, file: Upload, task: Task) -> None:
        if self._is_there(file):
            task.advance(file.size)
            return
        at = self._object(file.path.name)
        upload_id, there = self._begun(file)
        if upload_id is None:
            upload_id = self._client.create_multipart_upload(**at)["UploadId"]
        hasher, etags = hashlib.sha256(), dict[int, str]()
        pending = set[Future[tuple[int, str, int]]]()
        pool = ThreadPoolExecutor(self._jobs)

        def send(number: int, data: bytes) -> tuple[int, str, int]:
            arguments = {"PartNumber": number, "UploadId": upload_id, "Body": data, "ContentMD5": _md5(data)}
            return number, self._client.upload_part(**at, **arguments)["ETag"], len(data)

        def collect(done: set[Future[tuple[int, str, int]]]) -> None:
            for future in done:
                number, etags[number], sent = future.result()
                task.advance(sent)

        try:
            for number, data in _parts(file):
                hasher.update(data)
                etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
                if there.get(number) == (len(data), etag):
                    etags[number] = f'"{etag}"'
                    task.advance(len(data))
                    continue
                if len(pending) >= self._jobs:
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    collect(done)
                pending.add(pool.submit(send, number, data))
            collect(pending)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        try:
            _check(file, Digest(hasher.hexdigest()))
        except DigestMismatch:
            self._client.abort_multipart_upload(**at, UploadId=upload_id)
            raise
        listed = [{"PartNumber": number, "ETag": etags[number]} for number in sorted(etags)]
        self._client.complete_multipart_upload(**at, UploadId=upload_id, MultipartUpload={"Parts": listed})

    def _begun(self, file: Upload) -> tuple[str | None, dict[int, tuple[int, str]]]:
        """The last upload of this file that was not finished, and its parts: number -> size and MD5. Others are given up."""
        at = self._object(file.path.name)
        found = self._client.list_multipart_uploads(Bucket=self._bucket, Prefix=at["Key"]).get("Uploads", [])
        own = sorted((item for item in found if item["Key"] == at["Key"]), key=lambda item: item["Initiated"])
        for item in own[:-1]:
            self._client.abort_multipart_upload(**at, UploadId=item["UploadId"])
        if not own:
            return None, {}
        upload_id: str = own[-1]["UploadId"]
        pages = self._client.get_paginator("list_parts").paginate(**at, UploadId=upload_id)
        parts = (part for page in pages for part in page.get("Parts", ()))
        return upload_id, {part["PartNumber"]: (part["Size"], part["ETag"].strip('"')) for part in parts}


def _client(jobs: int) -> Any:
    try:
        import boto3  # noqa: PLC0415  an optional extra
        from botocore.config import Config  # noqa: PLC0415  as above
    except ImportError as error:
        raise SpecError("s3:// needs boto3, which is not installed", remedy="pip install 'offline-kit[s3]'") from error
    # Not every compatible store knows the newer checksums: what is sent goes with its MD5, which all of them check. boto3
    # gives none to DeleteObjects, where stores demand it: objects are removed one by one.
    quiet = {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
    retries = {"mode": "standard", "total_max_attempts": 4}
    config = Config(retries=retries, connect_timeout=10, read_timeout=60, max_pool_connections=max(10, jobs), **quiet)
    return boto3.session.Session().client("s3", config=config)


def _parts(file: Upload) -> Iterator[tuple[int, bytes]]:
    size = max(PART, -(-file.size // _MOST_PARTS))
    with disk_errors(file.path):
        stream = file.path.open("rb", buffering=0)
    with stream:
        for number in range(1, _MOST_PARTS + 1):
            with disk_errors(file.path):
                data = stream.read(size)
            if not data:
                return
            yield number, data


def _check(file: Upload, found: Digest) -> None:
    if found != file.digest:
        raise changed(file, found)


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
