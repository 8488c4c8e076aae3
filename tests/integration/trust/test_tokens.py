"""A key in a real PKCS#11 token signs, and neither its PIN nor another key is told or taken."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from offline_kit.bundle.signature.check import check_signatures
from offline_kit.bundle.signature.keys import generate_key_pair, load_public_key
from offline_kit.bundle.signature.sign import sign
from offline_kit.bundle.signature.signers import Signer, open_signer
from offline_kit.common.errors import AccessDenied, SpecError
from tests.support.bundle_sample import make_sample

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_sample(tmp_path / "store").pack(tmp_path / "kit-v1.0.0.tar.gz")


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a PIN file and the public key of the key 'signer' in the SoftHSM token 'site'."""
    folder = tmp_path_factory.mktemp("token")
    (folder / "tokens").mkdir()
    (folder / "conf").write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(folder / "conf")
    (folder / "pin").write_text("1234\n")
    generate_key_pair(folder / "k.key", folder / "k.pub", None)
    init = ["softhsm2-util", "--init-token", "--free", "--label", "site", "--pin", "1234", "--so-pin", "12345678"]
    subprocess.run(init, check=True, capture_output=True)
    key = [
        "softhsm2-util",
        "--import",
        str(folder / "k.key"),
        "--token",
        "site",
        "--label",
        "signer",
        "--id",
        "01",
        "--pin",
        "1234",
    ]
    subprocess.run(key, check=True, capture_output=True)
    return folder


def in_token(folder: Path, *, key: str = "signer", pin: str = "pin") -> Signer:
    uri = f"pkcs11:token=site;object={key}?module-path={MODULE}&pin-source={folder / pin}"
    return open_signer(uri, None, lambda path: None)


def test_a_key_in_a_token_signs(token: Path, bundle: Path) -> None:
    sign(bundle, in_token(token))
    assert check_signatures(bundle, [load_public_key(token / "k.pub")], None).signers
    with pytest.raises(SpecError, match="does not give this key"):
        in_token(token, key="nobody")
    (token / "wrong").write_text("9999")
    with pytest.raises(AccessDenied, match="refuses the PIN") as refusal:
        in_token(token, pin="wrong")
    assert "9999" not in str(refusal.value)
    with pytest.raises(SpecError, match="names no object, no module-path"):
        open_signer("pkcs11:token=site", None, lambda path: None)
