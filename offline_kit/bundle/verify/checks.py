"""The checks of verify: what was seen, against SHA256SUMS, the lock and bundle.json, each both ways.

Rules: nothing here reads a file; every check goes on after a finding; one fault is one finding where that can be told; "absent"
is a finding and never a reason to pass. What an operator may change in an installed kit is a note.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from offline_kit.bundle import delta
from offline_kit.bundle.format import paths
from offline_kit.bundle.format.bundle_json import Contents, contents_of, parse_contents
from offline_kit.bundle.format.entries import derived_texts
from offline_kit.bundle.read.observed import Evidence, Seen, read_lock, shown
from offline_kit.bundle.verify import image_checks
from offline_kit.common.digest import Digest
from offline_kit.common.errors import BundleDamaged, SpecError
from offline_kit.common.json_text import parse_json
from offline_kit.spec.lock import Lock
from offline_kit.spec.manifest import canonical
from offline_kit.spec.names import safe_path
from offline_kit.spec.scan import PICKLES, RECORD, parse_record

_LINE = re.compile(r"([0-9a-f]{64})  ([^\n]+)")


@dataclass(frozen=True)
class _Expected:
    size: int
    digest: Digest


def run_checks(evidence: Evidence) -> Contents | None:
    """Adds everything that is wrong to the evidence; gives what bundle.json says, where it can be read."""
    archived = dict(evidence.files)
    delta.apply_base(evidence)
    sums = read_sums(evidence)
    lock = _lock(evidence)
    operators = _operators(evidence, lock) if evidence.installed else set()
    if sums is not None:
        _against_sums(evidence, sums, operators)
    if lock is not None:
        _against_lock(evidence, lock, sums or {}, operators)
        _scan_record(evidence, lock)
    contents = _contents(evidence, lock, sums, archived.get(paths.BUNDLE))
    for path, seen in evidence.files.items():
        # 7. Weights whose own header says that they are not whole.
        if seen.fault and path not in operators and not _same_finding(seen, path, sums):
            evidence.found(path, seen.fault)
    if evidence.form != "kit":
        _archive(evidence, archived, contents)
    return contents


def _same_finding(seen: Seen, path: str, sums: dict[str, Digest] | None) -> bool:
    """Whether the file is already known to be changed."""
    return seen.digest not in (None, (sums or {}).get(path, seen.digest))


def _content(evidence: Evidence, path: str) -> bytes | None:
    seen = evidence.files.get(path)
    if seen is None:
        evidence.found(path, "is missing")
    elif seen.content is None:
        evidence.found(path, "is too large, or could not be read")
    return seen.content if seen else None


def read_sums(evidence: Evidence) -> dict[str, Digest] | None:
    """1. SHA256SUMS in its one form: lower-case hex, two spaces, a safe path; sorted, no path twice, itself not named."""
    data = _content(evidence, paths.SUMS)
    if data is None:
        return None
    sums: dict[str, Digest] = {}
    lines = data.decode(errors="replace").split("\n")
    if lines.pop() != "":
        evidence.found(paths.SUMS, "does not end with a line end")
    last = b""
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        try:
            path = safe_path(match.group(2)) if match else ""
        except ValueError:
            path = ""
        if match is None or path in ("", paths.SUMS, paths.ENV) or path.startswith(f"{paths.STATE}/"):
            evidence.found(f"{paths.SUMS}, line {number}", "is not '<64 lower-case hex digits>  <path of a file of the kit>'")
            continue
        if path.encode() <= last:
            evidence.found(f"{paths.SUMS}, line {number}", "is not in order, or names a file again")
        last = path.encode()
        sums[path] = Digest(match.group(1))
    return sums


def _lock(evidence: Evidence) -> Lock | None:
    data = _content(evidence, paths.LOCK)
    lock = read_lock(data) if data is not None else None
    if data is not None and lock is None:
        evidence.found(paths.LOCK, "cannot be read as a lock")
    elif lock is not None and not _is_canonical(data):
        evidence.found(paths.LOCK, "is not in the one form that a lock is written in")
    return lock


def _is_canonical(data: bytes | None) -> bool:
    """Whether JSON is written in its one form, in which no name comes twice and no two readers differ."""
    return data is not None and canonical(parse_json(data)).encode() == data


def _operators(evidence: Evidence, lock: Lock | None) -> set[str]:
    """Files of an installed kit that belong to the operator: under config/, and in folders of their own under models/."""
    models = lock.models.keys() if lock else set()
    own = {path for path in evidence.files if path.startswith(f"{paths.CONFIG}/")}
    folders = [path.split("/")[1] for path in evidence.files if path.startswith(f"{paths.MODELS}/") and path.count("/") > 1]
    for folder in sorted(set(folders) - models):
        evidence.notes.append(f"{paths.MODELS}/{folder}/: a folder of the operator's, not checked")
        own |= {path for path in evidence.files if path.startswith(f"{paths.MODELS}/{folder}/")}
    return own


def _against_sums(evidence: Evidence, sums: dict[str, Digest], operators: set[str]) -> None:
    """2. Every file is listed, every listed file is there, and each has its digest."""
    for path, digest in sums.items():
        seen = evidence.files.get(path)
        if seen is None:
            evidence.found(path, "is missing")
        elif seen.digest not in (None, digest):
            if path in operators:
                evidence.notes.append(f"{path}: edited by the operator")
            else:
                evidence.found(path, f"is changed: {seen.digest} instead of {digest}")
    for path in evidence.files:
        if path not in sums and path != paths.SUMS and not (evidence.form == "kit" and paths.is_signature(path)):
            if path not in operators:
                evidence.found(shown(path), f"is extra: {paths.SUMS} does not name it")
            elif path.startswith(f"{paths.CONFIG}/"):
                evidence.notes.append(f"{path}: added by the operator")


def _expected_files(lock: Lock) -> dict[str, _Expected]:
    expected_files = {paths.blob(blob.digest): _Expected(blob.size, blob.digest) for blob in lock.image_blobs().values()}
    for name, text in lock.config.items():
        expected_files[f"{paths.CONFIG}/{name}"] = _Expected(text.size, text.sha256)
    for key, model in lock.models.items():
        expected_files |= {paths.model_file(key, file.path): _Expected(file.size, file.sha256) for file in model.files}
    expected_files |= {paths.extra_file(path): _Expected(extra.size, extra.sha256) for path, extra in lock.files.items()}
    return expected_files


def _against_lock(evidence: Evidence, lock: Lock, sums: dict[str, Digest], operators: set[str]) -> None:
    """3. The lock's files are listed and there, with size and digest; no blob or model file that it does not name."""
    expected_files = _expected_files(lock)
    for path, expected in expected_files.items():
        seen = evidence.files.get(path)
        if sums.get(path, expected.digest) != expected.digest:
            evidence.found(path, f"{paths.SUMS} and {paths.LOCK} disagree about its digest")
        elif seen is None and path not in sums:
            evidence.found(path, f"is missing, and {paths.SUMS} does not name it: {paths.LOCK} does")
        if seen is None or path in operators:
            continue
        if seen.size != expected.size and (path not in sums or seen.digest in (None, expected.digest)):
            evidence.found(path, f"has {seen.size} bytes instead of {expected.size}")
        elif seen.digest not in (None, expected.digest) and path not in sums:
            evidence.found(path, f"is changed: {seen.digest} instead of {expected.digest}")
    for path in (evidence.files.keys() | sums.keys()) - expected_files.keys() - operators:
        if paths.is_payload(path):
            evidence.found(shown(path), f"is extra: {paths.LOCK} does not name it")
    # 4. The images are complete in themselves.
    for key, image in lock.images.items():
        for path, fault in image_checks.check(image, lock.platform, evidence.files):
            evidence.found(path, f"{fault} (image {key})")


