"""What a hub may say, and what is made of it: hostile hubs, and mirrors and repository managers as they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from offline_kit.common.digest import Digest
from offline_kit.common.errors import AccessDenied, KitError, NetworkError, NotFound, SpecError
from offline_kit.common.progress import Silent
from offline_kit.intake.sources.base import Context
from offline_kit.intake.sources.hub import HubSource
from offline_kit.intake.sources.hubs import hub_tokens
from offline_kit.intake.store.store import Store
from offline_kit.intake.transfer.http_client import HttpClient
from offline_kit.spec.lock import LockedModel
from offline_kit.spec.manifest import Manifest, ModelSpec
from tests.support import intake_samples as samples
from tests.support.loopback import COMMIT, FILES, INFO, TREE, Hub, Request, blob_id, entry, serving


@pytest.fixture(autouse=True)
def _no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_TOKEN", "HF_ENDPOINT", "MODELSCOPE_API_TOKEN", hub_tokens.VARIABLE):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    with HttpClient(samples.QUICK) as client:
        yield Context(Store(tmp_path / "store"), client, tmp_path, "linux/amd64", Silent())


def lock(context: Context, url: str, **fields: Any) -> LockedModel:
    return HubSource().resolve("m", ModelSpec(source="hf://o/m", endpoint=url, **fields), Digest.of(b""), context)


def reply(body: bytes, status: int = 200, **headers: str) -> Callable[[Request], None]:
    return lambda request: request.reply(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


def refused(context: Context, hub: Hub, said: str, kind: type[KitError] = NetworkError, **fields: Any) -> None:
    with serving(hub) as url, pytest.raises(kind, match=said):
        lock(context, url, **fields)


# Lists ---------------------------------------------------------------------------------------------------------------------


def test_pages_are_read_at_the_hub_that_was_chosen_whatever_it_says(context: Context) -> None:
    hub, elsewhere = Hub(), Hub()
    pages = [hub.tree[:1], hub.tree[1:2], hub.tree[2:]]

    def page(request: Request) -> None:
        number = int(request.path.partition("cursor=")[2] or 0)
        following = f'<{other}/some/where?recursive=true&cursor={number + 1}>; rel="next"'
        request.reply(json.dumps(pages[number]).encode(), headers={"Link": following if number < 2 else ""})

    hub.instead[TREE] = page
    with serving(elsewhere) as other, serving(hub) as url:
        assert {file.path for file in lock(context, url).files} == set(FILES)
    assert elsewhere.seen == [] and len([path for path, _ in hub.seen if path.startswith(TREE)]) == 3


@pytest.mark.parametrize("cursor", ["same", "growing"])
def test_a_list_without_end_has_one(context: Context, cursor: str) -> None:
    hub, count = Hub(), iter(range(10**9))

    def page(request: Request) -> None:
        number = next(count)
        query = "cursor=1" if cursor == "same" else f"cursor={number}"
        entries = [entry(f"{number}/{index}", b"") for index in range(1000)] if cursor == "growing" else []
        request.reply(json.dumps(entries).encode(), headers={"Link": f'<http://x/y?{query}>; rel="next"'})

    hub.instead[TREE] = page
    refused(context, hub, "does not end" if cursor == "same" else "more entries than are taken")
    assert len(hub.seen) < 60


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"a": 1}, "no list"),
        ([1], "has no path"),
        ([{"type": "file", "path": 5}], "has no path"),
        ([{**entry("a", b""), "size": -1}], "the size of 'a' is none: -1"),
        ([{**entry("a", b""), "size": "7"}], "the size of 'a' is none: '7'"),
        ([{**entry("a", b""), "size": True}], "the size of 'a' is none: True"),
        ([{**entry("a", b""), "size": 1 << 80}], "the size of 'a' is none"),
        ([{**entry("a", b""), "oid": "../../etc"}], "git blob id of 'a' is none"),
        ([{**entry("a", b""), "lfs": [1]}], "'lfs' of 'a' is no object"),
        ([{**entry("a", b""), "lfs": {"oid": "A" * 64, "size": 1}}], "sha256 of 'a' is none"),
        ([{**entry("a", b""), "lfs": {"oid": 7, "size": 1}}], "sha256 of 'a' is none"),
        ([entry("a" * 5000, b"")], "path of more than 4096 bytes"),
    ],
)
def test_values_of_the_wrong_type_are_the_hub_s_fault(context: Context, tree: Any, said: str) -> None:
    hub = Hub()
    hub.tree = tree
    refused(context, hub, f"does not answer as a hub does: .*{said}")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>blocked by policy</html>", r"no JSON \(text/html; line 1"),
        (b"[" * 100_000, "no JSON .*nested too deeply"),
        (b'{"id": "o/m", "sha": ' + b"1" * 5000 + b"}", "no JSON .*number too long"),
        (b'{"id": "\\ud800", "sha": 1}', "no JSON .*half a character"),
        (b"\xff\xfe", "no JSON"),
        (b"[1]", "no object"),
        (b"null", "no object"),
        (b'{"id": 7, "sha": "' + COMMIT.encode() + b'"}', "name is no text"),
        (b'{"id": "o/m", "sha": "main"}', "a commit that is none: 'main'"),
        (b'{"id": "o/m", "sha": 5}', "a commit that is none: 5"),
        (b'{"id": "o/m", "sha": "../../x"}', "a commit that is none"),
    ],
)
def test_an_answer_that_is_no_hub_s_is_named(context: Context, body: bytes, said: str) -> None:
    hub = Hub()
    hub.instead[INFO] = reply(body, Content_Type="text/html")
    refused(context, hub, said)


def test_questions_stay_with_the_hub(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere, hub = Hub(), Hub()
    with serving(elsewhere, "127.0.0.2") as other:
        hub.instead[INFO] = lambda request: request.reply(b"", 302, {"Location": other + request.path})
        refused(context, hub, "sends questions on to another host: 127.0.0.2")
    assert elsewhere.seen == []


# Mirrors and repository managers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 404, 405, 501])
def test_a_hub_without_a_tree_is_asked_for_the_list_in_its_description(context: Context, status: int) -> None:
    hub = Hub()
    hub.instead[TREE] = reply(b"{}", status)
    hub.info["siblings"] = [
        {"rfilename": item["path"], "size": item["size"], "blobId": item["oid"], "lfs": item.get("lfs")} for item in hub.tree
    ]
    with serving(hub) as url:
        assert {file.path: file.sha256 for file in lock(context, url).files} == {
            path: Digest.of(data) for path, data in FILES.items()
        }


@pytest.mark.parametrize("form", ["the hub's", "checksums"])
def test_what_the_list_leaves_out_is_read_from_the_headers_of_a_file(context: Context, form: str) -> None:
    hub = Hub()
    hub.instead[TREE] = reply(b"{}", 404)
    hub.info["siblings"] = [{"rfilename": path} for path in FILES]

    def headers(path: str, data: bytes) -> Mapping[str, str]:
        if form == "checksums":
            return {"X-Checksum-Sha256": Digest.of(data).hex, "ETag": "12345"}
        large = {"X-Linked-Etag": f'"{Digest.of(data).hex}"', "X-Linked-Size": str(len(data))}
        return large if path.endswith(".safetensors") else {"ETag": f'W/"{blob_id(data)}"'}

    hub.headers = headers
    with serving(hub) as url:
        found = {file.path: (file.sha256, file.size) for file in lock(context, url).files}
    assert found == {path: (Digest.of(data), len(data)) for path, data in FILES.items()}


@pytest.mark.parametrize("demanded", [False, True])
def test_what_nobody_tells_is_refused_unless_the_manifest_says_it(context: Context, demanded: bool) -> None:
    hub = Hub()
    hub.tree = [{"type": "file", "path": path, "size": len(data)} for path, data in FILES.items()]
    if not demanded:
        refused(context, hub, "does not tell sha256 or git blob id of .* -> write its sha256", NotFound)
        return
    with serving(hub) as url:
        demands = {path: Digest.of(data) for path, data in FILES.items()}
        assert {file.path: file.sha256 for file in lock(context, url, sha256=demands).files} == demands


def test_no_list_at_all_is_said(context: Context) -> None:
    hub = Hub()
    hub.instead[TREE] = reply(b"{}", 404)
    refused(context, hub, "gives no list of files", NotFound)


# Tokens --------------------------------------------------------------------------------------------------------------------


def test_a_token_goes_to_its_own_hub_only(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_for_its_own_hub")
    hub = Hub()
    with serving(hub) as url:
        lock(context, url)
        assert {login for _, login in hub.seen} == {None}, "a hub that the manifest alone names"
        monkeypatch.setenv(hub_tokens.VARIABLE, f"other.example=x, {url.removeprefix('http://')}=hf_for_this_one")
        lock(context, url)
        assert hub.seen[-1][1] == "Bearer hf_for_this_one"
        monkeypatch.delenv(hub_tokens.VARIABLE)
        monkeypatch.setenv("HF_ENDPOINT", f"{url}/")
        lock(context, url)
        assert hub.seen[-1][1] == "Bearer hf_for_its_own_hub"


@pytest.mark.parametrize(
    ("endpoint", "tokens", "token"),
    [
        ("https://huggingface.co", "", "own"),
        ("https://HuggingFace.co:443/x", "", "own"),
        ("http://huggingface.co", "", None),
        ("https://huggingface.co.evil.example", "", None),
        ("https://huggingface.co:8443", "", None),
        ("https://a.example", "a.example=one,b.example=two", "one"),
        ("https://A.example", "a.EXAMPLE=one", "one"),
        ("https://a.example:8443", "a.example=one", None),
        ("https://a.example:8443", "a.example:8443=one", "one"),
        ("https://sub.a.example", "a.example=one", None),
        ("https://a.example", "a.example=one=two", "one=two"),
        ("https://[::1]:8443", "[::1]:8443=one", "one"),
    ],
)
def test_which_token_goes_where(monkeypatch: pytest.MonkeyPatch, endpoint: str, tokens: str, token: str | None) -> None:
    monkeypatch.setenv(hub_tokens.VARIABLE, tokens)
    login = hub_tokens.login(endpoint, "own", "HF_TOKEN", ("https://huggingface.co",))
    assert (login.header() if login else None) == (f"Bearer {token}" if token else None)


@pytest.mark.parametrize("text", ["token", "a.example", "=x", "a.example=", "https://a.example=x", "joe@a.example=x"])
def test_tokens_have_one_form(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(hub_tokens.VARIABLE, text)
    with pytest.raises(SpecError, match="is not HOST=TOKEN"):
        hub_tokens.login("https://a.example", None, "HF_TOKEN", ())


@pytest.mark.parametrize("token", ["hf_abc…", "hf abc", "hf_abc\r\nX: y", "„hf_abc“"])
def test_a_token_that_cannot_be_one_is_told_by_its_variable(token: str) -> None:
    with pytest.raises(AccessDenied, match="HF_TOKEN holds a character that no token has") as caught:
        hub_tokens.login("https://a.example", token, "HF_TOKEN", ("https://a.example",))
    assert token not in str(caught.value)


# The URL -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ("http://hub.example", "is not https://.*'insecure: true'"),
        ("https://joe:secret-word@hub.example", "a name or a password.*OFFLINE_KIT_HUB_TOKENS"),
        ("https://hub.example?token=secret-word", "has a query"),
        ("https://hub.example\\@127.0.0.1", "a character that no URL has"),
        ("http://[", "cannot be read"),
        ("hub.example", "not http:// or https://"),
        ("file:///etc", "not http:// or https://"),
    ],
)
def test_an_endpoint_that_cannot_be_meant(context: Context, endpoint: str, said: str) -> None:
    with pytest.raises(SpecError, match=said) as caught:
        lock(context, endpoint)
    assert "secret-word" not in str(caught.value)


def test_plain_http_where_the_manifest_says_so(context: Context) -> None:
    with pytest.raises(NetworkError, match=r"hub\.invalid"):
        lock(context, "http://hub.invalid", insecure=True)


def test_how_bytes_travel_is_no_part_of_what_they_are() -> None:
    one, other = (samples.manifest(models={"m": {"source": "hf://o/m", "insecure": value}}) for value in (True, False))
    assert spec_digests(one) == spec_digests(other)


def spec_digests(manifest: Manifest) -> Digest:
    from offline_kit.spec.lock import spec_digest

    return spec_digest(manifest, "models.m")
