"""No secret and nothing that a terminal obeys leaves: by what was learnt, and by how it looks."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import urllib.parse

import pytest

from offline_kit.common import redact

SECRET = "Str0ng/Pass word#9"


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        urllib.parse.quote(SECRET, safe=""),
        base64.b64encode(SECRET.encode()).decode(),
        json.dumps({"password": SECRET}),
        f"http://operator:{SECRET}@proxy.example:3128/ cannot be parsed",
    ],
)
def test_what_was_learnt_is_hidden_in_every_form(form: str) -> None:
    redact.register_secrets(SECRET)
    assert not any(part in redact.shown(form) for part in ("Str0ng", "Pass", form))


@pytest.mark.parametrize(
    "proxy",
    [
        "http://operator:W0rd{}Second@proxy.example:3128",
        "operator:W0rd{}Second@proxy.example:3128",
        "ftp://operator:W0rd{}Second@proxy.example",
    ],
)
@pytest.mark.parametrize("mark", ["", "/", "#", "[", "%zz", "?", "@", " "])
def test_a_proxy_s_password_is_learnt_however_malformed_it_is(proxy: str, mark: str) -> None:
    written = proxy.format(mark)
    redact.register_environment({"https_proxy": written})
    for text in (written, f"failed to parse {written!r}", f"host 'W0rd{mark}Second' has no address"):
        assert "W0rd" not in redact.shown(text).replace("W0rd@", "") and "Second" not in redact.shown(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://joe:pw@hub.example/a", "https://...@hub.example/a"),
        ("https://s3.example/a?X-Amz-Signature=0f0f&x=1", "https://s3.example/a?X-Amz-Signature=...&x=1"),
        ("https://b.example/a?sv=2024&sig=abc%3D", "https://b.example/a?sv=2024&sig=..."),
        ("https://cdn.example/a?h=Zm9vYmFyMTIzNDU2Nzg5MGFiY2RlZg", "https://cdn.example/a?h=..."),
        ("Authorization: Bearer abcdefgh12345", "Authorization: Bearer ..."),
        ("token hf_abcdefghijkl is refused", "token ... is refused"),
        # What is no secret stays as it is.
        ("docker://nginx@sha256:0123", "docker://nginx@sha256:0123"),
        ("hf://acme/model@main: no such file", "hf://acme/model@main: no such file"),
        ("/repo?Revision=master&FilePath=a/b-00001-of-00002.json", "/repo?Revision=master&FilePath=a/b-00001-of-00002.json"),
        ("/tree?revision=" + "0a" * 20, "/tree?revision=" + "0a" * 20),
        ("a name of two\nlines\tand 中文", "a name of two\nlines\tand 中文"),
    ],
)  # fmt: skip
def test_what_looks_like_a_secret_is_hidden_and_nothing_else(text: str, shown: str) -> None:
    assert redact.shown(text) == shown


@pytest.mark.parametrize(
    "sign", ["\x1b", "\x07", "\r", "\x08", "\x9b", "\u202e", "\u2066", "\u200b", "\u2028", "\x00", "\udc9b"]
)
def test_what_a_terminal_obeys_or_hides_is_written_as_its_number(sign: str) -> None:
    shown = redact.shown(f"before{sign}[31mafter")
    assert sign not in shown and shown.startswith("before\\") and shown.endswith("[31mafter")


def test_a_secret_in_a_text_is_found_but_not_an_ordinary_word() -> None:
    redact.register_secrets("s3cretvalue", "production")
    assert redact.find_secret("a production line") is None
    assert redact.find_secret("one\ntwo s3cretvalue") == "line 2"


def test_every_stream_and_form_is_redacted() -> None:
    program = """
from offline_kit.common import output, redact
redact.register_secrets("s3cretvalue")
for write in (output.say, output.answer, output.say_json, output.answer_json):
    write("s3cretvalue \\x1b[31m")
output.answer_json({"s3cretvalue": ["s3cretvalue", 1, None]})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "s3cret" not in done.stdout + done.stderr and "\x1b" not in done.stdout + done.stderr
    assert done.stderr.count("...") == 2 and done.stdout.count("...") == 4


def test_what_the_terminal_s_encoding_lacks_is_written_as_its_number() -> None:
    program = "from offline_kit.common import output; output.answer('caf\\xe9 \\u4e2d')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, env={"PYTHONIOENCODING": "ascii"})
    assert done.stdout == b"caf\\xe9 \\u4e2d\n"
