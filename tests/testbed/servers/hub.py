"""A small model hub over the loopback that speaks what Hugging Face's client asks, and misbehaves on demand.

Rules: (1) a repository is a folder as it was when it was added; its commit is a hash of its content, so equal content
has an equal commit everywhere; (2) files of `LFS_FROM` bytes or more and all weights are LFS files (sha256), the rest
have git's blob id, as on the real hub;
(3) what was asked and how many bytes of body went out is logged, as a witness for tests.
Control, for a hub in another process: GET /__log__, POST /__faults__ (a JSON list of Fault fields), DELETE /__faults__.
"""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import threading
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tests.testbed.servers.faults import Access, Faults
from tests.testbed.servers.hub_http import Handler

if TYPE_CHECKING:
    from typing_extensions import Self

LFS_FROM = 100_000
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".onnx")


@dataclasses.dataclass(frozen=True)
class HubFile:
    """One file of a repository: where it lies, its size in bytes and both of its hashes, in hex."""

    path: Path
    size: int
    sha256: str
    blob_id: str

    @property
    def lfs(self) -> bool:
        """Whether the hub keeps it in LFS, and so knows its sha256."""
        return self.size >= LFS_FROM or self.path.name.endswith(WEIGHTS)

    @property
    def etag(self) -> str:
        """What the hub's ETag says, without quotes."""
        return self.sha256 if self.lfs else self.blob_id


@dataclasses.dataclass
class Repository:
    """A model repository: its branches and, by commit, its files by path."""

    gated: bool = False
    branches: dict[str, str] = dataclasses.field(default_factory=dict)
    commits: dict[str, dict[str, HubFile]] = dataclasses.field(default_factory=dict)

    def commit_of(self, revision: str) -> str | None:
        """The commit that a branch or a commit itself (whole, or 7 digits and more of it) names."""
        if revision in self.branches:
            return self.branches[revision]
        found = [commit for commit in self.commits if len(revision) >= 7 and commit.startswith(revision)]
        return found[0] if len(found) == 1 else None


class Server(http.server.ThreadingHTTPServer):
    """The hub's server, which knows its connections: `open` has those that are not closed yet."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], hub: Hub) -> None:
        self.hub = hub  # how a handler finds it
        self.open: set[Any] = set()
        super().__init__(address, hub.handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self.open.discard(request)


class Hub:
    """The hub; a context manager that starts it and stops it. `tokens` are those that may read gated repositories.

    `renamed`: old name -> new name; the old one answers with a redirect, as on the real hub.
    """

    handler: type[Handler] = Handler

    def __init__(self, *, port: int = 0, tokens: tuple[str, ...] = ("hf_testbed",)) -> None:
        self.faults = Faults()
        self.log: list[Access] = []
        self.tokens = tokens
        self.repositories: dict[str, Repository] = {}
        self.renamed: dict[str, str] = {}
        self._server = Server(("127.0.0.1", port), self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`: what HF_ENDPOINT or `endpoint:` is set to."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def add(self, name: str, folder: Path, *, branch: str = "main", gated: bool = False) -> str:
        """Makes `branch` of the repository `name` the content of `folder`, which must not change afterwards; the commit.

        A repository that exists keeps its earlier commits; `gated` is set anew.
        """
        repository = self.repositories.setdefault(name, Repository())
        files = {str(path.relative_to(folder)): _hub_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}
        listing = "".join(f"{path}\0{file.sha256}\n" for path, file in files.items())
        commit = hashlib.sha1(listing.encode(), usedforsecurity=False).hexdigest()
        repository.gated = gated
        repository.commits[commit] = files
        repository.branches[branch] = commit
        return commit

    def sent(self, pattern: str = "*") -> int:
        """Bytes of body sent so far for GET requests of paths that match the pattern (as in fnmatch)."""
        return sum(access.sent for access in self.log if access.method == "GET" and access.matches(pattern))

    @property
    def busy(self) -> bool:
        """Whether a connection is open still: an answer that nobody wants any more reaches the log when its own closes."""
        return bool(self._server.open)

    def start(self) -> None:
        """Starts to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stops answering and closes the port; requests under way are cut. Safe to call twice."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def _hub_file(path: Path) -> HubFile:
    data = path.read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    return HubFile(path, len(data), hashlib.sha256(data).hexdigest(), blob)
