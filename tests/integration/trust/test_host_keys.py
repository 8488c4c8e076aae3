"""install.sh and its keys: a kit that is not signed as demanded is refused before anything of it is read or run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from offline_kit.bundle.signature.keys import generate_key_pair, load_public_key
from offline_kit.bundle.signature.sign import sign
from offline_kit.bundle.signature.signers import open_signer
from offline_kit.common.errors import SpecError
from tests.integration.trust import script_blocks
from tests.support import scripts_kit
from tests.testbed.cache import REPOSITORY

FAR = {"DOCKER_HOST": "unix:///nonexistent.sock"}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("builder", "approver"):
        generate_key_pair(folder / f"{name}.key", folder / f"{name}.pub", None)
    return folder


@pytest.fixture
def kit(shelf: scripts_kit.Shelf, tmp_path: Path) -> Path:
    made = scripts_kit.make_kit(shelf, tmp_path / "a kit")
    (made / "scripts/lib/kit/receipt.sh").write_text('echo "the kit ran"; exit 0\n')  # what an attacker's kit would do
    sums = subprocess.run(
        "find . -type f ! -name SHA256SUMS -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum",
        shell=True, cwd=made, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (made / "SHA256SUMS").write_text(sums.stdout)
    return made


def sign_by(kit: Path, keys: Path, *names: str) -> None:
    for name in names:
        sign(kit, open_signer(str(keys / f"{name}.key"), None, lambda path: None))


def install(kit: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return scripts_kit.run(kit, "install.sh", "--dry-run", *map(str, words), env=FAR)


def refused(done: subprocess.CompletedProcess[str], text: str) -> None:
    assert done.returncode == 22 and text in done.stderr and "the kit ran" not in done.stdout, done.stderr


def test_keys_that_are_named(kit: Path, keys: Path) -> None:
    assert "the kit ran" in install(kit).stdout, "without a demand, it would have run"
    both = ("--key", keys / "builder.pub", f"--key={keys / 'approver.pub'}")
    refused(install(kit, *both), "0 of 2 keys")
    sign_by(kit, keys, "builder")
    refused(install(kit, *both), "approver.pub")
    refused(install(kit, "--key", keys / "approver.pub"), "0 of 1 keys")
    refused(install(kit, "--key", keys / "builder.pub", "--key", keys / "builder.pub", "--threshold", "2"), "1 of 1 keys")
    refused(install(kit, "--key", keys / "builder.pub", "--threshold", "0"), "is no number of signers")
    refused(install(kit, "--key", keys / "none.pub"), "is not one public key")
    assert "the kit ran" in install(kit, *both, "--threshold", "1").stdout
    sign_by(kit, keys, "approver")
    assert "the kit ran" in install(kit, *both).stdout
    listing = kit / "SHA256SUMS"
    listing.write_bytes(listing.read_bytes().replace(b"  README.md", b"  README.mb"))
    refused(install(kit, *both), "0 of 2 keys")


def test_one_key_in_several_forms_is_one_signer(kit: Path, keys: Path) -> None:
    """A point can be written compressed, hybrid or with the curve's parameters: whoever has one key has one voice."""
    sign_by(kit, keys, "builder")
    forms = (("compressed", "-conv_form"), ("hybrid", "-conv_form"), ("explicit", "-param_enc"))
    words = [f"--key={keys / 'builder.pub'}"]
    for name, option in forms:
        out = keys / f"{name}.pub"
        written: list[str | Path] = ["openssl", "ec", "-pubin", "-in", keys / "builder.pub"]
        subprocess.run([*written, option, name, "-pubout", "-out", out], check=True, capture_output=True)
        words.append(f"--key={out}")
        assert "the kit ran" in install(kit, words[-1]).stdout
    refused(install(kit, *words, "--threshold", "2"), "1 of 1 keys")


def test_two_keys_in_one_file_are_no_key(kit: Path, keys: Path) -> None:
    """Whoever puts both into one file means both; openssl would read the first and say nothing."""
    sign_by(kit, keys, "builder")
    both = keys / "both.pem"
    both.write_bytes((keys / "builder.pub").read_bytes() + (keys / "approver.pub").read_bytes())
    refused(install(kit, "--key", both), "is not one public key")
    checked = subprocess.run(
        ["sh", REPOSITORY / "scripts/verify-kit.sh", kit, both], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout) == (2, "") and "is not one public key" in checked.stderr
    with pytest.raises(SpecError, match="more than one key"):
        load_public_key(both)


def test_signatures_beside_the_folder_count(kit: Path, keys: Path) -> None:
    sign_by(kit, keys, "builder")
    (kit / "SHA256SUMS.sig").rename(kit.with_name(f"{kit.name}.SHA256SUMS.sig"))
    assert "the kit ran" in install(kit, "--key", keys / "builder.pub").stdout


