"""Models from ModelScope: the same guarantees as from the hub."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from offline_kit.common.digest import Digest
from offline_kit.common.errors import AccessDenied, DigestMismatch, NotFound, SpecError
from offline_kit.common.progress import Silent
from offline_kit.intake.sources.base import Context
from offline_kit.intake.sources.modelscope import ModelScopeSource
from offline_kit.intake.store.store import Store
from offline_kit.intake.transfer.http_client import HttpClient
from offline_kit.spec.lock import LockedModel
from offline_kit.spec.manifest import ModelSpec
from tests.support import intake_samples as parts
from tests.testbed.servers.faults import Fault
from tests.testbed.servers.modelscope import ModelScope

BIG = parts.safetensors({"w": os.urandom(3 << 20)})
FILES = {"config.json": b'{"a": 1}', "model.safetensors": BIG, "1_Pooling/config.json": b"{}", "old.bin": b"pickle"}
PATHS = ["1_Pooling/config.json", "config.json", "model.safetensors"]


@pytest.fixture
def scope(tmp_path: Path) -> Iterator[ModelScope]:
    with ModelScope(tokens=("ms-secret",)) as scope:
        scope.add("o/m", parts.write(tmp_path / "o-m", FILES), branch="master")
        yield scope


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    with HttpClient(parts.QUICK) as client:
        yield Context(Store(tmp_path / "store"), client, tmp_path, "linux/amd64", Silent())


def entry(scope: ModelScope, **fields: Any) -> ModelSpec:
    return ModelSpec(**{"source": "modelscope://o/m", "endpoint": scope.url, **fields})


def lock(context: Context, request: ModelSpec) -> LockedModel:
    return ModelScopeSource().resolve("mine", request, Digest.of(b""), context)


def fetch(context: Context, locked: LockedModel, request: ModelSpec) -> None:
    for piece in ModelScopeSource().pieces("mine", locked, request, context):
        piece.run(lambda amount: None)


def test_a_model_is_locked_and_fetched_and_then_nobody_is_asked(scope: ModelScope, context: Context) -> None:
    locked = lock(context, entry(scope))
    assert [file.path for file in locked.files] == PATHS
    assert locked.commit == scope.repositories["o/m"].branches["master"] and locked.endpoint == scope.url
    assert scope.sent("/lfs/*") < len(BIG), "at most the head of the weights is read to lock them"
    fetch(context, locked, entry(scope))
    for file in locked.files:
        assert context.store.path(file.sha256).read_bytes() == FILES[file.path]
    scope.log.clear()
    fetch(context, locked, entry(scope))
    assert scope.log == []


def test_bytes_are_proven_and_resumed(scope: ModelScope, context: Context) -> None:
    locked = lock(context, entry(scope))
    scope.faults.add(Fault("flip", path="/lfs/*", at=1_000_000, times=-1))
    with pytest.raises(DigestMismatch, match=r"mine: model\.safetensors \(http.*\): has digest"):
        fetch(context, locked, entry(scope))
    scope.faults.clear()
    scope.log.clear()
    scope.faults.add(Fault("cut", path="/lfs/*", at=1_000_000), Fault("status", path="*/repo", status=503))
    fetch(context, locked, entry(scope))
    assert scope.sent("/lfs/*") == len(BIG)


@pytest.mark.parametrize("reported", [True, False])
def test_a_branch_that_moves(scope: ModelScope, context: Context, tmp_path: Path, reported: bool) -> None:
    """Where the answer names the commit, the lock's is fetched; where not, other bytes are refused."""
    scope.tells_commit = reported
    locked = lock(context, entry(scope))
    assert (locked.commit is not None) == reported
    newer = {**FILES, "model.safetensors": parts.safetensors({"w": bytes(3 << 20)})}
    scope.add("o/m", parts.write(tmp_path / "newer", newer), branch="master")
    if reported:
        fetch(context, locked, entry(scope))
        assert context.store.path(Digest.of(BIG)).read_bytes() == BIG
    else:
        with pytest.raises(DigestMismatch, match="or run 'offline-kit lock' if it has changed"):
            fetch(context, locked, entry(scope))
    if reported:
        first = locked.commit
        assert lock(context, entry(scope)).commit != first and lock(context, entry(scope, revision=first)).commit == first


