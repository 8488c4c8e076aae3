"""Signatures: who signed which list, in both forms, by file, command and further signers; and what is not a signature."""

from __future__ import annotations

import base64
import hashlib
import json
import stat
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from offline_kit.bundle.signature import forms
from offline_kit.bundle.signature.check import check_signatures, fingerprint
from offline_kit.bundle.signature.keys import PublicKey, generate_key_pair, load_private_key, load_public_key
from offline_kit.bundle.signature.sign import sign
from offline_kit.bundle.signature.signers import open_signer
from offline_kit.bundle.verify.verify import verify
from offline_kit.cli.main import cli
from offline_kit.common.errors import BundleDamaged, DiskError, KitError, NotTrusted, SpecError
from offline_kit.common.progress import Silent
from tests.support.bundle_sample import make_sample

NAME = "kit-v1.0.0"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the key pairs builder and approver, and other, whose key is encrypted with 'secret'."""
    folder = tmp_path_factory.mktemp("keys")
    for name, passphrase in (("builder", b""), ("approver", b""), ("other", b"secret")):
        generate_key_pair(folder / f"{name}.key", folder / f"{name}.pub", passphrase)
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_sample(tmp_path / "store").pack(tmp_path / f"{NAME}.tar.gz")


def public(pairs: Path, *names: str) -> list[PublicKey]:
    return [load_public_key(pairs / f"{name}.pub") for name in names]


def sign_by(bundle: Path, pairs: Path, name: str) -> None:
    sign(bundle, open_signer(str(pairs / f"{name}.key"), None, lambda path: None))


def test_one_line_is_the_same_wherever_it_is_read(bundle: Path) -> None:
    """What two people read to each other: of the bundle, of its kit, by inspect and by verify."""
    subprocess.run(["tar", "-xzf", bundle.name], cwd=bundle.parent, check=True)
    line = fingerprint(hashlib.sha256((bundle.parent / NAME / "SHA256SUMS").read_bytes()).hexdigest())
    assert len(line.split()) == 6
    for words in (["inspect"], ["inspect", "--json"], ["verify", "-q"]):
        for place in (bundle, bundle.parent / NAME):
            done = CliRunner().invoke(cli, [*words, str(place)], standalone_mode=False, obj={})
            assert line in done.output, (words, done.output)


def test_the_private_key_is_for_its_owner_alone_and_is_never_written_over(pairs: Path, tmp_path: Path) -> None:
    assert stat.S_IMODE((pairs / "builder.key").stat().st_mode) == 0o600
    for taken in ("a.key", "a.pub"):
        (tmp_path / taken).write_text("mine")
        with pytest.raises(DiskError, match="is there already"):
            generate_key_pair(tmp_path / "a.key", tmp_path / "a.pub", None)
        assert (tmp_path / taken).read_text() == "mine"
        assert [path.name for path in tmp_path.iterdir()] == [taken]
        (tmp_path / taken).unlink()


@pytest.mark.parametrize(
    ("name", "passphrase", "what"),
    [
        ("other", None, "encrypted and there is no passphrase"),
        ("other", b"wrong", "passphrase is wrong"),
        ("builder", b"needless", "not encrypted"),
    ],
)
def test_a_passphrase_that_does_not_fit(pairs: Path, name: str, passphrase: bytes | None, what: str) -> None:
    with pytest.raises(SpecError, match=what):
        load_private_key(pairs / f"{name}.key", passphrase)
    assert load_private_key(pairs / "other.key", b"secret")


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_what_is_no_key_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "k").write_bytes(content)
    for load in (load_public_key, lambda path: load_private_key(path, None)):
        with pytest.raises(SpecError, match="not a p"):
            load(tmp_path / "k")


@pytest.mark.parametrize("kind", [["rsa", "rsa_keygen_bits:2048"], ["EC", "ec_paramgen_curve:P-384"]])
def test_a_key_of_another_kind_is_refused(tmp_path: Path, kind: list[str]) -> None:
    key, pub = tmp_path / "k", tmp_path / "k.pub"
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", kind[0], "-pkeyopt", kind[1], "-out", key], check=True, capture_output=True
    )
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", pub], check=True)
    with pytest.raises(SpecError, match="ECDSA"):
        load_private_key(key, None)
    with pytest.raises(SpecError, match="P-256"):
        load_public_key(pub)


def test_openssl_accepts_a_signature_and_refuses_another_list(pairs: Path, bundle: Path) -> None:
    sign_by(bundle, pairs, "builder")
    listing, signature = bundle.parent / f"{NAME}.SHA256SUMS", bundle.parent / f"{NAME}.SHA256SUMS.sig"

    def openssl(key: str) -> int:
        command: list[str | Path] = ["openssl", "dgst", "-sha256", "-verify", pairs / key, "-signature", signature, listing]
        return subprocess.run(command, capture_output=True, check=False).returncode

    assert openssl("builder.pub") == 0 and openssl("approver.pub") != 0
    listing.write_bytes(listing.read_bytes().replace(b"a", b"b", 1))
    assert openssl("builder.pub") != 0


def test_both_forms_hold_the_same_signature(pairs: Path, bundle: Path) -> None:
    sign_by(bundle, pairs, "builder")
    signature, sigstore = (bundle.parent / name for name in forms.file_names(f"{NAME}.SHA256SUMS"))
    document = json.loads(sigstore.read_text())
    message = document["messageSignature"]
    assert base64.b64decode(message["signature"]) == signature.read_bytes()
    listing = (bundle.parent / f"{NAME}.SHA256SUMS").read_bytes()
    assert base64.b64decode(message["messageDigest"]["digest"]) == hashlib.sha256(listing).digest()
    assert document["verificationMaterial"]["publicKey"]["hint"] == public(pairs, "builder")[0].id


def test_an_approver_signs_beside_the_builder_and_nothing_of_the_bundle_changes(pairs: Path, bundle: Path) -> None:
    before = bundle.read_bytes()
    keys = public(pairs, "builder", "approver")
    with pytest.raises(NotTrusted, match="is not signed"):
        check_signatures(bundle, keys[:1], None)
    sign_by(bundle, pairs, "builder")
    with pytest.raises(NotTrusted, match=rf"approver.pub \({keys[1].id}\)"):
        check_signatures(bundle, keys, None)
    assert check_signatures(bundle, keys, 1).signers == (keys[0],)
    sign_by(bundle, pairs, "approver")
    sign_by(bundle, pairs, "builder")  # again: takes the place of the first
    found = check_signatures(bundle, keys, None)
    assert found.signers == tuple(keys) and found.found == 2
    assert bundle.read_bytes() == before
    with pytest.raises(SpecError, match="2 signers are demanded and 1"):
        check_signatures(bundle, [keys[0], load_public_key(pairs / "builder.pub")], 2)


def test_a_signature_of_an_earlier_build_makes_room_and_does_not_count(pairs: Path, tmp_path: Path, bundle: Path) -> None:
    sign_by(bundle, pairs, "approver")
    sample = make_sample(tmp_path / "again")
    sample.texts["README.md"] = b"# Another\n"
    sample.pack(bundle)
    with pytest.raises(NotTrusted):
        check_signatures(bundle, public(pairs, "approver"), None)
    sign_by(bundle, pairs, "builder")
    assert check_signatures(bundle, public(pairs, "builder"), None).found == 1


def test_one_flipped_bit_of_a_signature(pairs: Path, bundle: Path) -> None:
    sign_by(bundle, pairs, "builder")
    signature = bundle.parent / f"{NAME}.SHA256SUMS.sig"
    whole = signature.read_bytes()
    for at in range(0, len(whole), 7):
        signature.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(NotTrusted):
            check_signatures(bundle, public(pairs, "builder"), None)


def test_a_signed_kit_is_whole_and_parts_are_signed_too(pairs: Path, bundle: Path) -> None:
    subprocess.run(["tar", "-xzf", bundle, "-C", bundle.parent], check=True)
    kit = bundle.parent / NAME
    sign_by(kit, pairs, "builder")
    assert {path.name for path in kit.glob("SHA256SUMS*")} == {"SHA256SUMS", "SHA256SUMS.sig", "SHA256SUMS.sigstore.json"}
    assert verify(kit, progress=Silent()).whole
    (kit / "SHA256SUMS.sigx").write_text("")
    assert not verify(kit, progress=Silent()).whole


def test_a_command_signs_and_what_is_no_signature_is_not_written(pairs: Path, bundle: Path) -> None:
    key, pub = pairs / "builder.key", pairs / "builder.pub"
    with pytest.raises(SpecError, match="needs its public key"):
        open_signer("command:true", None, lambda path: None)
    for command, what in (
        ("echo nonsense", "is not a signature by the public key"),
        ("echo locked >&2; exit 3", "ended with 3: locked"),
        (f"openssl dgst -sha256 -sign {pairs / 'approver.key'}", "is not a signature by the public key"),
    ):
        with pytest.raises(SpecError, match=what):
            sign(bundle, open_signer(f"command:{command}", pub, lambda path: None))
    assert not list(bundle.parent.glob("*.sig"))
    sign(bundle, open_signer(f"command:openssl dgst -sha256 -sign {key}", pub, lambda path: None))
    assert check_signatures(bundle, public(pairs, "builder"), None).signers


def test_the_expected_bundle_and_another(pairs: Path, bundle: Path) -> None:
    digest = check_signatures(bundle, [], None).digest
    line = fingerprint(digest)
    assert len(line.replace(" ", "")) == 24
    for good in (digest, f"sha256:{digest}", line, line.upper().replace(" ", "-")):
        assert check_signatures(bundle, [], None, good).digest == digest
    with pytest.raises(NotTrusted, match="is not the one that was expected"):
        check_signatures(bundle, [], None, "0" * 64)
    for short in ("", digest[:20], "x" * 64, digest + "0"):
        with pytest.raises(KitError, match="neither a sha256 nor a fingerprint"):
            check_signatures(bundle, [], None, short)


def test_without_a_demand_a_damaged_head_is_a_finding_and_with_one_nothing_is_verified(pairs: Path, bundle: Path) -> None:
    sign_by(bundle, pairs, "builder")
    subprocess.run(["tar", "-xzf", bundle, "-C", bundle.parent], check=True)
    kit = bundle.parent / NAME
    (kit / "bundle.json").write_text("{")
    subprocess.run(["tar", "-czf", bundle, "-C", bundle.parent, NAME], check=True)
    plain = CliRunner().invoke(cli, ["verify", str(bundle)], standalone_mode=False, obj={})
    assert isinstance(plain.exception, BundleDamaged) and "finding(s)" in str(plain.exception) and plain.stdout
    key = str(pairs / "builder.pub")
    demanded = CliRunner().invoke(cli, ["verify", str(bundle), "--key", key], standalone_mode=False, obj={})
    assert isinstance(demanded.exception, KitError) and "finding(s)" not in str(demanded.exception)


@pytest.mark.parametrize("words", [["--expect", ""], ["--threshold", "1"], ["--expect", "0" * 64]])
def test_what_is_demanded_is_asked_before_the_files(bundle: Path, words: list[str]) -> None:
    done = CliRunner().invoke(cli, ["verify", str(bundle), *words], standalone_mode=False, obj={})
    assert isinstance(done.exception, SpecError | NotTrusted) and not done.stdout