@pytest.mark.parametrize("threshold", [None, "1", "2"])
def test_keys_that_the_host_demands(kit: Path, keys: Path, tmp_path: Path, threshold: str | None) -> None:
    """In a mount namespace of its own, in which /etc/offline-kit is this test's."""
    etc = tmp_path / "etc"
    (etc / "keys.d").mkdir(parents=True)
    for name in ("builder", "approver"):
        (etc / "keys.d" / f"{name}.pub").write_bytes((keys / f"{name}.pub").read_bytes())
    if threshold:
        (etc / "threshold").write_text(f"{threshold}\n")
    Path("/etc/offline-kit").mkdir(exist_ok=True)
    inside = 'mount --bind "$1" /etc/offline-kit && exec "$2" --dry-run "${@:3}"'

    def demanded(*words: str | Path, script: str = "install.sh") -> subprocess.CompletedProcess[str]:
        command: list[str | Path] = ["unshare", "--mount", "bash", "-c", inside, "-", etc, kit / script, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    refused(demanded(), "0 of 2 keys")
    refused(demanded(script="scripts/load_images.sh"), "nothing was loaded")
    sign_by(kit, keys, "builder")
    done = demanded("--threshold", "1", "--key", keys / "builder.pub")
    if threshold == "1":
        assert "the kit ran" in done.stdout
    else:
        refused(done, "approver.pub")
    sign_by(kit, keys, "approver")
    assert "the kit ran" in demanded().stdout


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        ("chmod 700 keys.d", "cannot be listed by this user"),
        ("chmod 711 keys.d", "cannot be listed by this user"),
        ("chmod 700 .", "cannot be listed by this user"),
        ("rm -r keys.d && touch keys.d", "cannot be listed by this user"),
        ("rm -r keys.d && ln -s nowhere keys.d", "cannot be listed by this user"),
        ("echo why >keys.d/README", "README is not one public key"),
        ("mv keys.d/builder.pub keys.d/builder.key", "0 of 1 keys"),
        ("mv keys.d/builder.pub keys.d/.builder", "0 of 1 keys"),
        ("ln -s nowhere keys.d/other.pub", "other.pub is not one public key"),
    ],
)
def test_a_demand_that_cannot_be_read_is_no_demand_that_is_met(
    kit: Path, keys: Path, tmp_path: Path, break_it: str, says: str
) -> None:
    """Asked as another user than root, for whom every folder is open."""
    etc = tmp_path / "etc"
    (etc / "keys.d").mkdir(parents=True)
    (etc / "keys.d/builder.pub").write_bytes((keys / "builder.pub").read_bytes())
    subprocess.run(["bash", "-c", break_it], cwd=etc, check=True)
    Path("/etc/offline-kit").mkdir(exist_ok=True)
    inside = 'mount --bind "$1" /etc/offline-kit && exec setpriv --reuid 65534 --clear-groups bash "$2" --dry-run'
    subprocess.run(["chmod", "-R", "go+rX", kit], check=True)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    command: list[str | Path] = ["unshare", "--mount", "bash", "-c", inside, "-", etc, kit / "install.sh"]
    refused(subprocess.run(command, capture_output=True, text=True, check=False), says)


def test_the_check_that_no_kit_vouches_for(kit: Path, keys: Path) -> None:
    """verify-kit.sh, as it is published beside a bundle, also under a plain POSIX shell."""
    script = REPOSITORY / "scripts/verify-kit.sh"

    def check(*names: str) -> subprocess.CompletedProcess[str]:
        command: list[str | Path] = ["dash", script, kit, *(keys / f"{name}.pub" for name in names)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert check("builder").returncode == 22
    sign_by(kit, keys, "builder")
    done = check("builder")
    assert done.returncode == 0 and "every file is as the signed list says" in done.stdout, done.stderr
    assert check("builder", "approver").returncode == 22 and check().returncode == 2
    for name in ("config/own.yaml", ".env", ".state/installed"):
        (kit / name).parent.mkdir(exist_ok=True)
        (kit / name).write_text("by somebody on the way\n")
        strange = check("builder")
        assert strange.returncode == 20 and name in strange.stderr and "nobody signed" in strange.stderr
        (kit / name).unlink()
    os.mkfifo(kit / "config/pipe")
    assert check("builder").returncode == 20
    (kit / "config/pipe").unlink()
    (kit / "README.md").write_text("changed")
    assert check("builder").returncode == 20


def test_a_delta_is_signed_by_the_list_of_the_whole(kit: Path, keys: Path) -> None:
    """What is here is checked, bundle.json as the whole kit has it; nothing else than payload may be left to come."""
    sign_by(kit, keys, "builder")
    weights = kit / "models/chat/a file.bin"
    size = weights.stat().st_size
    weights.unlink()
    (kit / "delta").mkdir()
    (kit / "bundle.json").rename(kit / "delta/bundle.json")
    (kit / "bundle.json").write_text("{}")
    path = "models/chat/a file.bin"
    (kit / "delta/needs").write_text(f"{size}\t{path}\t{path}\n")
    command: list[str | Path] = ["dash", REPOSITORY / "scripts/verify-kit.sh", kit, keys / "builder.pub"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "a delta: 1 more are to come" in done.stdout, done.stderr
    (kit / "delta/needs").write_text("1\tscripts/deploy.sh\tscripts/deploy.sh\n")
    (kit / "scripts/deploy.sh").unlink()
    assert subprocess.run(command, capture_output=True, check=False).returncode == 20


@pytest.mark.parametrize("name", script_blocks.COPIES)
def test_blocks_that_stand_twice_are_those_of_the_library(name: str) -> None:
    """Nothing of a kit may be sourced before it was asked: ``make copies`` writes them anew."""
    path = script_blocks.COPIES[name]
    assert path.read_text() == script_blocks.with_block(path, name)
