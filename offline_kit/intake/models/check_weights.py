"""Are the weights whole? Read from safetensors headers and their index, without loading anything.

Rules: what a header says is for ``gpu_plan.safetensors`` to read, here as everywhere; an index names only files that exist and
tensors that those files hold. A file can be
what its sha256 says and still have been published broken: then it is refused here and not on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from offline_kit.common.errors import DigestMismatch, NotFound
from offline_kit.common.json_text import parse_json
from offline_kit.runtime.gpu_plan import safetensors
from offline_kit.spec.lock import LockedFile

_INDEX_AT_MOST = 32 << 20  # bytes: those of the largest models have ten
INDEX = ".safetensors.index.json"
PUBLISHED = "check 'include' and 'exclude'"
COPIED = "copy the missing files into the folder again; if they are there, check 'include' and 'exclude'"


def tensors(path: Path, size: int, name: str) -> set[str]:
    """The names of the tensors in the file at ``path`` of ``size`` bytes. Raises DigestMismatch if it is not whole."""
    with path.open("rb") as stream:
        head = stream.read(safetensors.PREFIX)
        head += stream.read(safetensors.head_length(head) - safetensors.PREFIX)
    return set(parse_header(head, size, name))


def parse_header(head: bytes, size: int, name: str) -> safetensors.Header:
    """The tensors of the file ``name`` that starts with ``head``. Raises DigestMismatch if it is not whole."""
    try:
        return safetensors.parse(head, size)
    except ValueError as error:
        raise _broken(name, f"not a whole safetensors file: {error}") from error


def check_model(
    files: Iterable[LockedFile], locate: Callable[[LockedFile], Path | None], model: str, remedy: str = PUBLISHED
) -> None:
    """Raises NotFound (a shard is missing) or DigestMismatch (damaged) for the files of one model.

    ``locate`` gives the place of a file, or None where it has not been fetched yet: then only its name is checked.
    ``remedy``: for a shard that is missing.
    """
    by_path = {file.path: file for file in files}
    contents: dict[str, set[str]] = {}
    for path, file in by_path.items():
        place = locate(file) if path.endswith(".safetensors") else None
        if place is not None:
            contents[path] = tensors(place, file.size, f"{model}: {path}")
    for path, file in by_path.items():
        place = locate(file) if path.endswith(INDEX) else None
        if place is not None:
            _check_index(path, place, by_path.keys(), contents, (model, remedy))


def check_indexes(root: Path, paths: Iterable[str], model: str) -> None:
    """Raises NotFound where an index among ``paths`` below ``root`` names a shard that is not among them; reads no weights."""
    present = set(paths)
    for path in sorted(path for path in present if path.endswith(INDEX)):
        _check_index(path, root / path, present, {}, (model, COPIED))


def _check_index(path: str, place: Path, present: Iterable[str], contents: dict[str, set[str]], about: tuple[str, str]) -> None:
    model, remedy = about
    where = f"{model}: {path}"
    try:
        with place.open("rb") as stream:
            mapping: dict[str, str] = parse_json(stream.read(_INDEX_AT_MOST + 1), _INDEX_AT_MOST)["weight_map"]
        named = {(path.rpartition("/")[0] + "/" + shard).lstrip("/") for shard in mapping.values()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _broken(where, "is not an index of safetensors") from error
    missing = sorted(named - set(present))
    if missing:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise NotFound(f"names shards that are not there: {shown}", where=where, remedy=remedy)
    folder = path.rpartition("/")[0]
    for tensor, shard in sorted(mapping.items()):
        file = f"{folder}/{shard}".lstrip("/")
        if file in contents and tensor not in contents[file]:
            raise _broken(where, f"says that {shard} holds {tensor}, which it does not")


def _broken(where: str, what: str) -> DigestMismatch:
    remedy = "the weights were published or copied incompletely: copy the file again, or use another revision"
    return DigestMismatch(what, where=where, remedy=remedy)
