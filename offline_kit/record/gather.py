"""What a transfer record says of one bundle, from the finished files.

Rules: digests of what is carried are of the files as they lie there, or those that this very run took while it wrote them; what
the bundle says of itself was proven by ``verify`` before (the caller's part); a place on the machine that built it is not told.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from offline_kit.bundle.format import parts, paths
from offline_kit.bundle.format.bundle_json import Contents
from offline_kit.bundle.format.media import Medium, number_media
from offline_kit.bundle.read.inspect import Head, read_head
from offline_kit.bundle.read.small_files import SmallFiles, read_small_files
from offline_kit.bundle.signature.check import fingerprint
from offline_kit.bundle.signature.forms import signatures_of
from offline_kit.bundle.signature.keys import PublicKey
from offline_kit.bundle.write.copy_unpacker import CHECKER, NAME
from offline_kit.bundle.write.pack import source_date
from offline_kit.common.digest import Digest, Hasher, read_chunks
from offline_kit.common.errors import BundleDamaged
from offline_kit.common.files import disk_errors
from offline_kit.common.json_text import parse_json
from offline_kit.common.progress import Progress
from offline_kit.host.sbom.summary import SBOM, by_licence
from offline_kit.record.form import Bundle, CarriedFile, SignatureLine, TransferRecord
from offline_kit.record.kit_listing import image_line, kit_files, model_line
from offline_kit.spec.scan import RECORD as SCAN
from offline_kit.spec.scan import ScanRecord, parse_record

_AT_MOST = 128 << 20  # bytes of a document of the kit


def gather(
    bundle: Path, keys: Sequence[PublicKey], medium: Medium | None, progress: Progress, *, just_written: bool = False
) -> TransferRecord:
    """The record of the bundle at ``bundle`` (its file, its .parts.json or a part); ``keys``: whose signatures are checked.

    ``just_written``: the sums beside it are this run's own, and its files are not read once more for them.
    Raises BundleDamaged, BundleUnreadable, DiskError and SpecError (a part that does not fit on the medium).
    """
    located = parts.locate(bundle)
    head = read_head(bundle)
    contents = _contents(head)
    small = read_small_files(bundle, lambda path: path in (paths.SUMS, SBOM, SCAN), _AT_MOST)
    scan = _scan(small, bundle)
    sums = Digest.of(small.texts[paths.SUMS]).hex
    place = bundle.parent / f"{contents.top}.{paths.SUMS}"
    with disk_errors(bundle.parent):
        signatures = tuple(_signatures(place, small.texts[paths.SUMS], keys))
        numbers = number_media(medium, [(file.name, file.stat().st_size) for file in located.files]) if medium else None
        carried, whole = _known(located, numbers) if just_written else _carried(located, numbers, progress)
        carried += [_companion(path) for path in _companions(located, place) if path.is_file()]
    return TransferRecord(
        kit=contents.name,
        version=contents.version,
        platform=contents.platform,
        made_by=contents.made_by,
        date=_date(),
        bundle=Bundle(
            located.name,
            sum(file.bytes for file in carried if file.part),
            whole,
            len(located.files),
            contents.base.title if contents.base else "",
        ),
        fingerprint=fingerprint(sums),
        sha256sums=sums,
        lock=str(head.digest),
        signed_by=" ".join(line.key_id for line in signatures if line.key_id),
        signatures=signatures,
        medium=_medium(medium, numbers),
        carried=tuple(carried),
        images=tuple(image_line(key, image) for key, image in head.lock.images.items()),
        models=tuple(model_line(key, model) for key, model in head.lock.models.items()),
        files=tuple(kit_files(head, contents, small.sizes, scan)),
        licences=_licences(small, bundle),
        scan=scan,
    )


def _contents(head: Head) -> Contents:
    if head.contents is None:
        raise BundleDamaged("is a lock, and no bundle", remedy="name the NAME-VERSION.tar.gz")
    return head.contents


def _scan(small: SmallFiles, bundle: Path) -> ScanRecord | None:
    try:
        return parse_record(small.texts[SCAN]) if SCAN in small.texts else None
    except ValueError as error:
        raise BundleDamaged(f"cannot be read: {error}", where=f"{bundle}: {SCAN}") from error


def _date() -> str:
    """The day of SOURCE_DATE_EPOCH; empty where that is not set."""
    if "SOURCE_DATE_EPOCH" not in os.environ:
        return ""
    return datetime.datetime.fromtimestamp(source_date(), datetime.timezone.utc).strftime("%Y-%m-%d")


def _medium(medium: Medium | None, numbers: list[int | None] | None) -> dict[str, Any] | None:
    if medium is None:
        return None
    return {"name": medium.name, "capacity": medium.capacity, "count": (numbers or [None])[-1]}


def _carried(
    located: parts.LocatedBundle, numbers: list[int | None] | None, progress: Progress
) -> tuple[list[CarriedFile], str]:
    """The bundle's files with their digests, and that of all of them together."""
    whole, carried = Hasher(), []
    sizes = [file.stat().st_size for file in located.files]
    with progress.task("sums of the files", sum(sizes)) as task:
        for at, file in enumerate(located.files):
            single = Hasher()
            with file.open("rb", buffering=0) as stream:
                for chunk in read_chunks(stream):
                    single.update(chunk)
                    if located.in_parts:
                        whole.update(chunk)
                    task.advance(len(chunk))
            number = numbers[at] if numbers else None
            carried.append(CarriedFile(file.name, single.size, single.digest().hex, at + 1, number))
    return carried, (whole if located.in_parts else single).digest().hex


