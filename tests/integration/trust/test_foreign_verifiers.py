"""What we sign is accepted by programs that are not ours, without a network, by the very lines of the kit's manual.

Rules: openssl, and the cosign of two Debian suites: 2 (trixie) and 3 (sid); each runs, and we sign, in a network namespace that
has nothing but a loopback that is down; one bit flipped in list, signature or key, and every one of them refuses.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from offline_kit.bundle.signature.check import check_signatures
from offline_kit.bundle.signature.keys import generate_key_pair, load_public_key
from offline_kit.common.errors import KitError
from tests.support.bundle_sample import make_sample
from tests.testbed import programs
from tests.testbed.cache import REPOSITORY
from tests.unit.host.test_render import rendered, shipped

pytestmark = pytest.mark.root


def lines_of_the_manual() -> list[str]:
    """What the kit's README tells to type before anything of the kit is run."""
    manifest, files = shipped("demo")
    text = rendered(manifest, "v1", files)[0]["README.md"].decode()
    return [line.strip() for line in text.splitlines() if line.startswith(("    openssl dgst", "    cosign verify-blob"))]


_FORM = 26  # the byte of the key that says how its point is written
BY_OPENSSL, BY_SIG, BY_BUNDLE = lines_of_the_manual()


@dataclass(frozen=True)
class Signed:
    """An unpacked kit with our signature in both forms, and KEY.pub in its folder, where the lines expect it."""

    kit: Path

    def accepted(self, line: str, path: Path | None = None) -> bool:
        """Whether the line, typed in the kit's folder where there is no network, says yes; ``path``: where its program lies."""
        typed = line.partition("#")[0]
        command = ["unshare", "--net", "sh", "-c", f'PATH="$1:$PATH"; cd "$0" && {typed}', str(self.kit), str(path or "/bin")]
        return subprocess.run(command, capture_output=True, check=False, timeout=120).returncode == 0


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    """Signed by the command itself, where there is no network."""
    bundle = make_sample(tmp_path / "store").pack(tmp_path / "kit-v1.0.0.tar.gz")
    generate_key_pair(tmp_path / "k.key", tmp_path / "k.pub", None)
    subprocess.run(["tar", "-xzf", bundle.name], cwd=tmp_path, check=True)
    kit = tmp_path / "kit-v1.0.0"
    program = Path(sys.executable).with_name("offline-kit")
    command: list[str | Path] = ["unshare", "--net", program, "sign", kit, "--key", tmp_path / "k.key"]
    subprocess.run(command, check=True, capture_output=True)
    shutil.copy(tmp_path / "k.pub", kit / "KEY.pub")
    return Signed(kit)


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def public_der(pem: bytes) -> bytes:
    return base64.b64decode(b"".join(pem.splitlines()[1:-1]))


def public_pem(der: bytes) -> bytes:
    return b"-----BEGIN PUBLIC KEY-----\n" + base64.encodebytes(der) + b"-----END PUBLIC KEY-----\n"


def spread(size: int, count: int) -> Iterator[int]:
    """Numbers of ``count`` bits of ``size`` bytes, first and last among them, at each place within a byte."""
    for number in range(count):
        yield min(size * 8 - 1, number * (size * 8 - 1) // (count - 1) | number % 8)


def damages(kit: Path, count: int) -> Iterator[tuple[str, Callable[[], None]]]:
    """What was flipped, and what flips it; the kit's folder is as it was before each."""
    places = {name: kit / name for name in ("SHA256SUMS", "SHA256SUMS.sig", "SHA256SUMS.sigstore.json", "KEY.pub")}
    whole = {name: path.read_bytes() for name, path in places.items()}
    document = json.loads(whole["SHA256SUMS.sigstore.json"])
    signature, key = whole["SHA256SUMS.sig"], public_der(whole["KEY.pub"])

    def write(**changes: bytes) -> Callable[[], None]:
        def damage() -> None:
            for name, path in places.items():
                path.write_bytes(changes.get(name, whole[name]))

        return damage

    def in_both_forms(changed: bytes) -> dict[str, bytes]:
        told = {**document["messageSignature"], "signature": base64.b64encode(changed).decode()}
        text = json.dumps({**document, "messageSignature": told}).encode()
        return {"SHA256SUMS.sig": changed, "SHA256SUMS.sigstore.json": text}

    for bit in spread(len(whole["SHA256SUMS"]), count):
        yield f"list, bit {bit}", write(SHA256SUMS=flipped(whole["SHA256SUMS"], bit))
    for bit in spread(len(signature), count):
        yield f"signature, bit {bit}", write(**in_both_forms(flipped(signature, bit)))
    for bit in spread(len(key), count):
        if bit // 8 == _FORM:  # the same point, written in another way
            continue
        yield f"key, bit {bit}", write(**{"KEY.pub": public_pem(flipped(key, bit))})
    yield "", write()


def ours_accepts(kit: Path) -> bool:
    try:
        return bool(check_signatures(kit, [load_public_key(kit / "KEY.pub")], None).signers)
    except KitError:
        return False


def checker_accepts(kit: Path) -> bool:
    """verify-kit.sh; KEY.pub is moved out of the kit, in which nobody signed for it."""
    key = (kit / "KEY.pub").replace(kit.with_name("KEY.pub"))
    try:
        command: list[str | Path] = ["sh", REPOSITORY / "scripts/verify-kit.sh", kit, key]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    finally:
        key.replace(kit / "KEY.pub")


def test_openssl_alone_and_we_refuse_every_flipped_bit(signed: Signed) -> None:
    assert signed.accepted(BY_OPENSSL) and ours_accepts(signed.kit) and checker_accepts(signed.kit)
    tried = 0
    for what, damage in damages(signed.kit, 25):
        damage()
        said = (signed.accepted(BY_OPENSSL), ours_accepts(signed.kit), checker_accepts(signed.kit))
        assert said == ((False,) * 3 if what else (True,) * 3), what
        tried += 1
    assert tried > 70


@pytest.mark.long
@pytest.mark.parametrize(("suite", "lines"), [("trixie", [BY_SIG]), ("sid", [BY_SIG, BY_BUNDLE])])
def test_cosign_without_a_network(suite: str, lines: list[str], signed: Signed) -> None:
    """Debian's builds do not tell their version: 3 takes a bundle of version 0.3 that no log knows, 2 does not."""
    cosign = programs.unpacked(suite, "cosign", "usr/bin/cosign")
    assert [line for line in (BY_SIG, BY_BUNDLE) if signed.accepted(line, cosign.parent)] == lines
    for line in lines:
        for what, damage in damages(signed.kit, 6):
            damage()
            assert signed.accepted(line, cosign.parent) == (not what), (line, what)
