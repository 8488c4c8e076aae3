"""A registry that misbehaves on demand: what a real one answers, passed on with the hub's faults.

Rules: (1) requests go to the registry behind, credentials and all; (2) its answers are read whole and leave by the hub's one
way out, so ranges, faults and log are the hub's; (3) blobs may be given by a redirect to another host, as cloud registries do.
"""

from __future__ import annotations

import urllib.error
import urllib.request

from tests.testbed.servers.hub import Hub
from tests.testbed.servers.hub_http import Handler

_PASSED_ON = ("Authorization", "Accept")
_KEPT = ("Content-Type", "Docker-Content-Digest", "WWW-Authenticate", "ETag")


class _FrontHandler(Handler):
    @property
    def hub(self) -> Front:
        front: Front = self.server.hub  # type: ignore[attr-defined]
        return front

    def do_GET(self) -> None:
        if "Authorization" in self.headers:
            self.hub.seen_logins.append(self.path)
        if self.hub.store is not None and "/blobs/" in self.path:
            return self._answer(307, b"", {"Location": self.hub.store + self.path})
        headers = {name: value for name, value in self.headers.items() if name in _PASSED_ON}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(self.hub.behind + self.path, headers=headers), timeout=20
            ) as reply:
                status, body, reply_headers = reply.status, reply.read(), reply.headers
        except urllib.error.HTTPError as error:
            with error:
                status, body, reply_headers = error.code, error.read(), error.headers
        kept = {name: reply_headers[name] for name in _KEPT if name in reply_headers}
        return self._answer(status, body, {**kept, **({"Accept-Ranges": "bytes"} if "/blobs/" in self.path else {})})


class Front(Hub):
    """Stands before the registry at ``behind``. ``store``: the URL of the server that its blobs are redirected to.

    `seen_logins`: paths of requests that came with credentials.
    """

    handler = _FrontHandler

    def __init__(self, behind: str) -> None:
        super().__init__()
        self.behind = behind
        self.store: str | None = None
        self.seen_logins: list[str] = []

    @property
    def host(self) -> str:
        """`127.0.0.1:PORT`, as it stands in image names."""
        return self.url.removeprefix("http://")
