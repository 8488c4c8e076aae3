"""Which files of a model are wanted.

Rules: ``include`` and ``exclude`` are decided first; then, unless the manifest says ``allow_pickle: true``, no file that can
run code when it is loaded comes along: beside safetensors it is left out, as the only form of the weights it is refused by
name. ``pytorch_model*.bin`` is judged by its own folder (a module of a model may have its weights in no other form), every
other pickle by the whole model (training states and original checkpoints lie in folders of their own). Weights for other
frameworks are left out beside safetensors: vLLM never loads them. What git keeps for itself is no part of a model.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Collection, Iterable
from pathlib import PurePosixPath

from offline_kit.errors import SpecError
from offline_kit.spec.manifest import ModelSpec

PICKLES = frozenset((".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".dill"))
_OTHERS = frozenset((".h5", ".msgpack", ".ot"))  # TensorFlow, Flax, Rust
_PICKLE_INDEX = ".bin.index.json"


def choose(paths: Iterable[str], entry: ModelSpec, model: str) -> list[str]:
    """The wanted ones of ``paths``, sorted. Raises SpecError (pickled weights alone; a pattern or demand fits nothing)."""
    every = sorted(path for path in paths if not _unwanted(path))
    if entry.include:
        _all_fit(entry.include, every, "include", model)
    wanted = [path for path in every if not entry.include or _matches(path, entry.include)]
    wanted = [path for path in wanted if not _matches(path, entry.exclude)]
    tensors = [path for path in wanted if path.endswith(".safetensors")]
    if not entry.allow_pickle:
        alone = [path for path in wanted if _is_pickle(path) and not _beside(path, tensors)]
        if alone:
            shown = ", ".join(alone[:5]) + (f" and {len(alone) - 5} more" if len(alone) > 5 else "")
            remedy = "say 'allow_pickle: true' if you trust the publisher, or 'exclude' what serving does not need"
            raise SpecError(
                f"weights that can run code when loaded, and no safetensors instead: {shown}", where=model, remedy=remedy
            )
        wanted = [path for path in wanted if not _is_pickle(path) and not path.endswith(_PICKLE_INDEX)]
    if tensors:
        wanted = [path for path in wanted if PurePosixPath(path).suffix not in _OTHERS]
    if not wanted:
        raise SpecError("no file is left", where=model, remedy="check 'include' and 'exclude'")
    for demand in entry.sha256:
        if demand not in wanted:
            near = difflib.get_close_matches(demand, wanted, n=1)
            remedy = f"did you mean '{near[0]}'?" if near else "correct the path below 'sha256', or 'include' and 'exclude'"
            raise SpecError(f"sha256 is demanded for '{demand}', which is not among its files", where=model, remedy=remedy)
    return wanted


def _matches(path: str, patterns: Collection[str]) -> bool:
    """Patterns are compared with the whole path; ``*`` crosses folders, a folder's name covers what is below it."""
    return any(
        fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(path, pattern.rstrip("/") + "/*") for pattern in patterns
    )


def _all_fit(patterns: Iterable[str], paths: list[str], field: str, model: str) -> None:
    idle = [pattern for pattern in patterns if not any(_matches(path, (pattern,)) for path in paths)]
    if idle:
        raise SpecError(f"{field}: no file matches {', '.join(repr(pattern) for pattern in idle)}", where=model)


def _unwanted(path: str) -> bool:
    parts = path.split("/")
    return any(part.startswith(".git") for part in parts) or parts[:2] == [".cache", "huggingface"] or parts[-1] == ".DS_Store"


def _is_pickle(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in PICKLES


def _beside(path: str, tensors: list[str]) -> bool:
    """Whether safetensors take the place of this pickle."""
    folder, _, name = path.rpartition("/")
    if not fnmatch.fnmatchcase(name, "pytorch_model*.bin"):
        return bool(tensors)
    return any(tensor.rpartition("/")[0] == folder for tensor in tensors)
