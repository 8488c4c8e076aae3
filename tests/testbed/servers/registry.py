"""A real registry (Debian's docker-registry) on the loopback, over a storage folder.

Rules: (1) it listens on 127.0.0.1 only; (2) the storage in the cache is never served for writing by tests: they get a
clone whose big blobs are hard links, since a blob file is never written twice, and whose link files are copies.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tests.testbed.process import Process, TestbedError, free_port

BCRYPT_SALT = b"$2b$05$offlinekittestbedsaltu"


class Registry:
    """One registry; a context manager that starts it and stops it.

    `storage` is its folder (made when absent), `work` holds its configuration and log, `port` 0 picks a free one,
    `user` = (name, password) demands basic authentication, `prefix` comes before the program, for `nsenter`.
    """

    def __init__(
        self, storage: Path, work: Path, *, port: int = 0, user: tuple[str, str] | None = None, prefix: Sequence[str] = ()
    ) -> None:
        self.storage, self.log, self.port = storage, work / "registry.log", free_port(port)
        self._work, self._user, self._prefix = work, user, list(prefix)
        self._process: Process | None = None

    @property
    def host(self) -> str:
        """`127.0.0.1:PORT`, as it stands in image names."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return f"http://{self.host}"

    def start(self) -> None:
        """Starts it and returns when it answers. Raises TestbedError when it is missing or does not within 20 s."""
        program = shutil.which("docker-registry")
        if not program:
            raise TestbedError("docker-registry is missing; bash tests/testbed/setup.sh installs it")
        self._work.mkdir(parents=True, exist_ok=True)
        self.storage.mkdir(parents=True, exist_ok=True)
        settings = self._work / "registry.json"  # JSON is YAML too
        settings.write_text(json.dumps(self._settings()))
        self._process = Process([*self._prefix, program, "serve", str(settings)], self.log)
        try:
            self._process.wait_until(self._answers, 20, "the registry")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stops it; the storage stays. Safe to call twice."""
        if self._process:
            self._process.stop()
            self._process = None

    def __enter__(self) -> Registry:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _settings(self) -> dict[str, object]:
        settings: dict[str, object] = {
            "version": "0.1",
            "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": {"filesystem": {"rootdirectory": str(self.storage)}, "delete": {"enabled": True}},
            "http": {"addr": self.host},
        }
        if self._user:
            name, password = self._user
            (self._work / "htpasswd").write_text(f"{name}:{_bcrypt(password)}\n")
            settings["auth"] = {"htpasswd": {"realm": "testbed", "path": str(self._work / "htpasswd")}}
        return settings

    def _answers(self) -> bool:
        if self._prefix:  # in a namespace of its own: only its log can be seen from here
            return "listening on" in self.log.read_text(errors="replace")
        try:
            with urllib.request.urlopen(f"{self.url}/v2/", timeout=2):
                return True
        except urllib.error.HTTPError as error:
            error.close()
            return error.code == 401
        except OSError:
            return False


def clone(storage: Path, target: Path) -> Path:
    """A copy of a registry's storage that may be written to; blob files are hard links where that can be."""

    def copy(source: str, destination: str) -> str:
        if Path(source).name == "data":
            try:
                os.link(source, destination)
                return destination
            except OSError:  # another file system
                return str(shutil.copyfile(source, destination))
        return str(shutil.copyfile(source, destination))

    return Path(shutil.copytree(storage, target, copy_function=copy, dirs_exist_ok=True))


def _bcrypt(password: str) -> str:
    """The bcrypt hash that htpasswd files hold, by the C library's crypt(3): Python has lost its own."""
    library = ctypes.CDLL(ctypes.util.find_library("crypt") or "libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    hashed = library.crypt(password.encode(), BCRYPT_SALT)
    if not hashed or not hashed.startswith(b"$2b$"):
        raise TestbedError("crypt(3) of this machine knows no bcrypt")
    return bytes(hashed).decode()
