"""What an image holds, read from its layers: tars as tools write them, real package databases, layers over layers."""

from __future__ import annotations

import gzip
import io
import random
import sqlite3
import struct
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from offline_kit.common.digest import Digest
from offline_kit.intake.images import contents, packages, rpm, vllm_source
from offline_kit.intake.images.contents import kind_of
from offline_kit.intake.images.engine_facts import engine_facts
from offline_kit.intake.images.layer_scan import LayerScan
from offline_kit.intake.sources import image_layers
from offline_kit.intake.store.store import Store
from offline_kit.spec.image_contents import ImageContents, Package
from offline_kit.spec.lock import Layer
from tests.support import intake_samples as parts

DATA = Path(__file__).parents[2] / "data"
SITE = "usr/lib/python3.12/site-packages"
STATUS = b"""Package: libc6
Status: install ok installed
Architecture: amd64
Source: glibc (2.36-9)
Version: 2.36-9+deb12u14
Description: GNU C Library
 Package: not-a-package
 Version: 9

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: base-files
Status: install ok installed
Architecture: all
Version: 12.4
"""
COPYRIGHT = b"""Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: somebody
License: LGPL-2.1+

License: LGPL-2.1+
 the whole text
"""
APK = (
    b"C:Q1\nP:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\no:musl\n\n"
    b"P:libcrypto3\nV:3.3.2-r0\nA:x86_64\nL:Apache-2.0\no:openssl\nF:usr\n\n"
)
VLLM = (
    b"Metadata-Version: 2.4\nName: vllm\nVersion: 0.33.0\nLicense-Expression: Apache-2.0\n"
    b"Requires-Dist: torch==2.13.0\n\nText\nName: no\n"
)
REGISTRY = b"""
import x
_A = {"LlamaForCausalLM": ("llama", "LlamaForCausalLM")}
_B: dict = {"BertModel": ("bert", "BertModel"), **x.more}
_OLD = {"MotifForCausalLM": "0.10.2"}
_VLLM_MODELS = {**_A, **_B, "OwnModel": ("own", "OwnModel")}
"""
PARSERS = b'_TOOL_PARSERS_TO_REGISTER = {"hermes": ("f", "C"), "mistral": ("f", "C")}\n'
Files = Mapping[str, bytes | str | None]  # None: a folder; str: a hard link to that path


