"""Models from a registry of the site into a folder: the Job that fills a claim of Kubernetes runs this.

Rules: standard library only; a file counts when its bytes have the sha256 of the list; what is whole is not fetched again, and
what is not goes on where it ended; a model has its name when all its files are whole and on the disk, so that no engine reads
half of one; nobody is asked but the registry, and the token service that it names.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import http.client
import json
import os
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

_PIECE = 1 << 20
_TRIES = 8
_WAIT = 2.0  # seconds before the second try; each one waits twice as long
_PERIOD = 2.0  # seconds between two looks


class FetchError(Exception):
    """What keeps a model from being whole."""


class Registry:
    """A registry at ``address`` (a URL without a path); ``login``: ``USER:PASSWORD``, empty without one."""

    def __init__(self, address: str, login: str) -> None:
        self._address, self._login = address, login
        self._tokens: Dict[str, str] = {}

    def open(self, repository: str, digest: str, start: int) -> Any:
        """The answer for a blob from byte ``start`` on. Raises FetchError and OSError."""
        url = f"{self._address}/v2/{repository}/blobs/{digest}"
        for _ in range(2):
            request = urllib.request.Request(url)
            if start:
                request.add_header("Range", f"bytes={start}-")
            if repository in self._tokens:
                # A registry that stores elsewhere sends there, and no one there is to see the login.
                request.add_unredirected_header("Authorization", self._tokens[repository])
            try:
                return urllib.request.urlopen(request, timeout=60)
            except urllib.error.HTTPError as error:
                wanted = error.headers.get("WWW-Authenticate", "")
                if error.code != 401 or repository in self._tokens:
                    raise
                self._tokens[repository] = self._authorization(wanted, repository)
        raise FetchError(f"{self._address} refuses the login for {repository}")

    def _authorization(self, wanted: str, repository: str) -> str:
        basic = "Basic " + base64.b64encode(self._login.encode("utf-8")).decode("ascii")
        if not wanted.lower().startswith("bearer "):
            if not self._login:
                raise FetchError(f"{self._address} wants a login for {repository} -> render with --pull-secret")
            return basic
        told = dict(re.findall(r'(\w+)="([^"]*)"', wanted))
        query = {"service": told.get("service", ""), "scope": f"repository:{repository}:pull"}
        request = urllib.request.Request(f"{told.get('realm', '')}?{urllib.parse.urlencode(query)}")
        if self._login:
            request.add_unredirected_header("Authorization", basic)
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.loads(answer.read(1 << 20))
        return f"Bearer {found.get('token') or found.get('access_token')}"


def fetch(registry: Registry, repository: str, path: Path, size: int, sha256: str) -> None:
    """The blob ``sha256`` as the file ``path``, whatever of it is there. Raises FetchError and OSError."""
    problem: Optional[Exception] = None
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_WAIT * 2 ** (attempt - 1))
        start = path.stat().st_size if path.exists() else 0
        if start > size:
            path.unlink()
            start = 0
        try:
            if start < size:
                _append(registry, repository, path, start, sha256)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code in (401, 403, 404):
                raise FetchError(
                    f"{repository}: HTTP {error.code} for sha256:{sha256} -> offline-kit push, or the login"
                ) from error
            problem = error
            print(f"{path.name}: {error}; again", file=sys.stderr, flush=True)
            continue
        if not path.exists():
            path.write_bytes(b"")
        if path.stat().st_size == size:
            if digest_of(path) == sha256:
                return
            path.unlink()
            problem = FetchError("its bytes are not those of the lock")
    raise FetchError(f"{repository}: {path.name}: {problem or 'ended too early'}")


def _append(registry: Registry, repository: str, path: Path, start: int, sha256: str) -> None:
    with registry.open(repository, f"sha256:{sha256}", start) as answer, path.open("ab") as file:
        if start and answer.status != 206:
            file.truncate(0)
        while True:
            piece = answer.read(_PIECE)
            if not piece:
                break
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def digest_of(path: Path) -> str:
    """The sha256 of a file, as hexadecimal digits."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        for piece in iter(lambda: file.read(_PIECE), b""):
            found.update(piece)
    return found.hexdigest()


def bring(registry: Registry, name: str, repository: str, files: List[Tuple[str, int, str]], into: Path) -> None:
    """The model as the folder ``name`` below ``into``, whole or not at all. Raises FetchError and OSError."""
    final, partial = into / name, into / f".partial-{name}"
    if final.exists():
        print(f"{name}: is there", file=sys.stderr, flush=True)
        return
    for path, size, sha256 in files:
        if path.startswith("/") or ".." in path.split("/"):
            raise FetchError(f"{name}: '{path}' leads out of the model")
        file = partial / path
        file.parent.mkdir(parents=True, exist_ok=True)
        fetch(registry, repository, file, size, sha256)
    partial.replace(final)
    print(f"{name}: {len(files)} files", file=sys.stderr, flush=True)


def login_of(config: Path, host: str) -> str:
    """``USER:PASSWORD`` for the registry ``host`` in a file of Docker's form; empty where it has none. Raises OSError."""
    entries = json.loads(config.read_text("utf-8")).get("auths", {})
    for name, entry in entries.items():
        if re.sub(r"^https?://", "", name).split("/")[0] == host:
            if entry.get("auth"):
                return base64.b64decode(entry["auth"]).decode("utf-8")
            return f"{entry.get('username', '')}:{entry.get('password', '')}"
    return ""


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m runtime.fetch_models", description="Models of a registry into a folder.")
    parser.add_argument("--registry", metavar="URL", help="the address of the registry")
    parser.add_argument("--list", type=Path, metavar="FILE", help="models, their repositories and files, as JSON")
    parser.add_argument("--into", type=Path, metavar="DIR", help="the folder that gets them")
    parser.add_argument("--login", type=Path, metavar="FILE", help="a login of the registry, in Docker's form")
    parser.add_argument("--wait", type=Path, nargs="+", metavar="DIR", help="wait until these are there, and do nothing else")
    options = parser.parse_args(arguments)
    if options.wait:
        while not all(folder.is_dir() for folder in options.wait):
            time.sleep(_PERIOD)
        return 0
    if not (options.registry and options.list and options.into):
        parser.error("name --registry, --list and --into, or --wait")
    try:
        host = urllib.parse.urlsplit(options.registry).netloc
        registry = Registry(options.registry, login_of(options.login, host) if options.login else "")
        for name, model in sorted(json.loads(options.list.read_text("utf-8")).items()):
            bring(registry, name, model["repository"], [tuple(file) for file in model["files"]], options.into)
    except (FetchError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
