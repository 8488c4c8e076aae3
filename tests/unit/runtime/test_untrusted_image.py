"""The engine image is not trusted: what it is shown, and what becomes of an answer that this kit would not give."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from offline_kit.runtime import smoke
from offline_kit.runtime.settings.load import _ENV_KEYS
from offline_kit.runtime.settings.model import port_variable
from tests.support.docker_stand_in import docker
from tests.testbed.cache import REPOSITORY
from tests.unit.runtime.test_apply import ENV, kit, run
from tests.unit.runtime.test_config import KEY
from tests.unit.runtime.test_options import certificate, everything

__all__ = ["kit"]
NAMED = "key-of-a-team-0123456789.~+/=-"


def program(path: Path, text: str) -> str:
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)
    return str(path)


def state(kit: Path) -> dict[str, bytes]:
    """Every file of .state/ by its path."""
    folder = kit / ".state"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_is_shown_no_secret_and_no_place_to_write(kit: Path, tmp_path: Path) -> None:
    everything(kit)
    certificate(kit)
    (kit / ".env").write_text(
        (kit / ".env").read_text() + "# an old one: hf_comment\nHF_TOKEN=hf_of_another_tool\nbare_word_secret\n"
    )
    (kit / ".state/keys").write_text(f"# {NAMED}x\nteam-a {NAMED}\nteam-b {NAMED}2\nteam-c too-short\nteam-d {NAMED} more\n")
    shown = tmp_path / "shown"
    spy = f"""
import pathlib, sys
at = [number for number, word in enumerate(sys.argv) if word == "-v"]
mounts = [sys.argv[number + 1] for number in at]
assert all(mount.endswith(":ro") for mount in mounts), mounts
with open({str(shown)!r}, "wb") as out:
    out.write(" ".join(sys.argv).encode())
    for mount in mounts:
        if ":/opt/" in mount:
            continue  # the runtime
        source = pathlib.Path(mount.split(":")[0])
        for path in [source, *source.rglob("*")] if source.is_dir() else [source]:
            out.write(bytes(str(path), "utf-8") + b"\\n" + (path.read_bytes() if path.is_file() else b"") + b"\\n")