def _contents(evidence: Evidence, lock: Lock | None, sums: dict[str, Digest] | None, own: Seen | None) -> Contents | None:
    """5. bundle.json (``own``: as it lies there) says what follows from the lock; 6. so does every other file made from it."""
    data = _content(evidence, paths.BUNDLE) if own is None or evidence.base is None else own.content
    try:
        contents = parse_contents(data, paths.BUNDLE) if data is not None else None
    except BundleDamaged as error:
        evidence.found(paths.BUNDLE, error.what)
        return None
    if contents is not None and data is not None and not _is_canonical(data):
        evidence.found(paths.BUNDLE, "is not in the one form that it is written in")
    if contents is None or lock is None or sums is None:
        return contents
    if contents.full() != contents_of(lock, contents.version, contents.made_by, len(sums)):
        evidence.found(paths.BUNDLE, f"does not agree with {paths.LOCK} and {paths.SUMS}")
    try:
        derived = derived_texts(lock, contents.version, contents.made_by, len(sums))
    except SpecError as error:
        evidence.found(paths.LOCK, error.what)
        return contents
    for path, text in derived.items():
        seen = evidence.files.get(path)
        if seen is None:
            if path not in sums:
                evidence.found(path, f"is missing, and {paths.SUMS} does not name it")
        elif path != paths.BUNDLE and seen.digest not in (None, Digest.of(text)) and not _same_finding(seen, path, sums):
            evidence.found(path, f"is not what follows from {paths.LOCK}")
    return contents


