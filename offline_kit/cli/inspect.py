"""The command ``offline-kit inspect``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from offline_kit.bundle.read.inspect import Contents, read_head, read_rehearsal_record, read_scan_record, read_texts
from offline_kit.bundle.read.inspect import inspect as inspect_bundle
from offline_kit.bundle.signature.check import fingerprint
from offline_kit.bundle.signature.keys import PublicKey, load_public_key
from offline_kit.common.errors import BundleDamaged, KitError
from offline_kit.common.files import replace_file
from offline_kit.common.json_text import parse_json
from offline_kit.common.output import answer, answer_json
from offline_kit.common.units import size
from offline_kit.host.provenance import PROVENANCE
from offline_kit.host.sbom.summary import SBOM, by_licence
from offline_kit.spec.engine_summary import describe, summary
from offline_kit.spec.rehearsal import RehearsalRecord
from offline_kit.spec.scan import ScanRecord

_AT_MOST = 128 << 20  # bytes of a document of the kit


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--licences", is_flag=True, help="Every licence, and the images, packages and models that have it.")
@click.option("--sbom", is_flag=True, help="The bill of materials: CycloneDX 1.7, JSON.")
@click.option("--provenance", is_flag=True, help="What it was built from: in-toto statement, SLSA predicate, JSON.")
@click.option("--scan", is_flag=True, help="What scanners said of every file, and with which database, JSON.")
@click.option("--rehearsal", is_flag=True, help="What was tried out before it was packed, and what came of it, JSON.")
@click.option("--engine", is_flag=True, help="What the engine image is: versions, kernels, architectures, parsers, JSON.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="All of it as one page, to FILE.")
@click.option(
    "--gpu", "gpus", metavar="GPUS", help="With --html: draw the plan for these (2x48GiB). [default: the smallest usual]"
)
@click.option("--base", type=click.Path(path_type=Path), help="With --html: what changed since this bundle, kit or lock.")
@click.option(
    "--key", "keys", type=click.Path(path_type=Path, dir_okay=False), multiple=True, help="Name signatures by this key."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout.")
def inspect(
    bundle: Path,
    html: Path | None,
    gpus: str | None,
    base: Path | None,
    keys: tuple[Path, ...],
    as_json: bool,
    **document: bool,
) -> None:
    """Show what a bundle or a kit contains, from its first few kilobytes. Proves nothing: that is 'verify'.

    With --html one page that needs no network: where the bytes are, the GPU plan drawn, bill of materials and licences with
    search, scans, rehearsal, signatures, and with --base what changed.
    """
    chosen = [name for name, wanted in {**document, "html": html is not None}.items() if wanted]
    if len(chosen) > 1:
        raise click.UsageError("one of --licences, --sbom, --provenance, --scan, --rehearsal, --engine, --html")
    if (gpus or base) and not html:
        raise click.UsageError("--gpu and --base are for --html: 'plan' and 'diff' tell the same on a terminal")
    if html:
        _write_page(html, bundle, [load_public_key(path) for path in keys], gpus, base)
    elif chosen:
        _show_document(bundle, chosen[0], as_json=as_json)
    else:
        _show_tree(bundle, [load_public_key(path) for path in keys], as_json=as_json)


def _write_page(out: Path, bundle: Path, keys: list[PublicKey], gpus: str | None, base: Path | None) -> None:
    from offline_kit.host.target_check import cards  # noqa: PLC0415  templates and the plan are loaded only by who wants them
    from offline_kit.report.gather import gather  # noqa: PLC0415
    from offline_kit.report.page import page  # noqa: PLC0415

    replace_file(out, page(gather(bundle, keys, cards(gpus) if gpus else None, base)).encode())
    answer(out)


def _show_document(bundle: Path, name: str, *, as_json: bool) -> None:
    if name in ("sbom", "provenance"):
        answer_json(_document(bundle, SBOM if name == "sbom" else PROVENANCE))
    elif name in ("scan", "rehearsal"):
        record = read_scan_record(bundle) if name == "scan" else read_rehearsal_record(bundle)
        answer_json(record.model_dump(mode="json") if record else None)
    elif name == "engine":
        answer_json(describe(read_head(bundle).lock.images.get("engine")))
    else:
        licences_of = _licences(bundle)
        answer_json(licences_of) if as_json else answer("\n".join(_by_licence(licences_of)))


def _show_tree(bundle: Path, keys: list[PublicKey], *, as_json: bool) -> None:
    found = inspect_bundle(bundle)
    line = fingerprint(found.sums.hex)
    if as_json:
        answer_json({**found.contents.as_json(), "fingerprint": line})
        return
    lines = [*_lines(found.contents, _model_licences(bundle)), *_engine(bundle), *_gpus(bundle, found.contents)]
    lines += [*_scanned(found.scan), *_rehearsed(found.rehearsal), *_signed(bundle, keys)]
    answer("\n".join([*lines, f"  fingerprint {line}"]))


def _document(bundle: Path, name: str) -> Any:
    """A JSON document of the kit, as it says itself. Raises BundleDamaged."""
    try:
        return parse_json(read_texts(bundle, (name,))[name], _AT_MOST)
    except ValueError as error:
        raise BundleDamaged(f"cannot be read: {error}", where=f"{bundle}: {name}") from error


def _scanned(record: ScanRecord | None) -> Iterator[str]:
    for name, engine in record.scanners.items() if record else ():
        counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(record.counts(name).items())) if record else ""
        yield f"  scanned by {name}: {counts}" + (f"  ({engine})" if engine else "")


def _engine(bundle: Path) -> Iterator[str]:
    """What the engine image is, in a line; nothing where the lock cannot be read, which is another file's fault."""
    with contextlib.suppress(KitError):
        if text := summary(read_head(bundle).lock.images.get("engine")):
            yield f"  engine: {text}"


