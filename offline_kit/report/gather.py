"""What a report says of one bundle or kit: read from its head and what lies beside it, nothing of the payload.

Rules: it answers what the bundle says of itself, and says so: only ``verify`` proves it; a document that is not what it should
be is an error that names it; a signature is only called checked where a key was given that made it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offline_kit.bundle.diff import Difference, compare
from offline_kit.bundle.format import paths
from offline_kit.bundle.format.bundle_json import Contents
from offline_kit.bundle.read.configuration import FILES
from offline_kit.bundle.read.inspect import inspect, read_head, read_texts
from offline_kit.bundle.signature.check import fingerprint
from offline_kit.bundle.signature.forms import AT_MOST, SIG, SIGSTORE, signatures_of, signer_of
from offline_kit.bundle.signature.keys import PublicKey
from offline_kit.bundle.signature.sign import read_signed_list
from offline_kit.common.digest import Digest
from offline_kit.common.errors import BundleDamaged, KitError
from offline_kit.common.files import disk_errors, read_plain_file
from offline_kit.common.json_text import parse_json
from offline_kit.host.sbom.summary import SBOM, by_licence, text_of
from offline_kit.report.gpu_drawing import Card, draw
from offline_kit.report.gpu_needs import GpuNeeds, Planner
from offline_kit.runtime.gpu_plan.evaluate import Verdict
from offline_kit.runtime.gpu_plan.gpus import Gpu
from offline_kit.runtime.gpu_plan.report import lines
from offline_kit.spec.lock import Lock
from offline_kit.spec.rehearsal import RehearsalRecord
from offline_kit.spec.scan import ScanRecord

_LARGEST = 128 << 20  # bytes of a document of the kit
_ENVIRONMENT = f"{paths.CONFIG}/environment.yaml"


@dataclass(frozen=True)
class SignatureFound:
    """A signature file; ``key_id``: whose it says it is; ``checked_by``: the given key that made it, empty: none did."""

    file: str
    key_id: str
    checked_by: str


@dataclass(frozen=True)
class Package:
    """A row of the bill of materials; ``where``: the image it is in, empty for an image or model itself."""

    kind: str
    name: str
    version: str
    licences: str
    where: str


@dataclass(frozen=True)
class Plan:
    """The GPU plan: for ``cards`` that were named, or the smallest of the usual ones that start all engines."""

    needs: GpuNeeds
    outcome: str
    cards: tuple[Card, ...]
    text: tuple[str, ...]
    chosen: bool


@dataclass(frozen=True)
class Report:
    """All that the page shows. ``no_plan``: why there is no GPU plan; ``packages``: of the bill of materials, without files."""

    contents: Contents
    lock: Lock
    lock_digest: Digest
    sums: Digest
    scan: ScanRecord | None
    rehearsal: RehearsalRecord | None
    signatures: tuple[SignatureFound, ...]
    packages: tuple[Package, ...]
    licences: dict[str, list[str]]
    plan: Plan | None
    no_plan: str
    difference: Difference | None

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.sums.hex)


def gather(
    bundle: Path, keys: Sequence[PublicKey] = (), gpus: Mapping[str, Gpu] | None = None, base: Path | None = None
) -> Report:
    """The report of the bundle or kit at ``bundle``; ``gpus``: to plan for, ``base``: an earlier one to compare with.

    Raises BundleUnreadable, BundleDamaged, DiskError and SpecError.
    """
    found, head = inspect(bundle), read_head(bundle)
    texts = read_texts(bundle, (paths.SUMS,), if_listed=(SBOM, _ENVIRONMENT, *(f"{paths.CONFIG}/{name}" for name in FILES)))
    bom = _bill(texts, bundle)
    plan, no_plan = _plan(found.contents, texts, gpus)
    return Report(
        contents=found.contents,
        lock=head.lock,
        lock_digest=head.digest,
        sums=found.sums,
        scan=found.scan,
        rehearsal=found.rehearsal,
        signatures=tuple(find_signatures(bundle, keys)),
        packages=bom[0],
        licences=bom[1],
        plan=plan,
        no_plan=no_plan,
        difference=compare(read_head(base), head) if base else None,
    )


def find_signatures(bundle: Path, keys: Sequence[PublicKey] = ()) -> list[SignatureFound]:
    """The signatures that lie in the kit or beside the bundle, and which of ``keys`` made each. Raises KitError."""
    signed = read_signed_list(bundle)
    found = []
    with disk_errors(signed.place.parent):
        for path, signature in signatures_of(signed.place):
            form = path.with_name(path.name.removesuffix(SIG) + SIGSTORE)
            says = signer_of(read_plain_file(form, AT_MOST), signed.content) if form.is_file() else None
            by = next((key for key in keys if key.accepts(signature, signed.content)), None)
            found.append(SignatureFound(path.name, by.id if by else says or "", Path(by.name).name if by else ""))
    return found


def planner(bundle: Path, contents: Contents) -> Planner:
    """What plans for the bundle or kit. Raises SpecError and as ``inspect``."""
    texts = read_texts(bundle, (paths.SUMS,), if_listed=(_ENVIRONMENT, *(f"{paths.CONFIG}/{name}" for name in FILES)))
    return Planner(contents, _config(texts))


def _config(texts: Mapping[str, bytes]) -> dict[str, bytes]:
    config = {path.removeprefix(f"{paths.CONFIG}/"): text for path, text in texts.items() if path.startswith(paths.CONFIG)}
    return dict.fromkeys(FILES, b"{}\n") | config


def _plan(contents: Contents, texts: Mapping[str, bytes], gpus: Mapping[str, Gpu] | None) -> tuple[Plan | None, str]:
    try:
        plans = Planner(contents, _config(texts))
    except KitError as error:
        return None, f"the configuration names no engines that can be planned: {error}"
    if not plans.wants_gpus:
        return None, "engines run on the CPU" if contents.accelerator == "cpu" else "the lock knows no facts of any model"
    needs = plans.needs()
    there = gpus or plans.usual(needs)
    verdict, suggested = plans.plan(there)
    return Plan(needs, verdict.outcome, tuple(draw(verdict)), tuple(lines(verdict, suggested)), gpus is not None), _no_cards(
        verdict
    )


def _no_cards(verdict: Verdict) -> str:
    return "" if verdict.slots else "no engine could be placed"


def _bill(texts: Mapping[str, bytes], bundle: Path) -> tuple[tuple[Package, ...], dict[str, list[str]]]:
    """The rows of the bill of materials without files, and its licences. Raises BundleDamaged."""
    if SBOM not in texts:
        return (), {}
    try:
        document = parse_json(texts[SBOM], _LARGEST)
        if not document.get("components"):
            return (), {}
        return tuple(_package(part, where) for part, where in _parts(document)), by_licence(document)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleDamaged("is not a bill of materials of this version", where=f"{bundle}: {SBOM}") from error


def _parts(document: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], str]]:
    """Each component that has a licence to name, with where it is."""
    found = []
    for component in document["components"]:
        for part in (component, *component.get("components", ())):
            if part["type"] in ("container", "library", "machine-learning-model"):
                found.append((part, "" if part is component else str(component["bom-ref"])))
    return found


def _package(part: Mapping[str, Any], where: str) -> Package:
    kind = {"container": "image", "machine-learning-model": "model"}.get(part["type"], "")
    kind = kind or str(part.get("purl", "")).partition(":")[2].partition("/")[0]
    licences = ", ".join(text_of(entry) for entry in part.get("licenses", ()))
    return Package(kind, str(part["name"]), str(part.get("version", "")), licences, where)
