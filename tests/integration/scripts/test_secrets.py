"""No secret in what leaves the host: whatever form somebody else gave it."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import tarfile
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import scripts_kit

KEY = "sEcret/key+of~36.chars==with-all-signs"
ODD = 'p&s <w>[x]^\\z"*$'
TEAM = "0123456789abcdef0123456789abcdef0123456789abcdef"
ENGINE = {
    "hf_token": "a-token-of-a-hub",
    "api-key": ["first-key-of-two", "second-key-of-two"],
    "model_loader_extra_config": {
        "aws_secret_access_key": "cloud/secret+1",
        "headers": {"Authorization": "Bearer of-bad-news"},
    },
    "words": ["--api-key", "key-behind-its-option", "--proxy-password=in-one-word"],
}
IN_ENGINE = (
    "a-token-of-a-hub", "first-key-of-two", "second-key-of-two", "cloud/secret+1", "of-bad-news", "key-behind-its-option",
    "in-one-word",
)  # fmt: skip
YAML = """\
tokenizer: a-tokenizer-stays
max_num_batched_tokens: 123456789012
api-key: "quoted in yaml"  # remark
other_token:
  - item-one-of-a-list
  - 'item-two-of-a-list'
flow: {hf_token: a-token-in-a-flow, seed: 1}
private_key: |
  a-line-of-a-block
