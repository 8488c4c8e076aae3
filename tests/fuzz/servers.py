"""Answers of a hub and of a registry changed at random, one or two in a run that locks and fetches a model and two images.

Rules: the answers come from the testbed's hub and from images in memory, through one server on the loopback that changes
them on the way; what is locked and fetched in spite of a change is what the digests say, or the run ends in an error of ours.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from offline_kit.common.digest import Digest
from offline_kit.common.errors import KitError
from offline_kit.intake.fetch import fetch
from offline_kit.intake.resolve import resolve
from offline_kit.intake.session import Session
from offline_kit.intake.store.store import Store
from offline_kit.intake.transfer.http_client import TransferOptions
from offline_kit.spec.lock import parse_lock
from tests.fuzz.mutations import WORDS, change_bytes, change_text, change_value
from tests.fuzz.worker import Subject
from tests.support.intake_samples import Image, digest, image, index, manifest, safetensors, write
from tests.support.loopback import Request, serving
from tests.testbed.servers.hub import Hub

CONFIG = b'{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 1, "hidden_size": 8}'
WEIGHTS = safetensors({"model.layers.0.w": bytes(range(200)) * 40})
OPTIONS = TransferOptions(retries=1, backoff=0.01, connect_timeout=5, read_timeout=2)
NEVER_CHANGED = ("transfer-encoding", "content-length", "connection", "server", "date")
HEADERS = (
    "content-type",
    "location",
    "link",
    "etag",
    "x-repo-commit",
    "x-linked-etag",
    "x-linked-size",
    "content-range",
    "retry-after",
)


class Answer:
    """One answer on its way."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    def change(self, random: Random) -> None:
        ways: list[Callable[[Random], None]] = [
            self._value,
            self._value,
            self._value,
            self._text,
            self._bytes,
            self._header,
            self._page,
        ]
        random.choice(ways)(random)

    def _value(self, random: Random) -> None:
        try:
            value: Any = json.loads(self.body)
        except ValueError:
            return self._bytes(random)
        whole: Any = random.choice((value, value, value, [value], None, 7, "x"))
        self.body = json.dumps(change_value(random, whole) if whole is value else whole).encode()
        return None

    def _text(self, random: Random) -> None:
        self.body = change_text(random, self.body[:100_000].decode("latin-1")).encode("utf-8", "replace")

    def _bytes(self, random: Random) -> None:
        self.body = change_bytes(random, self.body)

    def _header(self, random: Random) -> None:
        odd = (
            *WORDS,
            "-1",
            "bytes 0-1/2",
            "bytes */0",
            "http://[",
            "https://x.invalid/",
            "//",
            "9" * 30,
            "Wed, 99 Xyz",
            '"' + "0" * 40 + '"',
        )
        name = random.choice((*HEADERS, *self.headers))
        if name not in NEVER_CHANGED:
            self.headers[name] = (
                random.choice(odd)[:2000]
                .encode("latin-1", "replace")
                .decode("latin-1")
                .translate(dict.fromkeys(range(32), " "))
            )

    def _page(self, random: Random) -> None:
        """What a portal or a proxy in between says in its place."""
        self.status = random.choice((200, 200, 204, 206, 302, 400, 401, 403, 404, 416, 418))
        self.body = random.choice((b"<html>log in</html>", b"", b"null", b"[]", b"{}", b'{"errors": null}', b"[" * 100_000))


class Servers:
    """A hub and a registry behind one address; ``plan``: which answers are changed."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.url = ""
        self.random, self.plan, self._count = Random(0), set[int](), 0
        self.documents: dict[str, tuple[str, bytes]] = {}
        for name in ("engine", "gateway"):
            item = image("gzip", "zstd", content=name)
            listing, kind = index(("amd64", item))
            self._keep(name, "v1", kind, listing)
            self._keep(name, digest(item.manifest), item.media_type, item.manifest)
            self._keep_blobs(name, item)

    def _keep(self, name: str, reference: str, kind: str, data: bytes) -> None:
        self.documents[f"/v2/{name}/manifests/{reference}"] = (kind, data)
        self.documents[f"/v2/{name}/manifests/{digest(data)}"] = (kind, data)

    def _keep_blobs(self, name: str, item: Image) -> None:
        for blob, data in item.blobs.items():
            self.documents[f"/v2/{name}/blobs/{blob}"] = ("application/octet-stream", data)

    def begin(self, random: Random) -> None:
        self.random, self._count = random, 0
        self.plan = {random.randrange(24) for _ in range(random.choice((1, 1, 2)))}

    def answer(self, request: Request) -> None:
        answer = self._true(request)
        if self._count in self.plan:
            answer.change(self.random)
        self._count += 1
        request.reply(answer.body, answer.status, answer.headers)

    def _true(self, request: Request) -> Answer:
        if request.path.startswith("/v2/"):
            kind, data = self.documents.get(request.path, ("application/json", b""))
            headers = {"Content-Type": kind, "Docker-Content-Digest": digest(data)}
            return Answer(200 if data else 404, headers, data)
        host = self._hub.url.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=10)
        with contextlib.closing(connection):
            asked = {name: value for name, value in request.headers.items() if name.lower() not in ("host", "connection")}
            connection.request(request.command, request.path, headers=asked)
            reply = connection.getresponse()
            body = reply.read().replace(self._hub.url.encode(), self.url.encode())
            kept = {name: value.replace(self._hub.url, self.url) for name, value in reply.getheaders()}
            return Answer(
                reply.status, {name: value for name, value in kept.items() if name.lower() not in NEVER_CHANGED}, body
            )


@contextlib.contextmanager
def opened() -> Iterator[Subject]:
    for name in [name for name in os.environ if name.lower().endswith("_proxy") or name.startswith("HF_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, Hub() as hub:
        files = {"config.json": CONFIG, "model.safetensors": WEIGHTS, "tokenizer.json": b"{}", "a/b.txt": b"text"}
        hub.add("acme/chat", write(Path(folder) / "model", files))
        servers = Servers(hub)
        with serving(servers.answer) as servers.url:
            host = servers.url.removeprefix("http://")
            images = {name: {"source": f"docker://{host}/{name}:v1"} for name in ("engine", "gateway")}
            wanted = manifest(images, {"chat": {"source": "hf://acme/chat", "endpoint": servers.url}})

            def run(random: Random) -> None:
                with tempfile.TemporaryDirectory(dir=folder) as place:
                    session = Session(Store(Path(place)), 1, OPTIONS)
                    lock = resolve(wanted, Path(folder), {"models.json": b"{}", "vllm_config.yaml": b"{}"}, session)
                    assert parse_lock(lock.text(), "lock") == lock
                    for name, path in fetch(lock, wanted, Path(folder), session).places.items():
                        assert Digest.of_file(path) == name, "what was fetched is not what its digest says"

            def subject(random: Random) -> str:
                servers.begin(random)
                try:
                    run(random)
                except KitError as error:
                    assert error.exit_code not in (1, 130) and str(error)
                    return "refused"
                return "fetched"

            servers.plan = set()
            run(Random(0))
            yield subject
