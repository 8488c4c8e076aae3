"""Runs every scanner of a manifest over the payload and makes the record that the bundle carries.

Rules: a file is clean only where the scanner's exit code says so; a finding refuses the bundle and names file and verdict; a
scanner that is missing, fails or takes too long refuses it, too; what a scanner is not given (``largest``) is told as not
scanned. What was read of pickles stands in the same record.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from offline_kit.common import concurrency
from offline_kit.common.child_process import Ended, TookTooLong, run_child
from offline_kit.common.digest import Digest
from offline_kit.common.errors import PolicyRefused, ScanFailed
from offline_kit.common.progress import Task
from offline_kit.common.units import size
from offline_kit.intake.models.scan_pickles import pickle_verdicts, scanner_version
from offline_kit.intake.scan.payload import PayloadFile, payload, shown_files
from offline_kit.intake.session import Session
from offline_kit.spec.lock import Lock
from offline_kit.spec.scan import CLEAN, PICKLES, Scanner, ScanRecord

_ENGINE_PATIENCE = 120.0  # seconds
_SHOWN = 10  # findings that one error tells


def scan(
    lock: Lock, scanners: Sequence[Scanner], locate: Callable[[Digest], Path], base: Path, session: Session
) -> ScanRecord | None:
    """The record of all scans; None where no scanner is wanted and no pickle was read.

    ``locate``: where bytes were proven; ``base``: the manifest's folder, in which commands run. Raises PolicyRefused,
    ScanFailed and DiskError.
    """
    engines: dict[str, str] = {}
    verdicts: dict[str, dict[str, str]] = {}
    for key, model in lock.models.items():
        for path, verdict in pickle_verdicts(model.files, lambda file: locate(file.sha256), session.store).items():
            engines[PICKLES] = scanner_version()
            verdicts.setdefault(f"models/{key}/{path}", {})[PICKLES] = verdict
    files = payload(lock, locate) if scanners else []
    for scanner in scanners:
        engines[scanner.name] = _engine(scanner, base)
        for path, verdict in _verdicts(scanner, files, base, session).items():
            verdicts.setdefault(path, {})[scanner.name] = verdict
    if not engines:
        return None
    return ScanRecord(lock=Digest.of(lock.text().encode()), scanners=engines, files=verdicts)


def _verdicts(scanner: Scanner, files: list[PayloadFile], base: Path, session: Session) -> dict[str, str]:
    """What the scanner says of each file, by its path in the kit."""
    limit = scanner.largest
    given = [file for file in files if limit is None or file.size <= limit]
    passed_over = {file.path: f"not scanned: larger than {limit} bytes" for file in files if limit and file.size > limit}
    total = sum(file.size for file in given)
    with (
        shown_files(given, session.store, together=not scanner.each) as (root, places),
        session.progress.task(f"scan {scanner.name}", total, len(given)) as task,
    ):
        if scanner.each:
            _scan_each(scanner, places, base, session.jobs, task)
        elif given:
            _scan_folder(scanner, root, base)
            task.advance(total)
    skipped = f", {len(passed_over)} not scanned" if passed_over else ""
    session.progress.note(f"{scanner.name}: {len(given)} files clean ({size(total)}){skipped}", event="scanned")
    return {file.path: CLEAN for file in given} | passed_over


def _scan_each(scanner: Scanner, places: Mapping[str, PayloadFile], base: Path, jobs: int, task: Task) -> None:
    """Raises PolicyRefused that names every file which something was found in."""
    stop = threading.Event()

    def look(shown: str, file: PayloadFile) -> str | None:
        ended = _run(scanner, shown, base, stop)
        task.advance(file.size)
        task.finish_item()
        return None if ended.code in scanner.clean else f"{file.name}: {_verdict(ended, shown)}"

    work = [functools.partial(look, shown, file) for shown, file in places.items()]
    if found := [line for line in concurrency.run_all(work, jobs, stop.set) if line is not None]:
        raise _refused(scanner, found)


def _scan_folder(scanner: Scanner, root: Path, base: Path) -> None:
    """Raises PolicyRefused with the lines that name a file; scanners say of others that they are OK, if anything."""
    ended = _run(scanner, str(root), base, None)
    if ended.code in scanner.clean:
        return
    lines = [line.strip() for line in ended.output.splitlines() if line.strip()]
    found = [line.replace(f"{root}/", "") for line in lines if f"{root}/" in line and not line.endswith(": OK")]
    raise _refused(scanner, found or [line.replace(str(root), ".") for line in lines[-3:]] or ["it does not say what"])


def _run(scanner: Scanner, path: str, base: Path, stop: threading.Event | None) -> Ended:
    """How the scanner ended on a file or folder: clean or with a finding. Raises ScanFailed otherwise."""
    ended = _ended(scanner, scanner.command_for(path), scanner.timeout, base, stop)
    if ended.code in (*scanner.clean, *scanner.finding):
        return ended
    how = f"ended with {ended.code}" if ended.code >= 0 else f"was killed by signal {-ended.code}"
    what = f"{how}, which 'clean' and 'finding' do not name: {ended.last_line}"
    raise ScanFailed(what, where=f"scan: {scanner.name}", remedy="nothing was packed: run it by hand, mend it, build again")


def _ended(scanner: Scanner, command: list[str], seconds: float, base: Path, stop: threading.Event | None) -> Ended:
    where = f"scan: {scanner.name}"
    try:
        return run_child(command, seconds=seconds, folder=base, stop=stop)
    except TookTooLong as error:
        remedy = "nothing was packed: raise 'timeout', or leave out large files with 'largest'"
        raise ScanFailed(f"did not end within {seconds:.0f} s", where=where, remedy=remedy) from error
    except OSError as error:
        what = f"{command[0]} cannot be run: {error.strerror}"
        raise ScanFailed(what, where=where, remedy="install the scanner, or correct 'command'") from error


def _engine(scanner: Scanner, base: Path) -> str:
    """What the scanner says of itself and its database, in one line; empty where the manifest has no command for that."""
    if not scanner.engine:
        return ""
    ended = _ended(scanner, list(scanner.engine), _ENGINE_PATIENCE, base, None)
    if ended.code != 0:
        what = f"{scanner.engine[0]} ended with {ended.code}: {ended.last_line}"
        raise ScanFailed(what, where=f"scan: {scanner.name}", remedy="correct 'engine'")
    lines = [" ".join(line.split()) for line in ended.output.splitlines() if line.strip()]
    return "".join(letter if letter.isprintable() else "?" for letter in "; ".join(lines[:5]))[:500]


def _verdict(ended: Ended, shown: str) -> str:
    """The scanner's own words on one file."""
    lines = [line.strip() for line in ended.output.splitlines() if line.strip()]
    named = [line for line in lines if shown in line and not line.endswith(": OK")] or lines[-1:] or ["it does not say what"]
    return named[0].replace(f"{shown}: ", "").replace(shown, "it")[:300]


def _refused(scanner: Scanner, found: list[str]) -> PolicyRefused:
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    remedy = "nothing was packed: leave the file out, use another source, or ask who runs the scanner"
    return PolicyRefused(f"found {'; '.join(found[:_SHOWN])}{more}", where=f"scan: {scanner.name}", remedy=remedy)