def _scan_record(evidence: Evidence, lock: Lock) -> None:
    """11. What scanners said was said of this lock and of files that it names, and of all of them by each but picklescan."""
    if RECORD not in evidence.files or (data := _content(evidence, RECORD)) is None:
        return
    try:
        record = parse_record(data)
    except ValueError as error:
        evidence.found(RECORD, f"cannot be read: {error}")
        return
    if not _is_canonical(data):
        evidence.found(RECORD, "is not in the one form that it is written in")
    if record.lock != Digest.of(evidence.files[paths.LOCK].content or b""):
        evidence.found(RECORD, f"was made for another {paths.LOCK}")
    payload = {path for path in _expected_files(lock) if paths.is_payload(path)}
    if unknown := sorted(record.files.keys() - payload):
        evidence.found(RECORD, f"names {shown(unknown[0])}, which {paths.LOCK} does not")
    for scanner in record.scanners.keys() - {PICKLES}:
        if missing := sorted(path for path in payload if scanner not in record.files.get(path, {})):
            evidence.found(RECORD, f"{scanner} says nothing of {missing[0]}")
    if strange := sorted({name for verdicts in record.files.values() for name in verdicts} - record.scanners.keys()):
        evidence.found(RECORD, f"has verdicts of {shown(strange[0])}, which is none of its scanners")


def _archive(evidence: Evidence, files: Mapping[str, Seen], contents: Contents | None) -> None:
    """8. One folder of the right name; 9. files and their folders in the one order; 10. payload is not executable."""
    if contents is not None and evidence.top != contents.top:
        evidence.found(f"{evidence.top}/", f"is the folder's name, {paths.BUNDLE} says {contents.top}")
    order = list(paths.with_folders(evidence.top, sorted(files, key=paths.place)))
    if evidence.names != order and set(files) == {name.partition("/")[2] for name in evidence.names if name[-1] != "/"}:
        pairs = zip([*evidence.names, ""], [*order, ""], strict=False)
        first = next(name or other for name, other in pairs if name != other)
        evidence.found(
            first.partition("/")[2] or first, "is not at its place: files and folders are not in the order of a bundle"
        )
    for path, seen in files.items():
        if f"{evidence.top}/{path}/" in evidence.names_seen:
            evidence.found(path, "is both a file and a folder")
        if _executable(seen) and paths.is_payload(path):
            evidence.found(path, "is executable, and no blob or model file may be")
        if path == paths.INSTALLER and not _executable(seen):
            evidence.found(path, "is not executable")


def _executable(seen: Seen) -> bool:
    return seen.mode == 0o755
