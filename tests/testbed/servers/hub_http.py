"""How the hub answers over HTTP: the pages that the official client asks, and the one way out that applies faults.

Rules: (1) errors carry the hub's X-Error-Code, by which the client tells them apart; (2) a repository that does not
exist answers 401, as the real hub does, so as not to tell which names exist; (3) everything leaves through `_answer`,
which applies at most one fault and logs, except the control pages `/__log__` and `/__faults__`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import http.server
import json
import socket
import time
import urllib.parse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tests.testbed.servers.faults import Access, Fault

if TYPE_CHECKING:
    from tests.testbed.servers.hub import Hub, HubFile


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection; `server.hub` is the hub that it speaks for."""

    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        return hub

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # a client that is gone between two requests, or was killed
            super().handle()

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        path = urllib.parse.unquote(path)
        if path == "/__log__":
            return self._json([dataclasses.asdict(access) for access in self.hub.log])
        parts = path.strip("/").split("/")
        for old, new in self.hub.renamed.items():
            if f"/{old}/" in self.path:
                return self._answer(307, b"", {"Location": self.path.replace(f"/{old}/", f"/{new}/", 1)})
        if parts[:2] == ["api", "models"] and len(parts) >= 4:
            return self._api("/".join(parts[2:4]), parts[4:], urllib.parse.parse_qs(query))
        if len(parts) >= 5 and parts[2] == "resolve":
            return self._resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        return self._error(404, "EntryNotFound", "no such page")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        if self.path != "/__faults__":
            return self._error(404, "EntryNotFound", "no such page")
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for fields in body:
            self.hub.faults.add(Fault(**fields))
        return self._json({"faults": len(body)})

    def do_DELETE(self) -> None:
        self.hub.faults.clear()
        self._json({"faults": 0})

    def _repository(self, name: str, revision: str) -> tuple[str, dict[str, HubFile]] | None:
        """The commit and its files; None when an error was answered."""
        repository = self.hub.repositories.get(name)
        if repository is None:
            self._error(401, "RepoNotFound", "Repository not found")
            return None
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if repository.gated and token not in self.hub.tokens:
            message = f"Access to model {name} is restricted. You must be authenticated to access it."
            self._error(403 if token else 401, "GatedRepo", message)
            return None
        commit = repository.commit_of(revision)
        if commit is None:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return commit, repository.commits[commit]

    def _api(self, name: str, rest: list[str], query: dict[str, list[str]]) -> None:
        revision = rest[1] if len(rest) > 1 else "main"
        found = self._repository(name, revision)
        if found is None:
            return None
        commit, files = found
        if rest[:1] == ["tree"]:
            return self._json(_tree(files, "/".join(rest[2:]), query.get("recursive", [""])[0].lower() in ("1", "true")))
        if rest and rest[0] != "revision":
            return self._error(404, "EntryNotFound", "no such page")
        siblings: list[dict[str, Any]] = [{"rfilename": path} for path in files]
        if query.get("blobs", [""])[0].lower() in ("1", "true"):
            siblings = [{"rfilename": path, **_blob(file, "blobId")} for path, file in files.items()]
        gated = "auto" if self.hub.repositories[name].gated else False
        return self._json({"id": name, "modelId": name, "sha": commit, "private": False, "gated": gated, "siblings": siblings})

    def _resolve(self, name: str, revision: str, path: str) -> None:
        found = self._repository(name, revision)
        if found is None:
            return None
        commit, files = found
        if path not in files:
            return self._error(404, "EntryNotFound", f"Entry not found: {path}")
        file = files[path]
        headers = {"ETag": f'"{file.etag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes",
                   "Content-Type": "application/octet-stream"}  # fmt: skip
        if file.lfs:
            headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
        return self._answer(200, file.path.read_bytes(), headers)

    def _error(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message, "Content-Type": "application/json"}
        self._answer(status, json.dumps({"error": message}).encode(), headers)

    def _json(self, value: object) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        """The one way out: applies the range and at most one fault, sends, logs."""
        path = urllib.parse.unquote(self.path.partition("?")[0])
        fault = None if path.startswith("/__") else self.hub.faults.take(self.command, path)
        wanted = self.headers.get("Range")
        total, begin = len(body), 0
        if fault and fault.kind == "flip" and total:
            where = min(fault.at, total - 1)
            body = body[:where] + bytes([body[where] ^ 0xFF]) + body[where + 1 :]
        if fault and fault.kind in ("status", "redirect"):
            status, body = (fault.status, b"") if fault.kind == "status" else (302, b"")
            headers = {"Retry-After": str(fault.seconds)} if fault.kind == "status" and fault.seconds else {}
            headers |= {"Location": fault.to + self.path} if fault.kind == "redirect" else {}
        elif wanted and status == 200 and "Accept-Ranges" in headers and not (fault and fault.kind == "no-range"):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            begin = int(first) if first else max(0, total - int(last))
            end = min(int(last) + 1, total) if first and last else total
            if begin >= total:
                status, body, headers = 416, b"", headers | {"Content-Range": f"bytes */{total}"}
            else:
                status, body = 206, body[begin:end]
                headers |= {"Content-Range": f"bytes {begin}-{end - 1}/{total}"}
        if fault and fault.headers:
            headers |= fault.headers
        # logged before anything is sent, and counted before each piece: whoever has the answer finds it in the log
        access = Access(self.command, path, wanted, status, 0, fault.kind if fault else None)
        if not path.startswith("/__"):
            self.hub.log.append(access)
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        unsent = 0
        try:
            if self.command != "HEAD":
                for piece in self._pieces(body, fault):
                    access.sent += (unsent := len(piece))
                    self.wfile.write(piece)
                    unsent = 0
                self.wfile.flush()
        except ConnectionError:
            self.close_connection = True  # the client has had enough, or is gone: what it was sent is logged
            access.sent -= unsent

    def _pieces(self, body: bytes, fault: Fault | None) -> Iterator[bytes]:
        """The body as the fault wants it, in small pieces so that the log is exact when the client leaves."""
        step, pause = 1 << 16, 0.0
        if fault and fault.kind == "slow":
            step = max(1024, fault.at // 50)
            pause = step / fault.at
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        ends = sorted({fault.at, len(body)}) if fault and fault.kind in ("cut", "stall") else [len(body)]
        begin = 0
        for end in ends:
            for start in range(begin, min(end, len(body)), step):
                yield body[start : min(start + step, end)]
                time.sleep(pause)
            begin = end
            if fault and fault.kind == "cut" and begin < len(body):
                self.close_connection = True
                return
            if fault and fault.kind == "stall" and end == fault.at:
                self.wfile.flush()
                time.sleep(fault.seconds)

    def log_message(self, format: str, *args: object) -> None:
        """Silent: the access log is kept by the hub."""


def _blob(file: HubFile, name: str) -> dict[str, Any]:
    value: dict[str, Any] = {"size": file.size, name: file.blob_id}
    if file.lfs:
        value["lfs"] = {"sha256": file.sha256, "oid": file.sha256, "size": file.size, "pointerSize": 134}
    return value


def _tree(files: dict[str, HubFile], under: str, recursive: bool) -> list[dict[str, Any]]:
    """The entries below a folder as the hub lists them: folders, and files with size and hashes."""
    start = f"{under}/" if under else ""
    entries: dict[str, dict[str, Any]] = {}
    for path, file in files.items():
        if not path.startswith(start):
            continue
        below = path.removeprefix(start).split("/")
        for depth in range(1, len(below)):
            folder = start + "/".join(below[:depth])
            if recursive or depth == 1:
                entries[folder] = {
                    "type": "directory",
                    "path": folder,
                    "size": 0,
                    "oid": hashlib.sha1(folder.encode(), usedforsecurity=False).hexdigest(),
                }
        if recursive or len(below) == 1:
            entries[path] = {"type": "file", "path": path, **_blob(file, "oid")}
    return list(entries.values())