sys.exit(3)
"""
    assert run(kit, instead=program(tmp_path / "spy", spy)).returncode == 3
    text = shown.read_text("utf-8", "replace")
    key = (kit / ".state/tls/server.key").read_text().splitlines()[1]
    for secret in (KEY, "very-secret-word", NAMED, "hf_of", "hf_comment", "bare_word", "too-short", key):
        assert secret not in text, secret
    assert "team-a withheldwithheld1\nteam-b withheldwithheld2\nteam-c ?\n? ? ?\n" in text
    assert "BEGIN CERTIFICATE" in text and "VLLM_API_KEY=withheldwithheld0\n" in text


def test_mistakes_are_told_by_their_lines_all_the_same(kit: Path) -> None:
    (kit / ".env").write_text(f"# {KEY}\n\nbare words\n{ENV}VLLM_API_KEYS=x\nVLLM_CHAT_PORT=http\n")
    (kit / ".state/keys").write_text(f"team-a {NAMED}\nteam-b {NAMED}\nteam-c {KEY}\n")
    said = run(kit).stderr
    for part in (
        ".env, line 3: not a KEY=value line",
        "VLLM_API_KEYS: unknown key -> did you mean 'VLLM_API_KEY'?",
        "VLLM_CHAT_PORT: 'http' is not a port",
        ".state/keys, line 2: team-b: has the same key as 'team-a'",
        ".state/keys, line 3: team-c: has the same key as 'default'",
    ):
        assert part in said
    assert NAMED not in said and KEY not in said


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "with a mark of the byte order"])
def test_the_keys_that_are_written_are_the_real_ones(kit: Path, mark: str) -> None:
    (kit / ".env").write_text(f"{mark}VLLM_API_KEY={NAMED}0\n")
    (kit / ".state/keys").write_text(f"team-a {NAMED}\n")
    assert run(kit).returncode == 0
    escaped = re.sub(r"(\W)", r"\\\1", NAMED)
    assert (kit / ".state/gateway/keys.conf").read_text() == (
        f'"~^[Bb]earer {escaped}0$" "default";\n"~^[Bb]earer {escaped}$" "team-a";\n'
    )


@pytest.mark.parametrize("name", [*_ENV_KEYS, port_variable("my-model")])
def test_every_setting_is_shown_or_is_a_secret(name: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"{name}=a-value-0123456789\n")
    script = '. "$0"; WORK=$1; withheld_env "$1/.env"'
    library = REPOSITORY / "scripts/lib/services/withheld.sh"
    shown = subprocess.run(
        ["bash", "-c", script, str(library), str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout
    secret = name in ("VLLM_API_KEY", "GRAFANA_ADMIN_PASSWORD", "HF_TOKEN")
    assert ("a-value" in shown) is not secret and shown.startswith(f"{name}=")


STARTS, PORTS = "FILE start-order 4\n", "FILE ports 4\n"
ANSWERS: dict[str, Callable[[str], str]] = {
    "a privileged engine": lambda text: text.replace("    read_only: true\n", "    privileged: true\n", 1),
    "the host's root": lambda text: text.replace('source: "./models"', 'source: "/"', 1),
    "a service of another name": lambda text: text.replace(f"{STARTS}engine-chat", f"{STARTS}engine-chat,other", 1),
    "a service that is never started": lambda text: text.replace(f"{STARTS}engine-chat\n", "FILE start-order 3\n", 1),
    "a service that is started twice": lambda text: text.replace(STARTS, "FILE start-order 5\ngateway\n", 1),
    "an option as a service": lambda text: text.replace(STARTS, "FILE start-order 5\n--file,/x\n", 1),
    "a port of the host": lambda text: text.replace(PORTS, "FILE ports 5\n22 gateway\n", 1),
    "a port that is no number": lambda text: text.replace("8000 gateway", "8000$(id) gateway", 1),
    "a key more": lambda text: text.replace("keys.conf 1\n", 'keys.conf 2\n"~^[Bb]earer mine$" "x";\n', 1),
    "any key": lambda text: text.replace('"~^[Bb]earer withheldwithheld0$"', '"~."', 1),
    "a line of nginx among the keys": lambda text: text.replace(' "default";', ' "default"; include /etc/passwd;', 1),
    "no keys": lambda text: text.replace("FILE gateway/keys.conf 1\n", "FILE gateway/other.conf 1\n", 1),
    "a file above": lambda text: text.replace(PORTS, "FILE ../ports 4\n", 1),
    "a file by its full path": lambda text: text.replace(PORTS, "FILE /tmp/ports 4\n", 1),
    "the operator's keys": lambda text: text.replace("END\n", "FILE keys 1\nx y\nEND\n"),
    "the note that the kit is installed": lambda text: text.replace("END\n", "FILE installed 1\nv9\nEND\n"),
    "the note of what was checked": lambda text: text.replace("END\n", "FILE compose.checked 1\n0\nEND\n"),
    "a key of the certificate": lambda text: text.replace("END\n", "FILE gateway/tls/server.key 1\nx\nEND\n"),
    "a file twice": lambda text: text.replace("END\n", "FILE ports 1\n8000 gateway\nEND\n"),
    "no end": lambda text: text.replace("END\n", ""),
    "more than the end": lambda text: text + "FILE ports 0\n",
    "too few lines": lambda text: text.replace(PORTS, "FILE ports 4000\n", 1),
    "too many lines": lambda text: text.replace(PORTS, "FILE ports 3\n", 1),
    "another form": lambda text: "offline-kit-state 2\n" + text.split("\n", 1)[1],
    "noise before it": lambda text: "hello\n" + text,
    "nothing": lambda text: "",
    "more than there is room for": lambda text: text.replace("END\n", f"FILE x 1\n{'x' * (8 << 20)}\nEND\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_of_another_kind_changes_nothing(name: str, kit: Path, tmp_path: Path) -> None:
    assert run(kit).returncode == 0
    before = state(kit)
    honest = (kit.parent / f"{kit.name}-home/docker.answer").read_text()
    assert ANSWERS[name](honest) != honest
    (tmp_path / "answer").write_text(ANSWERS[name](honest))
    play = program(tmp_path / "image", f"import sys\nsys.stdout.write(open({str(tmp_path / 'answer')!r}).read())\n")
    done = run(kit, instead=play)
    assert done.returncode == 22, done.stderr
    assert "error: the engine image wrote what this kit never writes: " in done.stderr
    assert state(kit) == before


CHECK = '{"able": true, "name": "chat", "ok": true, "seconds": 0.1, "detail": "\\u00e9 \\"x\\" \\\\ /"}'
SMOKE = f'{{"ok": true, "checks": [{CHECK}, {CHECK}]}}'


def smoke_has_form(text: str) -> bool:
    library = REPOSITORY / "scripts/lib/services/engine.sh"
    script = 'set +e; . "$0"; smoke_has_form "$(cat)"; exit $?'
    return subprocess.run(["bash", "-c", script, str(library)], input=text, text=True, check=False).returncode == 0


def test_a_smoke_test_as_it_is_written_goes_into_the_receipt(kit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--kit", str(kit), "--base", "http://127.0.0.1", "--json", "--timeout", "1", "--full"]
    assert smoke.main(arguments) == 7
    said = capsys.readouterr().out
    assert '"ok": false' in said and smoke_has_form(said.rstrip("\n")) and smoke_has_form(SMOKE)
    assert smoke_has_form('{"ok": true, "checks": []}')


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        SMOKE + ', "signed_by": "somebody"',
        SMOKE[:-1] + ', "more": 1}',
        f"{SMOKE}\n{SMOKE}",
        SMOKE.replace('"chat"', '"chat\x1b[31m"'),
        SMOKE.replace("\\u00e9", "\\x"),
        SMOKE.replace("\\\\ /", '"'),
        SMOKE.replace("true", '"true"', 1),
        SMOKE.replace("0.1", "0.1}, {"),
        SMOKE[:-2],
    ],
)
def test_a_smoke_test_of_another_form_does_not(text: str) -> None:
    assert not smoke_has_form(text)


def test_a_smoke_test_without_end_is_cut(kit: Path, tmp_path: Path) -> None:
    docker(tmp_path / "bin", program(tmp_path / "image", "while True:\n    print('x' * 65535)\n"))
    script = f'. "{REPOSITORY}/scripts/lib/services/engine.sh"; open_kit "$0/x"; service_smoke --json | wc -c'
    env = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script, str(kit)], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0 and int(done.stdout) == 1 << 20