def _gpus(bundle: Path, contents: Contents) -> Iterator[str]:
    """On which of the usual GPUs all engines start; nothing where the configuration is none, which verify says."""
    from offline_kit.report.gather import planner  # noqa: PLC0415

    with contextlib.suppress(KitError):
        plans = planner(bundle, contents)
        if plans.wants_gpus:
            yield f"  GPUs: {plans.needs().summary}"


def _signed(bundle: Path, keys: list[PublicKey]) -> Iterator[str]:
    from offline_kit.report.gather import find_signatures  # noqa: PLC0415

    for found in find_signatures(bundle, keys):
        by = f"by {found.checked_by} (key {found.key_id})" if found.checked_by else f"by key {found.key_id or '?'}, not checked"
        yield f"  signed {by}  {found.file}"


def _model_licences(bundle: Path) -> dict[str, str]:
    """Model -> the licences that its card names; nothing where the lock cannot be read."""
    with contextlib.suppress(KitError):
        return {key: ", ".join(model.card.licences) for key, model in read_head(bundle).lock.models.items() if model.card}
    return {}


def _rehearsed(record: RehearsalRecord | None) -> Iterator[str]:
    if record:
        yield f"  rehearsed: {record.summary}"


def _licences(bundle: Path) -> dict[str, list[str]]:
    try:
        return by_licence(_document(bundle, SBOM))
    except (KeyError, TypeError, AttributeError) as error:
        raise BundleDamaged("is not a bill of materials of this version", where=f"{bundle}: {SBOM}") from error


def _by_licence(found: dict[str, list[str]]) -> Iterator[str]:
    for name, items in found.items():
        yield f"{name} ({len(items)})"
        yield from (f"    {item}" for item in items)


def _lines(contents: Contents, licences: dict[str, str]) -> Iterator[str]:
    yield f"{contents.name} {contents.version} for {contents.platform}, {contents.accelerator}; made by {contents.made_by}"
    if base := contents.base:
        yield f"  a delta: {len(base.needs)} files, {size(base.bytes)}, are to come from {base.title}"
        yield f"  on the host: ./install.sh --base ../{base.title}"
    yield f"  images ({size(contents.totals.images_bytes)}, shared layers once)"
    for key, image in contents.images.items():
        yield f"    {key:12} {size(image.bytes):>10}  {image.reference or image.source}  {image.config}"
    yield f"  models ({size(contents.totals.models_bytes)})"
    for key, model in contents.models.items():
        origin = f"{model.source}  {model.commit or 'local folder'}  {model.files} files"
        origin += (f"  {licences[key]}" if licences.get(key) else "") + _parsers(contents, key)
        yield f"    {key:12} {size(model.bytes):>10}  {origin}"
    if contents.files:
        yield f"  files ({size(contents.totals.extra_bytes)})"
        yield from (f"    {path:12} {size(file.bytes):>10}  {file.source}" for path, file in contents.files.items())


def _parsers(contents: Contents, key: str) -> str:
    """What reads the tool calls and the reasoning of the model ``key``."""
    found = contents.plan.parsers.get(key, {}) if contents.plan else {}
    return "".join(f"  {argument.replace('_', ' ')} {name}" for argument, name in sorted(found.items()))
