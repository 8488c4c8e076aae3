"""A download that is killed again and again costs little more than the file; the hub's log is the witness."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from offline_kit.common.digest import Digest
from offline_kit.intake.store.store import Store
from tests.support.intake_samples import settle, write
from tests.testbed.servers.faults import Fault
from tests.testbed.servers.hub import Hub

PATH = "weights.bin"

CHILD = """
import sys
from pathlib import Path
from offline_kit.common.digest import Digest
from offline_kit.intake.transfer.request import DownloadRequest
from offline_kit.intake.transfer.http_client import HttpClient, TransferOptions
from offline_kit.intake.store.store import Store
from offline_kit.intake.transfer.download import download
root, url, digest, size = sys.argv[1:]
with HttpClient(TransferOptions(segment=256 << 10, span=1 << 20), 4) as client:
    print("begun", flush=True)
    download(client, Store(Path(root)), DownloadRequest(url, "weights", Digest(digest), int(size)))
"""


@pytest.mark.fault("fetch", "kill -9", "killed twenty times, a file costs at most 1.1 times its bytes")
def test_killed_at_twenty_random_moments(tmp_path: Path) -> None:
    """All runs together get at most 1.1 times the file."""
    payload = os.urandom(64 << 20)
    digest = Digest.of(payload)
    with Hub() as source:
        source.add("o/big", write(tmp_path / "big", {PATH: payload}))
        source.faults.add(Fault("slow", at=4 << 20, times=-1))
        url = f"{source.url}/o/big/resolve/main/{PATH}"
        command = [sys.executable, "-c", CHILD, str(tmp_path / "s"), url, str(digest), str(len(payload))]
        kills = 0
        for _ in range(20):
            with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
                assert child.stdout is not None and child.stdout.readline() == b"begun\n"
                time.sleep(random.uniform(0.02, 0.3))
                if child.poll() is None:
                    kills += 1
                child.kill()
            assert not (Store(tmp_path / "s").path(digest).exists() and child.returncode)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        assert Store(tmp_path / "s").path(digest).read_bytes() == payload
        settle(source)
        sent = source.sent() / len(payload)
    print(f"{kills} kills: {sent:.4f} times the file")
    assert kills == 20
    assert sent <= 1.1