"""
IN_YAML = ("quoted in yaml", "item-one-of-a-list", "item-two-of-a-list", "a-token-in-a-flow", "a-line-of-a-block")
FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "percent": lambda text: urllib.parse.quote(text, safe=""),
    "percent, some": urllib.parse.quote,
    "of a form": urllib.parse.quote_plus,
    "percent twice": lambda text: urllib.parse.quote(urllib.parse.quote(text, safe=""), safe=""),
    "percent, every letter": lambda text: "".join(f"%{ord(sign):02x}" for sign in text),
    "JSON": json.dumps,
    "JSON with slashes": lambda text: json.dumps(text).replace("/", "\\/"),
    "JSON in JSON": lambda text: json.dumps(json.dumps(text)),
    "JSON, every letter": lambda text: "".join(f"\\u{ord(sign):04X}" for sign in text),
    "hexadecimal": lambda text: text.encode().hex(),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 behind one": lambda text: base64.b64encode(f"u{text}".encode()).decode(),
    "base64 behind two": lambda text: base64.b64encode(f"u:{text}:x".encode()).decode(),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(f"abcd{text}~".encode()).decode(),
}


@pytest.fixture(scope="module")
def kit(shelf: scripts_kit.Shelf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secrets")
    made = scripts_kit.make_kit(shelf, folder / "a kit")
    assert scripts_kit.run(made, "scripts/verify.sh").returncode == 0, "this host knows the folder from now on"
    (made / ".state/tls").mkdir(parents=True)
    checked = hashlib.sha256(b"services: {}\n").hexdigest() + "\n"
    for name, text in (
        ("compose.yaml", "services: {}\n"),
        ("compose.checked", checked),
        ("start-order", "gateway\n"),
        ("ports", "8000 gateway\n"),
    ):
        (made / ".state" / name).write_text(text)
    (made / ".env").write_text(  # it begins with a mark of the byte order, as some editors leave it
        f"\ufeffVLLM_API_KEY={KEY}\nGRAFANA_ADMIN_PASSWORD='{ODD}'\nHTTPS_PROXY=http://bob:pr/oxy@word@proxy:3128\nOFFLINE_KIT_KEY_LIMIT=100000\n"
    )
    (made / ".state/keys").write_text(f"# added 2026-01-01T00:00:00Z team\nteam {TEAM}\n")
    models = json.loads((made / "config/models.json").read_text())
    models["models"]["chat"]["engine_args"] = ENGINE
    (made / "config/models.json").write_text(json.dumps(models))
    (made / "config/vllm_config.yaml").write_text(YAML)
    subprocess.run(["openssl", "genrsa", "-out", made / ".state/tls/server.key", "2048"], check=True, capture_output=True)
    (folder / "bin").mkdir()
    (folder / "bin/docker").write_text(
        f'#!/bin/sh\ncase "$*" in "ps "*) echo 0123456789ab ;; *logs*) cat "{folder}/log" ;; esac\n'
    )
    (folder / "bin/docker").chmod(0o755)
    return made


def deploy(kit: Path, *words: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    path = f"{kit.parent}/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return scripts_kit.run(kit, "scripts/deploy.sh", *map(str, words), env={"PATH": path, **env})


def shown(kit: Path, text: str, **env: str) -> str:
    """The log of a service that says this, as `logs` shows it."""
    (kit.parent / "log").write_text(text + "\n")
    done = deploy(kit, "logs", **env)
    assert done.returncode == 0, done.stderr
    return done.stdout.removesuffix("\n")


def heart(text: str) -> str:
    """What of a base64 text only the secret decides, at worst."""
    return text.strip('"=')[4:-4]


@pytest.mark.parametrize("secret", [KEY, ODD, TEAM, "cloud/secret+1", "quoted in yaml"])
def test_every_form_is_known(kit: Path, secret: str) -> None:
    lines = [form(secret) for form in FORMS.values()]
    found = shown(kit, "\n".join(f"before {line} after" for line in lines)).splitlines()
    assert len(found) == len(lines)
    for name, line, said in zip(FORMS, lines, found, strict=True):
        assert said.startswith("before ") and said.endswith(" after"), (name, said)
        assert heart(line) not in said, (name, said)


def test_every_secret_is_known(kit: Path) -> None:
    private = (kit / ".state/tls/server.key").read_text()
    lines = [*IN_ENGINE, *IN_YAML, "pr/oxy@word", *private.splitlines()[1:-1]]
    found = shown(kit, "\n".join(f"before {line} after" for line in lines)).splitlines()
    assert [line for line, said in zip(lines, found, strict=True) if line in said] == []
    assert "PRIVATE" not in shown(kit, private)
    assert "PRIVATE" not in shown(kit, json.dumps({"key": private}))


def test_what_is_no_secret_stays(kit: Path) -> None:
    harmless = [
        "INFO Avg prompt throughput: 12.3 tokens/s, max_tokens: 100000, tokenizer=a-tokenizer-stays",
        "eos_token: </s>, basic authentication is off, GET /v1/models?limit=20 HTTP/1.1",
        "100000 requests; sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    ]
    assert shown(kit, "\n".join(harmless)).splitlines() == harmless


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer THEIRS0123456789", "authorization: Basic dGhlaXI6VEhFSVJTMDE=", "curl http://u:THEIRS@h/x",
        "HTTP_PROXY=u:THEIRS@proxy:1", "https://h/x?X-Amz-Signature=THEIRS0123&a=1", "hf_abcTHEIRS0123456789",
        '"password": "THEIRS01"', "--api-key=THEIRS01", "AWS_SECRET_ACCESS_KEY='THEIRS01'", "token=THEIRS01",
        "eyJhbGciOiJI.eyJzdTHEIRSIiOiI.c2lnTHEIRS",
    ],
)  # fmt: skip
def test_credentials_of_others_have_a_form(kit: Path, text: str) -> None:
    assert "THEIRS" not in shown(kit, text) and "VEhFSVJT" not in shown(kit, text)


def test_passwords_of_the_hosts_proxy(kit: Path) -> None:
    said = shown(kit, "cannot connect as carl with PROXYPASS9", HTTP_PROXY="carl:PROXYPASS9@proxy:1")
    assert said == "cannot connect as carl with [HTTP_PROXY]"


def test_the_support_bundle_is_searched_again(kit: Path, tmp_path: Path) -> None:
    (kit / "config/notes.txt").write_text("\n".join(form(secret) for form in FORMS.values() for secret in (KEY, ODD, TEAM)))
    (kit / f"config/{TEAM}.txt").write_text("a name that is a secret")
    refused = deploy(kit, "support-bundle", tmp_path / "help.tar.gz")
    assert refused.returncode == 1 and "the name of a file" in refused.stderr and not (tmp_path / "help.tar.gz").exists()
    (kit / f"config/{TEAM}.txt").unlink()
    (kit.parent / "log").write_text("\n".join(IN_ENGINE))
    done = deploy(kit, "support-bundle", tmp_path / "help.tar.gz")
    assert done.returncode == 0, done.stderr
    with tarfile.open(tmp_path / "help.tar.gz") as archive:
        archive.extractall(tmp_path / "out", filter="data")
    texts = b"\n".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()).decode(errors="replace")
    secrets = [KEY, ODD, TEAM, "pr/oxy@word", *IN_ENGINE, *IN_YAML]
    secrets += [heart(form(secret)) for form in FORMS.values() for secret in (KEY, ODD, TEAM)]
    assert [secret for secret in secrets if secret in texts] == []
    assert "a-tokenizer-stays" in texts
