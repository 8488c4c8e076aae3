"""What engines log and Docker says reaches no terminal as it is: every way on which the scripts show it.

Rules: the scripts are the real ones; docker is a program in PATH that says what an enemy's engine would.
"""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from offline_kit.bundle.signature.keys import generate_key_pair
from offline_kit.bundle.signature.sign import sign
from offline_kit.bundle.signature.signers import open_signer
from tests.support import scripts_kit

REPOSITORY = Path(__file__).parents[3]

EVIL = r"\033]0;TITLE\007\033[2J\r\302\233m\342\200\256\n"
DOCKER = rf"""#!/bin/bash
case "$*" in
    *' ps '* | 'ps '*) echo 0123456789ab ;;
    inspect*.State*) echo 'running healthy 0 0 false 2026-01-01T00:00:00Z' ;;
    inspect*model*) printf 'model {EVIL}' ;;
    stats*) printf '0123456789ab 1{EVIL}' ;;
    exec*engine_stats*) printf '{EVIL}' ;;
    run*runtime.smoke*) printf 'answer {EVIL}'; printf 'complaint {EVIL}' >&2 ;;
    run*runtime.apply*) printf 'wrote {EVIL}'; printf 'complaint {EVIL}' >&2; exit $APPLY ;;
    *) printf 'error {EVIL}'; printf 'error {EVIL}' >&2 ;;
esac
"""


@pytest.fixture
def kit(shelf: scripts_kit.Shelf, tmp_path: Path) -> Path:
    kit = scripts_kit.make_kit(shelf, tmp_path / "a kit")
    assert scripts_kit.run(kit, "scripts/verify.sh").returncode == 0, "this host knows the folder from now on"
    (kit / ".env").write_text("OFFLINE_KIT_DEVICE=cpu\n")
    checked = hashlib.sha256(b"{}").hexdigest() + "\n"
    for name, text in (
        ("compose.yaml", "{}"),
        ("compose.checked", checked),
        ("start-order", "engine-chat gateway"),
        ("ports", "1 gateway\n"),
    ):
        (kit / ".state" / name).write_text(text)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/docker").write_text(DOCKER)
    (tmp_path / "bin/docker").chmod(0o755)
    return kit


@pytest.mark.parametrize("verb", ["status", "status --json", "logs", "logs chat", "logs --errors", "smoke", "start", "restart"])
def test_no_verb_passes_controls_on(kit: Path, verb: str) -> None:
    path = f"{kit.parent}/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    done = scripts_kit.run(
        kit, "scripts/deploy.sh", *verb.split(), env={"PATH": path, "APPLY": "3" if verb == "restart" else "0"}
    )
    said = done.stdout + done.stderr
    assert not any(control in said for control in "\x1b\x07\r\x9b\u202e"), said
    assert r"\u001b]0;TITLE" in said, said


def test_last_lines_of_a_service_that_failed(kit: Path) -> None:
    script = (
        f". '{kit}/scripts/lib/services/start.sh'; open_kit '{kit}/install.sh'; project; "
        "LOOK_ID=x; LOOK_OOM=false; service_failed engine-chat 'does not get healthy'"
    )
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, env={"PATH": f"{kit.parent}/bin:/usr/bin:/bin"}, check=True
    )
    assert b"\x1b" not in done.stderr and rb"\u001b]0;TITLE" in done.stderr


def test_names_that_came_with_a_kit_before_anything_of_it_is_trusted(kit: Path, tmp_path: Path) -> None:
    """install.sh before it has proven its own scripts, and verify-kit.sh, which sources nothing."""
    name = "x\x1b[2J\u202ey\x9b"
    generate_key_pair(tmp_path / "k.key", tmp_path / "k.pub", None)
    sign(kit, open_signer(str(tmp_path / "k.key"), None, lambda path: None))
    checker = ["sh", str(REPOSITORY / "scripts/verify-kit.sh"), str(kit), str(tmp_path / "k.pub")]
    script = kit / "scripts" / name
    (kit / name).write_text("extra")
    said = [subprocess.run(checker, capture_output=True, check=False)]
    (kit / name).unlink()
    script.symlink_to("/dev/null")
    said += [
        subprocess.run(command, capture_output=True, check=False) for command in (checker, ["bash", str(kit / "install.sh")])
    ]
    script.unlink()
    sums = (kit / "SHA256SUMS").read_text()
    (kit / "SHA256SUMS").write_text(f"{sums}{'0' * 64}  scripts/{name}\n")
    said.append(subprocess.run(["bash", str(kit / "install.sh")], capture_output=True, check=False))
    (kit / "SHA256SUMS").write_text(sums)
    odd = tmp_path / name
    odd.write_text("no key")
    said.append(subprocess.run(["bash", str(kit / "install.sh"), "--key", str(odd)], capture_output=True, check=False))
    for done in said:
        text = (done.stdout + done.stderr).decode()
        assert done.returncode in (20, 22) and "[2J" in text, text
        assert not any(control in text for control in "\x1b\x9b\u202e"), text
