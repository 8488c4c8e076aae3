"""Code that a model brings, or takes from another repository: whether the kit has all of it.

Rules: refused where the service may run it (``trust_remote_code``), for its engine would ask a hub; else warned of. Code of
another repository is carried as a model of its own, which ``code`` of the service names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from offline_kit.intake.models.engine_findings import Finding
from offline_kit.intake.models.service import Service
from offline_kit.spec.lock import Lock, LockedFile, LockedModel
from offline_kit.spec.lock_facts import ModelNeeds
from offline_kit.spec.names import Source


def of_code(service: Service, model: LockedModel, needs: ModelNeeds, lock: Lock) -> Iterator[Finding]:
    """Code that is missing, or in a repository that is not carried."""
    where, trusted = f"{service.key} ({model.source})", bool(service.args.get("trust_remote_code"))
    own = [item for item in needs.code if "--" not in item]
    if missing := _missing(own, model.files):
        yield Finding(trusted, where, f"names code that is not there: {', '.join(missing)}", "add it, or check 'exclude'")
    elsewhere = sorted({item.partition("--")[0] for item in needs.code if "--" in item})
    if left := [name for name in elsewhere if name not in service.code]:
        key = left[0].rpartition("/")[2].lower().replace("_", "-").replace(".", "-") + "-code"
        remedy = f'carry it: in the manifest models: {{{key}: {{source: "hf://{left[0]}", include: ["*.py"]}}}}, '
        remedy += f'in models.json "code": {{"{left[0]}": "/models/{key}"}} beside its name'
        yield Finding(trusted, where, f"takes its code from another repository, {', '.join(left)}", remedy)
    for name, folder in sorted(service.code.items()):
        yield from _carried(service, name, folder, needs, lock)


def _carried(service: Service, name: str, folder: str, needs: ModelNeeds, lock: Lock) -> Iterator[Finding]:
    """The repository ``name``, which the service says is the folder below models/."""
    where, key = f"{service.key}: code.{name}", folder.partition("/")[0]
    named = [item.partition("--")[2] for item in needs.code if item.startswith(f"{name}--")]
    carried = lock.models.get(key)
    if carried is None:
        remedy = f'add it to the manifest: models: {{{key}: {{source: "hf://{name}", include: ["*.py"]}}}}'
        yield Finding(True, where, f"'/models/{folder}' is not in the kit", remedy)
        return
    inside = f"{folder.partition('/')[2]}/".lstrip("/")
    files = [
        file.model_copy(update={"path": file.path[len(inside) :]}) for file in carried.files if file.path.startswith(inside)
    ]
    if not named:
        yield Finding(False, where, "is code that the model does not name", "take it out of models.json and the manifest")
        return
    if missing := _missing(named, files):
        what = f"{carried.source} has no {', '.join(missing)}, which the model names"
        yield Finding(True, where, what, "carry the revision that has it, or check 'include' and 'exclude'")
    source = Source.parse(carried.source, "model")
    if source.scheme != "dir" and source.rest != name:
        yield Finding(False, where, f"is {carried.source}", f"read that it is what {name} is, or carry hf://{name}")


def _missing(code: Sequence[str], files: Sequence[LockedFile]) -> list[str]:
    """The files of FILE.CLASS that are not among ``files``."""
    names = {file.path for file in files}
    return sorted({file for item in code if (file := f"{item.rpartition('.')[0]}.py") not in names})