def tar(files: Files, form: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            if content is None:
                member.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                member.type, member.linkname = tarfile.LNKTYPE, content
            else:
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    return out.getvalue()


def scanned(data: bytes, piece: int = 1 << 20) -> LayerScan:
    scan = contents.new_scan()
    for at in range(0, len(data), piece):
        scan.feed(memoryview(data)[at : at + piece])
    scan.close()
    return scan


def image(*layers: Files) -> ImageContents:
    found = []
    for files in layers:
        scan = contents.new_scan()
        scan.feed(tar(files))
        found.append(contents.read_layer(scan))
    return contents.read_image(found)


def names(held: ImageContents) -> list[str]:
    return [f"{package['kind']} {package['name']} {package['version']}" for package in held.packages]


DEEP = "/".join(["opt", *["a-folder-with-a-name-of-some-length"] * 9])


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("piece", [1, 7, 511, 512, 513, 1 << 20])
def test_a_tar_in_pieces_of_any_size(form: int, piece: int) -> None:
    deep = f"opt/{'x' * 60}/{'y' * 60}" if form == tarfile.USTAR_FORMAT else DEEP
    files: dict[str, bytes | str | None] = {
        "./var/lib/dpkg/": None,
        "var/lib/dpkg/status": STATUS,
        "usr/bin/tool": random.Random(1).randbytes(3000),
        f"{deep}/site-packages/vllm-0.33.0.dist-info/METADATA": VLLM,
        "etc/os-release": b"",
        "lib/apk/db/installed": APK,
    }
    scan = scanned(tar(files, form), piece)
    assert scan.whole and scan.removed == []
    kept = {path: data for path, data in files.items() if kind_of(path)}
    assert scan.files == kept and len(kept) == 4


def test_a_tar_that_is_cut_or_no_tar_is_not_whole() -> None:
    data = tar({"var/lib/dpkg/status": STATUS * 9, "usr/a": b"x" * 600})
    assert scanned(data).whole
    for cut in (100, 700, 1000, data.index(b"usr/a") + 700):
        assert not scanned(data[:cut]).whole
    assert not scanned(b"<html>" * 400).whole
    assert scanned(bytes(1024)).whole and scanned(bytes(1024)).files == {}


def test_a_database_beyond_the_limits_is_not_kept() -> None:
    header = tarfile.TarInfo("var/lib/dpkg/status")
    header.size = 10 << 30
    scan = contents.new_scan()
    scan.feed(header.tobuf(tarfile.GNU_FORMAT))
    assert scan.files == {} and not scan.whole
    scan.feed(bytes(1 << 20))
    assert scan._buffer == b""


def test_hard_links_share_what_they_name() -> None:
    held = {"root/.cache/uv/site-packages/vllm-0.33.0.dist-info/METADATA": VLLM}
    path = f"{SITE}/vllm-0.33.0.dist-info/METADATA"
    assert scanned(tar({**held, path: next(iter(held))})).files[path] == VLLM
    assert not scanned(tar({path: "elsewhere/METADATA"})).whole


def test_debian_and_python_and_licences() -> None:
    held = image(
        {
            "var/lib/dpkg/status": STATUS,
            "usr/share/doc/libc6/copyright": COPYRIGHT,
            f"{SITE}/vllm-0.33.0.dist-info/METADATA": VLLM,
            f"{SITE}/Flash_Attn.egg-info": b"Name: Flash_Attn\nVersion: 2\nLicense: BSD\n",
            f"{SITE}/setuptools/_vendor/x-1.dist-info/METADATA": b"Name: x\nVersion: 1\n",
            "etc/os-release": b'ID=debian\nVERSION_ID="12"\nNAME=x\n',
        }
    )
    assert names(held) == ["deb base-files 12.4", "deb libc6 2.36-9+deb12u14", "pypi flash-attn 2", "pypi vllm 0.33.0"]
    libc, vllm = held.packages[1], held.packages[3]
    assert libc["licences"] == ["LGPL-2.1+"] and libc["source"] == "glibc" and libc["architecture"] == "amd64"
    assert vllm["licences"] == ["Apache-2.0"] and vllm["requires"] == ["torch==2.13.0"]
    assert held.distribution == {"ID": "debian", "VERSION_ID": "12"} and held.whole


def test_distroless_and_alpine() -> None:
    one = b"Package: tzdata\nVersion: 2025b\nArchitecture: all\n"
    assert names(image({"var/lib/dpkg/status.d/tzdata": one, "var/lib/dpkg/status.d/tzdata.md5sums": b"x"})) == [
        "deb tzdata 2025b"
    ]
    held = image({"lib/apk/db/installed": APK})
    assert names(held) == ["apk libcrypto3 3.3.2-r0", "apk musl 1.2.5-r0"]
    assert held.packages[0]["source"] == "openssl" and held.packages[0]["licences"] == ["Apache-2.0"]


def test_later_layers_replace_and_remove() -> None:
    first: Files = {
        f"{SITE}/vllm-0.22.0.dist-info/METADATA": VLLM.replace(b"0.33.0", b"0.22.0"),
        f"{SITE}/torch-2.dist-info/METADATA": b"Name: torch\nVersion: 2\n",
        "lib/apk/db/installed": APK,
    }
    upgraded: Files = {f"{SITE}/.wh.vllm-0.22.0.dist-info": b"", f"{SITE}/vllm-0.33.0.dist-info/METADATA": VLLM}
    assert names(image(first, upgraded))[2:] == ["pypi torch 2", "pypi vllm 0.33.0"]
    assert names(image(first, {f"{SITE}/.wh..wh..opq": b""})) == ["apk libcrypto3 3.3.2-r0", "apk musl 1.2.5-r0"]
    assert names(image(first, {".wh..wh..opq": b""})) == [] == names(image(first, {".wh.usr": b"", ".wh.lib": b""}))
    assert names(image(first, {"lib/apk/db/installed": APK.split(b"\n\n")[0]}))[0] == "apk musl 1.2.5-r0"


def test_what_vllm_knows() -> None:
    held = image(
        {
            f"{SITE}/vllm/model_executor/models/registry.py": REGISTRY,
            f"{SITE}/vllm/tool_parsers/__init__.py": PARSERS,
            f"{SITE}/vllm/reasoning/__init__.py": b'_REASONING_PARSERS_TO_REGISTER = {"qwen3": ("f", "C")}',
        }
    )
    assert held.architectures == ("BertModel", "LlamaForCausalLM", "OwnModel")
    assert held.tool_parsers == ("hermes", "mistral") and held.reasoning_parsers == ("qwen3",)
    assert vllm_source.read_architectures(b"def (") == [] == vllm_source.read_architectures(b"_VLLM_MODELS = load()")


def database() -> bytes:
    """Written by rpm 4.18 itself: two packages of ours."""
    return gzip.decompress((DATA / "rpmdb.sqlite.gz").read_bytes())


def headers(folder: Path) -> list[bytes]:
    (folder / "x.sqlite").write_bytes(database())
    with sqlite3.connect(f"file:{folder / 'x.sqlite'}?immutable=1", uri=True) as opened:
        rows = [bytes(row[0]) for row in opened.execute("SELECT blob FROM Packages")]
    opened.close()
    return rows


def ndb(blobs: list[bytes]) -> bytes:
    """As rpm's lib/backend/ndb/rpmpkg.c lays it out: one page of slots, then blobs in blocks of 16 bytes."""
    slots, body, at = b"", b"", 4096 // 16
    for number, blob in enumerate(blobs, 1):
        content = struct.pack("<IIII", 0x53626C42, number, 0, len(blob)) + blob + bytes(16)
        content += bytes(-len(content) % 16)
        slots += struct.pack("<IIII", 0x746F6C53, number, at, len(content) // 16)
        body, at = body + content, at + len(content) // 16
    head = struct.pack("<4sIII", b"RpmP", 0, 1, 1) + struct.pack("<IIII", len(blobs) + 1, 0, 0, 0) + slots
    return head + struct.pack("<IIII", 0x746F6C53, 0, 0, 0) * ((4096 - len(head)) // 16) + body


def test_red_hat(tmp_path: Path) -> None:
    for path, data in (("var/lib/rpm/rpmdb.sqlite", database()), ("usr/lib/sysimage/rpm/Packages.db", ndb(headers(tmp_path)))):
        held = image({path: data})
        assert names(held) == ["rpm other-tool 2:1.2-4", "rpm tiny-tool 1.2-3"] and held.unread == ()
        assert held.packages[1]["licences"] == ["MIT AND Apache-2.0"]
    assert image({"var/lib/rpm/Packages": b"x"}).unread == ("var/lib/rpm/Packages",)


def test_a_damaged_database_gives_nothing(tmp_path: Path) -> None:
    data, blobs = database(), headers(tmp_path)
    assert rpm.read_sqlite(data[:5000]) == [] == rpm.read_sqlite(b"x" * 5000)
    assert rpm.read_ndb(b"RpmP") == [] == rpm.read_ndb(ndb(blobs)[:4000])
    assert [rpm.read_header(blobs[0][:length]) for length in (0, 7, 20, 60)] == [None] * 4
    for at in range(0, 400, 3):
        broken = bytearray(blobs[0])
        broken[at] ^= 0xFF
        found: Any = rpm.read_header(bytes(broken))
        assert found is None or isinstance(found["name"], str)
    for reader in (packages.read_dpkg, packages.read_apk, packages.read_python):
        assert reader(random.Random(2).randbytes(4000)) == []


def test_layers_in_the_store_are_read_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    plain = tar({"var/lib/dpkg/status": STATUS})
    for form in ("gzip", "zstd"):
        digest = store.put(parts.packed(plain, form))
        layer = Layer(digest=digest, size=1, media_type="x", diff_id=Digest.of(plain))
        assert len(image_layers.contents_of(store, [layer], "engine").packages) == 2
        store.evict(digest)
        assert len(image_layers.contents_of(store, [layer], "engine").packages) == 2


def test_the_lock_keeps_the_versions_that_decide_about_serving_and_what_vllm_knows() -> None:
    found = [("vllm", "0.29.0"), ("torch", "2.9.1"), ("requests", "2.32.0")]
    packages = tuple(Package(kind="pypi", name=name, version=version) for name, version in found)
    held = engine_facts(ImageContents(packages, architectures=("ALM",), tool_parsers=("hermes",), reasoning_parsers=("r1",)))
    assert held is not None and held.architectures == ("ALM",)
    assert (held.tool_parsers, held.reasoning_parsers) == (("hermes",), ("r1",))
    assert held is not None and held.packages == {"vllm": "0.29.0", "torch": "2.9.1"} and held.whole
    without = engine_facts(ImageContents(packages=packages[1:]))
    assert without is not None and without.packages == {"torch": "2.9.1"} and without.whole, "that it has no vLLM is a fact"
    assert engine_facts(ImageContents(packages=packages[1:], whole=False)) is None is engine_facts(ImageContents(()))
    debian = engine_facts(ImageContents(packages=(Package(kind="deb", name="vllm", version="1"),)))
    assert debian is not None and debian.packages == {}
