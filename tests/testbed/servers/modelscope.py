"""ModelScope over the loopback: the two pages of its public API that list and give a model's files.

Rules: (1) as the real one, an unknown revision is 200 with `"Files": null`, and an unknown model 404 with a JSON body; (2) all
files have their sha256, large or not; large ones are given by a redirect to `/lfs/SHA256`; (3) faults, log and
repositories are those of the hub.
"""

from __future__ import annotations

import urllib.parse
from typing import Any

from tests.testbed.servers.hub import Hub, HubFile
from tests.testbed.servers.hub_http import Handler


class ScopeHandler(Handler):
    """One connection."""

    @property
    def hub(self) -> ModelScope:
        scope: ModelScope = self.server.hub  # type: ignore[attr-defined]
        return scope

    def do_GET(self) -> None:
        path, _, text = self.path.partition("?")
        parts = urllib.parse.unquote(path).strip("/").split("/")
        query = {name: values[0] for name, values in urllib.parse.parse_qs(text).items()}
        if parts[0] == "lfs":
            return self._content(next(file for file in self._every() if file.sha256 == parts[1]))
        if parts[:3] != ["api", "v1", "models"] or len(parts) < 6 or parts[5] != "repo":
            return self._say(404, 10010200001, "page not found")
        return self._model("/".join(parts[3:5]), parts[6:] == ["files"], query)

    def _model(self, name: str, listing: bool, query: dict[str, str]) -> None:
        repository = self.hub.repositories.get(name)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if repository is None or (repository.gated and token not in self.hub.tokens):
            return self._say(404 if repository is None else 403, 10010205001, "Record Not Found")
        commit = repository.commit_of(query.get("Revision", "master"))
        files = repository.commits.get(commit or "", {})
        if listing:
            return self._json({"Code": 200, "Success": True, "Message": "", "Data": self.hub.listing(commit, files)})
        file = files.get(query["FilePath"])
        if file is None:
            return self._say(404, 10010201001, "file not found")
        if file.lfs:
            return self._answer(302, b"", {"Location": f"{self.hub.store_url}/lfs/{file.sha256}"})
        return self._content(file)

    def _every(self) -> list[HubFile]:
        return [
            file
            for repository in self.hub.repositories.values()
            for files in repository.commits.values()
            for file in files.values()
        ]

    def _content(self, file: HubFile) -> None:
        self._answer(200, file.path.read_bytes(), {"Accept-Ranges": "bytes"})

    def _say(self, status: int, code: int, message: str) -> None:
        body = f'{{"Code": {code}, "Message": "{message}", "Success": false, "Data": null}}'
        self._answer(status, body.encode(), {"Content-Type": "application/json"})


class ModelScope(Hub):
    """The stand-in; add models with branch `master`. `tells_commit`: whether an answer lets the commit be known."""

    handler = ScopeHandler
    tells_commit = True
    store: Hub | None = None

    @property
    def store_url(self) -> str:
        """Where large files lie: here, or at another host."""
        return (self.store or self).url.replace("127.0.0.1", "localhost" if self.store else "127.0.0.1")

    def listing(self, commit: str | None, files: dict[str, HubFile]) -> dict[str, Any]:
        """The `Data` of the list of files."""
        if commit is None:
            return {"Files": None, "IsVisual": 0, "LatestCommitter": None}
        known = commit if self.tells_commit else "0" * 40
        folders = {path.rpartition("/")[0] for path in files} - {""}
        entries: list[dict[str, Any]] = [
            {"Path": folder, "Type": "tree", "Size": 0, "Sha256": ""} for folder in sorted(folders)
        ]
        for path, file in files.items():
            facts = {"Path": path, "Type": "blob", "Size": file.size, "Sha256": file.sha256, "IsLFS": file.lfs}
            entries.append({**facts, "Revision": known})
        return {"Files": entries, "IsVisual": 0, "LatestCommitter": {"Id": "", "ShortId": commit[:8]}}
