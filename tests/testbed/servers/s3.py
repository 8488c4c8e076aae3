"""An S3-compatible store (moto's server) on the loopback, and a client of its own to look into it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import boto3

from tests.testbed.process import Process, free_port, listening

WHO = {"AWS_ACCESS_KEY_ID": "testbed", "AWS_SECRET_ACCESS_KEY": "testbed-secret", "AWS_DEFAULT_REGION": "us-east-1"}


class S3Server:
    """One store with the bucket `bucket`; a context manager. `refuses`: once the bucket is made, whoever asks must be known."""

    def __init__(self, work: Path, bucket: str, *, refuses: bool = False) -> None:
        self.port, self.bucket, self._work = free_port(), bucket, work
        self._environment = {"INITIAL_NO_AUTH_ACTION_COUNT": "1"} if refuses else {}

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`: what AWS_ENDPOINT_URL is set to."""
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> Any:
        """A client of boto3."""
        return boto3.session.Session(
            aws_access_key_id=WHO["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=WHO["AWS_SECRET_ACCESS_KEY"],
            region_name=WHO["AWS_DEFAULT_REGION"],
        ).client("s3", endpoint_url=self.url)

    def objects(self) -> dict[str, bytes]:
        """All that whoever lists the bucket sees, by key."""
        client = self.client()
        keys = [item["Key"] for item in client.list_objects_v2(Bucket=self.bucket).get("Contents", [])]
        return {key: client.get_object(Bucket=self.bucket, Key=key)["Body"].read() for key in keys}

    def __enter__(self) -> S3Server:
        argv = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(self.port)]
        self._process = Process(argv, self._work / f"{self.bucket}.log", self._environment)
        try:
            self._process.wait_until(lambda: listening(self.port), 60, "the S3 server")
            self.client().create_bucket(Bucket=self.bucket)
        except BaseException:
            self._process.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.stop()
