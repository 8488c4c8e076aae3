"""Which files of a model are wanted.

Rules: ``include`` and ``exclude`` are decided first; then, unless the manifest says ``allow_pickle: true``, no file that can
run code when it is loaded comes along: beside safetensors it is left out, as the only form of the weights it is refused by
name. ``pytorch_model*.bin`` is judged by its own folder (a module of a model may have its weights in no other form), every
other pickle by the whole model (training states and original checkpoints lie in folders of their own). Weights for other
frameworks are left out beside safetensors: vLLM never loads them. The same weights in two forms are carried once. What git, the
tools of hubs and desktops keep for themselves is no part of a model.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from offline_kit.common.errors import SpecError
from offline_kit.spec.manifest import ModelSpec
from offline_kit.spec.names import PICKLES, converted_name, matches

_OTHERS = frozenset((".h5", ".msgpack", ".ot"))  # TensorFlow, Flax, Rust
_PICKLE_INDEX = ".bin.index.json"
_VARIANT = re.compile(r"(model)\.(?:fp16|bf16|fp32|fp8)\.safetensors")
_CONSOLIDATED = "consolidated*.safetensors*"


def choose(paths: Iterable[str], entry: ModelSpec, model: str) -> list[str]:
    """The wanted ones of ``paths``, sorted. Raises SpecError (pickled weights alone; a pattern or demand fits nothing)."""
    listed = sorted(path for path in paths if not _is_of_a_tool(path))
    _refuse_idle_patterns(entry.include, listed, model)
    asked = [path for path in listed if is_wanted(path, entry)]
    _refuse_idle_conversion(asked, entry, model)
    _refuse_pickles_alone(asked, entry, model)
    left_out = {path for rule in _LEFT_OUT for path in rule(asked, entry)}
    wanted = [path for path in asked if path not in left_out]
    if not wanted:
        raise SpecError("no file is left", where=model, remedy="check 'include' and 'exclude'")
    _refuse_idle_demands(entry, wanted, model)
    return wanted


def is_wanted(path: str, entry: ModelSpec) -> bool:
    """Whether ``include`` and ``exclude`` let ``path`` through; what they do not is looked at no further."""
    return (not entry.include or matches(path, entry.include)) and not matches(path, entry.exclude)


def is_excluded(path: str, entry: ModelSpec) -> bool:
    """Whether ``exclude`` names ``path``, a file or a folder."""
    return matches(path, entry.exclude)


def twins(paths: Iterable[str], entry: ModelSpec) -> list[str]:
    """Files that hold weights which others of ``paths`` hold too; only those directly in the folder are weights of the model.

    Mistral's consolidated form beside the usual one (vLLM takes the consolidated form as soon as one file of it is there,
    and the usual one otherwise); one file beside the shards that an index names; a variant (``model.fp16.safetensors``)
    beside the plain form. Nothing is left out of what the manifest names by ``include`` or ``sha256``.
    """
    listed = set(paths)
    named = {path for path in listed if matches(path, entry.include)} | entry.sha256.keys()
    top = {path for path in listed if "/" not in path}
    return sorted(path for path in top - named if _has_twin(path, top))


def _has_twin(path: str, top: set[str]) -> bool:
    if fnmatch.fnmatchcase(path, _CONSOLIDATED):
        return "config.json" in top and any(fnmatch.fnmatchcase(other, "model*.safetensors") for other in top)
    if path == "model.safetensors":
        return f"{path}.index.json" in top and any(fnmatch.fnmatchcase(other, "model-*-of-*.safetensors") for other in top)
    variant = _VARIANT.fullmatch(path)
    return variant is not None and f"{variant[1]}.safetensors" in top


def _pickles(paths: Iterable[str], entry: ModelSpec) -> list[str]:
    """Files that can run code when they are loaded, and the indexes of such weights, unless the manifest allows them."""
    found = [path for path in paths if _is_pickle(path) or path.endswith(_PICKLE_INDEX)]
    return [] if entry.allow_pickle else [path for path in found if not _is_converted(path, entry)]


def _other_frameworks(paths: Iterable[str], entry: ModelSpec) -> list[str]:
    """Weights for other frameworks, where safetensors are among ``paths``."""
    beside = _tensors(paths) or entry.convert
    return [path for path in paths if PurePosixPath(path).suffix in _OTHERS] if beside else []


# Each names files that stay behind of those that include and exclude let through.
_LEFT_OUT = (_pickles, _other_frameworks, twins)


def _refuse_pickles_alone(asked: list[str], entry: ModelSpec, model: str) -> None:
    tensors = [*_tensors(asked), *(converted_name(path) or "" for path in asked if _is_converted(path, entry))]
    alone = [path for path in asked if not entry.allow_pickle and _is_pickle(path) and not _beside(path, tensors)]
    if alone:
        shown = ", ".join(alone[:5]) + (f" and {len(alone) - 5} more" if len(alone) > 5 else "")
        remedy = "say 'allow_pickle: true' if you trust the publisher, or 'exclude' what serving does not need"
        if any(converted_name(path) for path in alone):
            remedy += "; 'convert: safetensors' carries pytorch_model*.bin in a form that runs nothing"
        raise SpecError(
            f"weights that can run code when loaded, and no safetensors instead: {shown}", where=model, remedy=remedy
        )


def _refuse_idle_conversion(asked: list[str], entry: ModelSpec, model: str) -> None:
    if entry.convert is None:
        return
    if top := [path for path in _tensors(asked) if "/" not in path]:
        raise SpecError(f"has safetensors already: {top[0]}", where=model, remedy="leave 'convert' out")
    if not any(_is_converted(path, entry) for path in asked):
        remedy = "leave 'convert' out, or name the weights with 'include'"
        raise SpecError("has no pytorch_model*.bin that could be converted", where=model, remedy=remedy)


def _is_converted(path: str, entry: ModelSpec) -> bool:
    return entry.convert is not None and converted_name(path) is not None


def _refuse_idle_demands(entry: ModelSpec, wanted: list[str], model: str) -> None:
    for demand in entry.sha256:
        if demand not in wanted:
            near = difflib.get_close_matches(demand, wanted, n=1)
            remedy = f"did you mean '{near[0]}'?" if near else "correct the path below 'sha256', or 'include' and 'exclude'"
            raise SpecError(f"sha256 is demanded for '{demand}', which is not among its files", where=model, remedy=remedy)


def _refuse_idle_patterns(patterns: Iterable[str], paths: list[str], model: str) -> None:
    idle = [pattern for pattern in patterns if not any(matches(path, (pattern,)) for path in paths)]
    if idle:
        raise SpecError(f"include: no file matches {', '.join(repr(pattern) for pattern in idle)}", where=model)


def _is_of_a_tool(path: str) -> bool:
    """Whether git, ``hf download``, ``modelscope download`` (its unfinished files, too) or a desktop left it."""
    parts = path.split("/")
    if any(part.startswith(".git") or part == "._____temp" for part in parts) or parts[:2] == [".cache", "huggingface"]:
        return True
    return parts[-1] in (".DS_Store", ".msc", ".mv", ".mdl")


def _tensors(paths: Iterable[str]) -> list[str]:
    return [path for path in paths if path.endswith(".safetensors")]


def _is_pickle(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in PICKLES


def _beside(path: str, tensors: list[str]) -> bool:
    """Whether safetensors take the place of this pickle."""
    folder, _, name = path.rpartition("/")
    if not fnmatch.fnmatchcase(name, "pytorch_model*.bin"):
        return bool(tensors)
    return any(tensor.rpartition("/")[0] == folder for tensor in tensors)