def test_what_is_not_there(scope: ModelScope, context: Context) -> None:
    page = f"{scope.url}/models/o"
    with pytest.raises(NotFound, match=f"o/m: has no revision 'v9' -> see {page}/m/files"):
        lock(context, entry(scope, revision="v9"))
    with pytest.raises(NotFound, match=f"o/n: ModelScope has no such model.* -> check the name at {page}/n"):
        lock(context, entry(scope, source="modelscope://o/n"))
    with pytest.raises(SpecError, match="not the name of a model"):
        lock(context, entry(scope, source="modelscope://o/m/../x"))
    with pytest.raises(SpecError, match="is not https://"):
        lock(context, entry(scope, endpoint="http://scope.example"))
    locked = lock(context, entry(scope))
    scope.faults.add(Fault("status", path="*/repo", status=404, times=-1))
    with pytest.raises(NotFound, match=f"no such file any more -> see {page}/m/files"):
        fetch(context, locked, entry(scope))


def test_what_is_refused_for_a_reason(scope: ModelScope, context: Context) -> None:
    with pytest.raises(DigestMismatch, match="demands 000"):
        lock(context, entry(scope, sha256={"config.json": "0" * 64}))
    with pytest.raises(SpecError, match=r"old\.bin -> say 'allow_pickle"):
        lock(context, entry(scope, exclude=["*.safetensors"]))


def test_a_token_goes_to_modelscope_and_not_to_its_store(
    scope: ModelScope, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scope.add("o/gated", tmp_path / "o-m", branch="master", gated=True)
    request = entry(scope, source="modelscope://o/gated")
    with pytest.raises(
        AccessDenied, match=f"HTTP 403.* -> ask for it at {scope.url}/models/o/gated, then set OFFLINE_KIT_HUB_TOKENS"
    ):
        lock(context, request)
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "for-the-public-one-only")
    with pytest.raises(AccessDenied):
        lock(context, request)
    monkeypatch.setenv("OFFLINE_KIT_HUB_TOKENS", f"{scope.url.removeprefix('http://')}=ms-secret")
    with ModelScope() as store:
        store.add("o/m", tmp_path / "o-m", branch="master")
        scope.store = store
        locked = lock(context, request)
        fetch(context, locked, request)
        item = next(file for file in locked.files if file.path == "model.safetensors")
        assert store.sent(f"/lfs/{item.sha256.hex}") >= len(BIG)
        url = f"{scope.url}/api/v1/models/o/gated/repo?Revision=master&FilePath=model.safetensors"
        sent = {"Cookie": "m_session_id=ms-secret"}
        with context.client.get(url, {**sent, "Range": "bytes=0-9"}) as response:
            assert response.status_code == 403, "the cookie alone is not what this stand-in wants"
        from offline_kit.intake.sources.credentials import Fixed

        with context.client.get(url, {**sent, "Range": "bytes=0-9"}, Fixed("Bearer ms-secret")) as response:
            asked = [step.request.headers for step in (*response.history, response)]
    assert asked[0]["Authorization"] == "Bearer ms-secret" and asked[0]["Cookie"] == "m_session_id=ms-secret"
    assert "Authorization" not in asked[-1] and "Cookie" not in asked[-1]


def test_the_place_of_the_environment(scope: ModelScope, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSCOPE_DOMAIN", "127.0.0.1:1")
    from offline_kit.intake.sources.modelscope import hub_url

    assert hub_url(entry(scope, endpoint=None)) == "https://127.0.0.1:1"
    monkeypatch.delenv("MODELSCOPE_DOMAIN")
    assert hub_url(entry(scope, endpoint=None)) == "https://www.modelscope.cn"
