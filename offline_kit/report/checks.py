"""What a report has to say at a glance: one line for each question that a reader of it asks first.

Rules: pure; "good" is only what is known; what nobody tried, scanned or signed is said, and is no fault.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from offline_kit.bundle.format.paths import model_file
from offline_kit.host.sbom.summary import NONE_NAMED
from offline_kit.report.gather import Report
from offline_kit.runtime.gpu_plan.slot import DOES_NOT_START, STARTS
from offline_kit.spec.scan import CLEAN

Mark = Literal["good", "note", "bad"]
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True)
class Check:
    """``what`` was looked at, how it is ``mark``ed, and what there is to say."""

    what: str
    mark: Mark
    text: str


def checks(report: Report) -> Iterator[Check]:
    """The lines, in the order in which they are shown."""
    yield _signed(report)
    yield _rehearsed(report)
    yield _scanned(report)
    yield _plan(report)
    yield _pickles(report)
    yield _code(report)
    yield _licences(report)


def _signed(report: Report) -> Check:
    found, checked = report.signatures, [item for item in report.signatures if item.checked_by]
    if not found:
        return Check("Signatures", "note", "none lies in the kit or beside the bundle")
    if checked:
        return Check("Signatures", "good", f"{len(checked)} of {len(found)} made by a key that was given to this report")
    return Check("Signatures", "note", f"{len(found)}, not checked: no key was given (--key)")


def _rehearsed(report: Report) -> Check:
    if report.rehearsal is None:
        return Check("Rehearsal", "note", "not tried out before it was packed")
    if report.rehearsal.lock != report.lock_digest:
        return Check("Rehearsal", "bad", "its record is of another lock")
    return Check("Rehearsal", "good", report.rehearsal.summary)


def _scanned(report: Report) -> Check:
    if report.scan is None:
        return Check("Scans", "note", "no scanner looked at the payload")
    other = not_clean(report)
    if report.scan.lock != report.lock_digest:
        return Check("Scans", "bad", "the record is of another lock")
    files, names = len(report.scan.files), ", ".join(sorted(report.scan.scanners))
    if other:
        return Check("Scans", "note", f"{len(other)} of {files} files have another word than clean ({names})")
    return Check("Scans", "good", f"{files} files clean ({names})")


def not_clean(report: Report) -> list[tuple[str, str, str]]:
    """(file, scanner, word) of each that is not clean."""
    files = report.scan.files if report.scan else {}
    return [(path, name, word) for path, words in files.items() for name, word in words.items() if word != CLEAN]


def _plan(report: Report) -> Check:
    if report.plan is None:
        return Check("GPUs", "note", f"no plan: {report.no_plan}")
    mark: Mark = {STARTS: "good", DOES_NOT_START: "bad"}.get(report.plan.outcome, "note")  # type: ignore[assignment]
    return Check("GPUs", mark, report.plan.needs.summary)


def _pickles(report: Report) -> Check:
    found = [
        model_file(key, file.path)
        for key, model in report.lock.models.items()
        for file in model.files
        if file.path.endswith(_PICKLED)
    ]
    if found:
        return Check("Weights", "note", f"{len(found)} pickled file(s), which can run code when they are loaded: {found[0]}")
    return Check("Weights", "good", "no pickled files among the models")


def _code(report: Report) -> Check:
    found = {key: model.needs.code for key, model in report.lock.models.items() if model.needs and model.needs.code}
    if found:
        return Check(
            "Code of models", "note", "brought by " + ", ".join(found) + "; it runs only where trust_remote_code allows it"
        )
    return Check("Code of models", "good", "none is named by any model")


def _licences(report: Report) -> Check:
    if not report.licences:
        return Check("Licences", "note", "the bundle has no bill of materials")
    none = len(report.licences.get(NONE_NAMED, ()))
    named = len(report.licences) - (NONE_NAMED in report.licences)
    if none:
        return Check("Licences", "note", f"{named} different ones; {none} packages or models name none")
    return Check("Licences", "good", f"{named} different ones; everything names one")