def _known(located: parts.LocatedBundle, numbers: list[int | None] | None) -> tuple[list[CarriedFile], str]:
    """As ``_carried``, by the lists that were written with the files."""
    sums = parts.read_sums(located)
    carried = [
        CarriedFile(file.name, file.stat().st_size, sums[file.name], at + 1, numbers[at] if numbers else None)
        for at, file in enumerate(located.files)
    ]
    return carried, located.volumes.sha256.hex if located.volumes else sums[located.name]


def _companions(located: parts.LocatedBundle, place: Path) -> Iterator[Path]:
    """What may lie beside the bundle and belongs to it: on every medium."""
    folder = place.parent
    listing = folder / parts.json_name(located.name)
    yield listing
    yield folder / parts.sums_name(located.name)
    yield place
    for signed in (place, listing):
        for path, _ in signatures_of(signed):
            yield path
            yield path.with_suffix(".sigstore.json")
    yield from (folder / name for name in (CHECKER, f"{CHECKER}.sha256", NAME))


def _companion(path: Path) -> CarriedFile:
    return CarriedFile(path.name, path.stat().st_size, Digest.of_file(path).hex)


def _signatures(place: Path, content: bytes, keys: Sequence[PublicKey]) -> Iterator[SignatureLine]:
    """Each signature beside the bundle, with the key among ``keys`` that made it."""
    for path, signature in signatures_of(place):
        by = next((key for key in keys if key.accepts(signature, content)), None)
        yield SignatureLine(path.name, by.id if by else "", Path(by.name).name if by else "")


def _json(small: SmallFiles, path: str, bundle: Path) -> Any:
    try:
        return parse_json(small.texts[path], _AT_MOST)
    except ValueError as error:
        raise BundleDamaged(f"cannot be read: {error}", where=f"{bundle}: {path}") from error


def _licences(small: SmallFiles, bundle: Path) -> dict[str, int]:
    """Licence -> how many images, packages and models have it, by the bill of materials."""
    if SBOM not in small.texts:
        return {}
    try:
        return {name: len(items) for name, items in by_licence(_json(small, SBOM, bundle)).items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise BundleDamaged("is not a bill of materials of this version", where=f"{bundle}: {SBOM}") from error
